/**
 * Short text files that this machine keeps beside the registry of mounts: which volume a store held, what the store can
 * do, which keyslots were used and removed. They hold no secrets. Their meaning is defined in store-pin.ts,
 * store-probe.ts and slot-memory.ts (doc/security.md, "Places").
 */
import { dirname } from 'node:path';
import { printable } from '../base/printable.js';
import { systemRandom } from '../crypto/system-random.js';
import { diskErrorCode } from '../disk/disk.js';
import { open } from '../disk/file-promises.js';
import { systemDisk } from '../disk/system-disk.js';
import { ensureDirectoryPath, readWholeFile, replaceSharedFile } from '../disk/whole-file.js';
import { Failure } from '../terminal/exit-code.js';

/** `undefined` when there is none. Throws Failure `LOCAL_DISK`. */
export async function readNote(path: string): Promise<string | undefined> {
  try {
    const bytes = await readWholeFile(systemDisk, path);
    return bytes && Buffer.from(bytes).toString('utf8');
  } catch (error) {
    throw new Failure('LOCAL_DISK', `${printable(path)} cannot be read`, { cause: error });
  }
}

/** Other processes may do the same at the same time: one of them is the last. Throws Failure `LOCAL_DISK`. */
export async function writeNote(path: string, text: string): Promise<void> {
  await change(path, () => replaceSharedFile(systemDisk, path, Buffer.from(text, 'utf8'), systemRandom));
}

/** Adds a line; other processes may do the same at the same time. Throws Failure `LOCAL_DISK`. */
export async function appendNote(path: string, line: string): Promise<void> {
  await change(path, async () => {
    const file = await open(path, 'a', 0o600);
    try {
      await file.writeFile(`${line}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
  });
}

/** Throws Failure `LOCAL_DISK`. */
export async function removeNote(path: string): Promise<void> {
  await change(path, async () => {
    try {
      await systemDisk.unlink(path);
    } catch (error) {
      if (diskErrorCode(error) !== 'ENOENT') throw error;
    }
  });
}

async function change(path: string, make: () => Promise<void>): Promise<void> {
  try {
    await ensureDirectoryPath(systemDisk, dirname(path));
    await make();
  } catch (error) {
    throw new Failure('LOCAL_DISK', `${printable(path)} cannot be written`, { cause: error });
  }
}
