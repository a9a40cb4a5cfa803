/**
 * Mounts a fresh volume on a store in memory at its argument, with all parts of a real mount except the command line.
 * It is a process of its own, since a process that serves a mount must not spawn or wait for anything that uses it. It
 * prints `ready`, and unmounts at the end of its standard input. Warnings go to standard error.
 */
import { systemClock } from '../../src/base/clock.js';
import { createLogger } from '../../src/base/logger.js';
import { createErrnoOf } from '../../src/daemon/errno.js';
import { FuseFilesystem } from '../../src/daemon/fuse-filesystem.js';
import { KernelCache } from '../../src/daemon/kernel-cache.js';
import { kernelClock } from '../../src/fuse/kernel-clock.js';
import { loadNative } from '../../src/fuse/native.js';
import { nativeDriver } from '../../src/fuse/native-driver.js';
import { Filesystem } from '../../src/vfs/filesystem.js';
import { createTestRealm, openTestVolume } from '../suite/test-volume.js';

const [mountPoint, stateDirectory] = process.argv.slice(2) as [string, string];
const logger = createLogger((line) => process.stderr.write(line), 'warn');
const owner = { fail: (message: string) => process.stderr.write(`${message}\n`), teardown: () => {} };
const volume = await openTestVolume(owner, await createTestRealm(), { stateDirectory, clock: kernelClock(systemClock, loadNative()) });
const mount = volume.frontEnd();
const filesystem = new Filesystem(mount);
await filesystem.start();
const cache = new KernelCache(filesystem);
const root = process.getuid?.() === 0;
const mounted = await nativeDriver(new FuseFilesystem(filesystem, cache), createErrnoOf(logger), {
  mountPoint,
  source: 'sealdrive-test',
  subtype: 'sealdrive',
  readOnly: false,
  allowOther: root,
  defaultPermissions: true,
  writebackCache: true,
});
cache.attach(mounted.notifier);
mount.onChange(cache);
process.stdin.resume().once('end', () => void mounted.unmount({ force: true }));
process.stdout.write('ready\n');
await mounted.ended;
await volume.flush();
const { files } = volume.statistics();
await volume.close();
process.stdout.write(`ended with ${files} files\n`);
