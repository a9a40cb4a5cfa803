/**
 * Measures how much the store grows after a small change in a large file, through the command line and the kernel, on
 * any store that reports its size: only changed bytes may be uploaded.
 *
 *   node dist/test/mount/small-change.js [--size MIB] [--scratch DIRECTORY]
 */
import { execFile } from 'node:child_process';
import { lstat, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { Drive } from './drive-process.js';

const run = promisify(execFile);
const mib = 1 << 20;

export interface SmallChange {
  /** Bytes of the changed file, and those that the store holds for it before. */
  readonly size: number;
  readonly stored: number;
  /** Bytes that one overwrite of 4 KiB added: in the middle of a chunk, and across two chunks. */
  readonly added: readonly number[];
}

async function bytesIn(directory: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) bytes += (await lstat(join(entry.parentPath, entry.name))).size;
  }
  return bytes;
}

/** It runs in another process, since a process that looks after the drive must not wait for it. */
async function shell(script: string, ...argument: string[]): Promise<string> {
  return (await run('sh', ['-ec', script, 'sh', ...argument])).stdout;
}

/**
 * Writes a file of `sizeMib`, overwrites 4 KiB at a time, and checks the content after a mount without local state.
 * Leaves the drive mounted. `stored` returns the size of the store in bytes; a store in a folder does not need it.
 */
export async function measureSmallChange(
  drive: Drive,
  sizeMib: number,
  stored: () => Promise<number> = () => bytesIn(drive.store),
): Promise<SmallChange> {
  const file = join(drive.directory, 'large');
  const size = sizeMib * mib;
  await shell('head -c "$2" /dev/urandom > "$1"', file, String(size));
  await drive.flush();
  const storedBefore = await stored();
  const added: number[] = [];
  for (const [index, offset] of [size / 2, 256 * 1024 * 3 - 2048].entries()) {
    const before = await stored();
    const script = 'head -c 4096 /dev/zero | tr "\\000" "$2" | dd of="$1" bs=4096 conv=notrunc oflag=seek_bytes seek="$3" status=none';
    await shell(script, file, 'ab'.charAt(index), String(offset));
    await drive.flush();
    added.push((await stored()) - before);
  }
  const digest = await shell('sha256sum < "$1"', file);
  await drive.unmount();
  await drive.forget();
  await drive.mount();
  if ((await shell('sha256sum < "$1"', file)) !== digest) throw new Error('the file reads differently after it was mounted again');
  const found = await shell('dd if="$1" bs=4096 count=1 iflag=skip_bytes skip="$2" status=none', file, String(size / 2));
  if (found !== 'a'.repeat(4096)) throw new Error('the overwritten place holds something else');
  return { size, stored: storedBefore, added };
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({ options: { size: { type: 'string', default: '1024' }, scratch: { type: 'string', default: tmpdir() } } });
  const scratch = await mkdtemp(join(values.scratch, 'small-change-'));
  const drive = new Drive({ scratch });
  try {
    await drive.init();
    await drive.mount();
    const { size, stored, added } = await measureSmallChange(drive, Number(values.size));
    process.stdout.write(`${size} bytes are stored as ${stored}; an overwrite of 4096 bytes added ${added.join(' and ')}\n`);
    process.exitCode = added.every((bytes) => bytes < 64 * 1024) ? 0 : 1;
  } finally {
    await drive.destroy();
    await rm(scratch, { recursive: true, force: true });
  }
}
