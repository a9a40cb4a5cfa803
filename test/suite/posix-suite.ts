/**
 * The behaviour that applications expect of a local directory, one aspect per test, through real system calls of other
 * processes. The suite runs on any directory: a plain one keeps it honest, and the mounted one is the subject
 * (doc/semantics.md). It is not a stress test (test/model) and does not cover crashes. The tests are in posix-*.ts
 * beside this file, by topic.
 */
import { execFile } from 'node:child_process';
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { Probe } from '../mount/posix-probe.js';
import { aclTests } from './posix-acl.js';
import { attributeTests } from './posix-attribute.js';
import { contentTests, mappingTests, orphanTests } from './posix-content.js';
import { directoryTests, listingTests } from './posix-directory.js';
import { errorTests } from './posix-error.js';
import { filesystemTests } from './posix-filesystem.js';
import { linkTests, nodeTests } from './posix-link.js';
import { lockTests } from './posix-lock.js';
import { nameTests } from './posix-name.js';
import { openTests } from './posix-open.js';
import { permissionTests, privilegeBitTests } from './posix-permission.js';
import { type Body, everything, type It, type Need, Place, type PosixCapabilities } from './posix-place.js';
import { renameTests } from './posix-rename.js';
import { spaceTests } from './posix-space.js';
import { timeTests } from './posix-time.js';
import { xattrTests } from './posix-xattr.js';

const run = promisify(execFile);

export interface PosixSuiteOptions {
  /** It is empty again after the tests. */
  readonly directory: string;
  /** Capabilities that are not given are required. */
  readonly capabilities?: Partial<PosixCapabilities>;
  /** Why a single test cannot pass there, if so. */
  readonly exception?: (name: string) => string | undefined;
}

/** Adds the tests to `t`. */
export function posixSuite(t: Test, options: PosixSuiteOptions): void {
  const capabilities = { ...everything, ...options.capabilities };
  let probe: Probe | undefined;
  let count = 0;
  const it: It = (name, ...rest) => {
    const needs = rest.slice(0, -1) as Need[];
    const body = rest.at(-1) as Body;
    const missing = needs.filter((need) => !capabilities[need]);
    const skip = missing.length > 0 ? `the directory lacks ${missing.join(', ')}` : (options.exception?.(name) ?? false);
    void t.test(name, { skip }, async (t) => {
      probe ??= await Probe.start();
      const path = join(options.directory, `posix-${(count++).toString().padStart(3, '0')}`);
      await mkdir(path);
      await chmod(path, 0o777);
      await probe.ok('chdir', path);
      const place = new Place(t, probe, path, capabilities);
      try {
        await body(t, place);
      } finally {
        await place.end();
      }
    });
  };
  t.teardown(async () => {
    await probe?.close();
    await run('sh', ['-c', 'rm -rf -- "$0"/posix-*', options.directory]);
  });
  openTests(it);
  errorTests(it);
  directoryTests(it);
  listingTests(it);
  renameTests(it);
  linkTests(it);
  nodeTests(it);
  attributeTests(it);
  timeTests(it);
  permissionTests(it);
  privilegeBitTests(it);
  contentTests(it);
  spaceTests(it);
  mappingTests(it);
  orphanTests(it);
  lockTests(it);
  xattrTests(it);
  aclTests(it);
  nameTests(it);
  filesystemTests(it);
}
