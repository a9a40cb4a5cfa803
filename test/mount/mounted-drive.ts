/** A volume of its own for one test file, mounted, with its state and everything else in a scratch directory. */
import type { Test } from 'tap';
import { scratchDirectory } from '../suite/scratch.js';
import { Drive } from './drive-process.js';

/** Both go when `t` ends. */
export async function mountedDrive(t: Test): Promise<{ readonly drive: Drive; readonly scratch: string }> {
  const scratch = await scratchDirectory(t);
  const drive = new Drive({ scratch, withKeyFile: true });
  t.teardown(() => drive.destroy());
  await drive.init();
  await drive.mount();
  return { drive, scratch };
}
