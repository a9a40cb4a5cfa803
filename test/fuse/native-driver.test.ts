/**
 * Our own driver on the real kernel: the shared suite in each way of mounting, and the promises of this driver alone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { nativeCapabilities } from '../../src/fuse/driver-capabilities.js';
import { findMount } from '../../src/fuse/mount-table.js';
import { makeNativeDriver, nativeDriver } from '../../src/fuse/native-driver.js';
import { driverSuite, mountWith, whyNoFuse } from '../suite/driver-suite.js';
import { MemoryFilesystem, memoryErrnoOf } from './memory-filesystem.js';

const skip = whyNoFuse();

void t.test('without handles', { skip }, async (t) => driverSuite(t, nativeDriver, nativeCapabilities));
void t.test('with handles', { skip }, async (t) => driverSuite(t, nativeDriver, nativeCapabilities, { filesystem: { withOpen: true } }));
void t.test('with writeback cache', { skip }, async (t) => driverSuite(t, nativeDriver, nativeCapabilities, { options: { writebackCache: true } }));
void t.test('through fusermount3', { skip }, async (t) => driverSuite(t, makeNativeDriver({ viaHelper: true }), nativeCapabilities));

async function startDaemon(t: Test, path: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'memory-daemon.js'), path], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  t.equal(line.toString(), 'ready\n');
  return child;
}

void t.test('a new daemon takes over the mount point of a killed one', { skip }, async (t) => {
  const path = await fs.mkdtemp(join(tmpdir(), 'sealdrive-driver-'));
  const child = await startDaemon(t, path);
  await fs.writeFile(join(path, 'x'), 'lost with its daemon');
  child.kill('SIGKILL');
  await once(child, 'exit');
  await t.rejects(fs.readdir(path), { code: 'ENOTCONN' });
  const mounted = await nativeDriver(new MemoryFilesystem(), memoryErrnoOf, {
    mountPoint: path,
    source: 'memory',
    subtype: 'sealdrive',
    readOnly: false,
    allowOther: false,
    defaultPermissions: true,
    writebackCache: false,
  });
  t.same(await fs.readdir(path), []);
  await mounted.unmount();
  await mounted.ended;
  t.equal(await findMount(path), undefined, 'nothing is left below');
  await fs.rmdir(path);
});

void t.test('a daemon unmounts and ends by itself when told to', { skip }, async (t) => {
  const path = await fs.mkdtemp(join(tmpdir(), 'sealdrive-driver-'));
  const child = await startDaemon(t, path);
  child.kill('SIGTERM');
  const [code] = (await once(child, 'exit')) as [number];
  t.equal(code, 0);
  t.equal(await findMount(path), undefined);
  await fs.rmdir(path);
});

void t.test('the trace has a line for each request and each reply, and no names', { skip }, async (t) => {
  const lines: string[] = [];
  const { path } = await mountWith(nativeDriver)(t, { options: { trace: (line) => lines.push(line) } });
  await fs.writeFile(join(path, 'secret-name'), 'secret-content');
  t.ok(lines.some((line) => /^> \d+ MKNOD node 1 \(\d+ bytes\)$/.test(line)));
  t.ok(lines.some((line) => /^< \d+ CREATE errno 38$/.test(line)));
  t.notOk(lines.some((line) => line.includes('secret')));
});
