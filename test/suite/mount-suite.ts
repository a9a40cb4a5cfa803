/**
 * The tests that the drive must pass on every kind of store, through the command line and the kernel: POSIX, a small
 * change that stays small, a new device that finds everything, two devices, and crashes of the daemon. Behaviour that
 * does not involve the store is tested once, elsewhere.
 */
import { execFile } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { RandomTree } from '../model/random-tree.js';
import { compareTrees } from '../mount/compare-trees.js';
import { crashLoop } from '../mount/crash-loop.js';
import { Drive } from '../mount/drive-process.js';
import { measureSmallChange } from '../mount/small-change.js';
import { bytesStored, type StoreServer } from '../support/store-server.js';
import { linuxSuite } from './linux-suite.js';
import { posixSuite } from './posix-suite.js';
import { twoDevicesSuite } from './two-devices-suite.js';

const run = promisify(execFile);

export interface MountSuiteOptions {
  readonly server: StoreServer;
  /** An empty folder on this machine's own disk; the caller removes it. */
  readonly scratch: string;
  readonly seed: number;
  /** How often the daemon is killed. */
  readonly crashes: number;
}

export function mountSuite(t: Test, { server, scratch, seed, crashes }: MountSuiteOptions): void {
  const root = process.getuid?.() === 0;
  const { environment } = server;

  /** A new mounted drive, removed after the test, which fails when the daemon logged a warning. */
  const mounted = async (test: Test, name: string, mountOptions: readonly string[] = []): Promise<Drive> => {
    const drive = new Drive({ scratch: join(scratch, name), store: await server.location(name), environment, mountOptions, withKeyFile: true });
    test.teardown(() => drive.destroy());
    await drive.init();
    await drive.mount();
    return drive;
  };

  void t.test('POSIX', async (t) => {
    const drive = await mounted(t, 'posix', root ? ['--allow-other'] : []);
    const { directory } = drive;
    await t.test('the POSIX suite passes', (t) => {
      posixSuite(t, { directory, capabilities: { otherUsers: root, deviceNodes: root, trustedXattrs: root, sizeLimitOnWrite: false } });
      t.end();
    });
    await t.test('what Linux adds', (t) => {
      linuxSuite(t, { directory, capabilities: { root, immutableOnOpen: false } });
      t.end();
    });
    await drive.unmount();
    t.same(await drive.warnings(), [], 'the daemon logged no warning');
    await drive.check();
  });

  void t.test('an overwrite of 4 KiB in a large file adds less than 64 KiB to the store', async (t) => {
    const drive = await mounted(t, 'small');
    const { added } = await measureSmallChange(drive, 24, () => bytesStored(server, drive.store));
    for (const bytes of added) t.ok(bytes > 0 && bytes < 64 * 1024, `${bytes} bytes were added`);
    await drive.unmount();
    t.same(await drive.warnings(), [], 'the daemon logged no warning');
  });

  void t.test(`a new device finds everything after an unmount elsewhere (TEST_SEED=${seed})`, async (t) => {
    const drive = await mounted(t, 'fresh');
    const plain = join(scratch, 'plain');
    await mkdir(plain);
    const tree = new RandomTree({ directory: plain, seed });
    await tree.run({ ops: 400 });
    await tree.close();
    await run('cp', ['-a', plain, join(drive.directory, 'copy')], { cwd: '/' });
    await drive.unmount();
    t.same(await drive.warnings(), [], 'the daemon logged no warning');
    await drive.forget();
    await drive.mount();
    const { entries, differences } = await compareTrees(plain, join(drive.directory, 'copy'));
    t.same(differences, []);
    t.ok(entries > 10, `${entries} entries`);
    await drive.unmount();
  });

  void t.test('two devices', async (t) => {
    await twoDevicesSuite(t, { scratch: join(scratch, 'two'), store: await server.location('two'), environment });
  });

  void t.test(`acknowledged work survives kill -9 of the daemon, and is in the store after an unmount (TEST_SEED=${seed})`, async (t) => {
    const drive = new Drive({ scratch: join(scratch, 'crash'), store: await server.location('crash'), environment, withKeyFile: true });
    t.teardown(() => drive.destroy());
    await drive.init();
    const count = await crashLoop({ drive, rounds: crashes, seed, roundMs: 2000, orderlyEvery: crashes, report: (line) => t.comment(line) });
    t.ok(count > 0, `${count} operations`);
    await drive.check();
  });
}
