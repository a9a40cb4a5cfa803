/**
 * Mounts the in-memory filesystem at its argument and serves until it is killed or unmounted. Prints `ready` when
 * mounted.
 */
import { nativeDriver } from '../../src/fuse/native-driver.js';
import { MemoryFilesystem, memoryErrnoOf } from './memory-filesystem.js';

const mounted = await nativeDriver(new MemoryFilesystem(), memoryErrnoOf, {
  mountPoint: process.argv[2]!,
  source: 'memory',
  subtype: 'sealdrive',
  readOnly: false,
  allowOther: false,
  defaultPermissions: true,
  writebackCache: false,
});
process.on('SIGTERM', () => void mounted.unmount());
process.stdout.write('ready\n');
await mounted.ended;
process.stdout.write('ended\n');
