/**
 * A folder whose files are in memory and whose writes are recorded: it stands for a disk when a file in it is the image
 * of a loop device. Each write and each flush is appended to a record as it is answered, so the disk can be rebuilt as
 * it was at any moment (power-cuts.ts). It runs in a process of its own, since the kernel writes to it at any time.
 *
 *   node dist/test/crash/recording-disk.js FOLDER RECORD
 *
 * | bytes | entry of the record (little endian) |
 * | --- | --- |
 * | 8 | where in the file a write begins; all bits set: a flush |
 * | 4 | its length; 0 for a flush |
 * | n | what was written |
 */
import { openSync, readFileSync, writeSync } from 'node:fs';
import { nativeDriver } from '../../src/fuse/native-driver.js';
import type { NodeId, RequestContext } from '../../src/fuse/operations.js';
import { MemoryFilesystem, memoryErrnoOf } from '../fuse/memory-filesystem.js';

const headerSize = 12;
const flushMark = 0xffff_ffff_ffff_ffffn;

export interface RecordedWrite {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/**
 * The writes that reached the disk, in order; `undefined` is a flush. `ends` holds the end of each entry in the record.
 */
export interface DiskRecord {
  readonly entries: readonly (RecordedWrite | undefined)[];
  readonly ends: readonly number[];
}

export function readRecord(path: string): DiskRecord {
  const record = readFileSync(path);
  const entries: (RecordedWrite | undefined)[] = [];
  const ends: number[] = [];
  for (let at = 0; at + headerSize <= record.byteLength; ) {
    const offset = record.readBigUInt64LE(at);
    const length = record.readUInt32LE(at + 8);
    at += headerSize;
    entries.push(offset === flushMark ? undefined : { offset: Number(offset), bytes: record.subarray(at, at + length) });
    at += length;
    ends.push(at);
  }
  return { entries, ends };
}

class RecordingFilesystem extends MemoryFilesystem {
  readonly #record: number;

  constructor(path: string) {
    super({ withOpen: true });
    this.#record = openSync(path, 'wx', 0o600);
  }

  #append(offset: bigint, bytes: Uint8Array): void {
    const header = Buffer.alloc(headerSize);
    header.writeBigUInt64LE(offset);
    header.writeUInt32LE(bytes.byteLength, 8);
    const entry = Buffer.concat([header, bytes]);
    if (writeSync(this.#record, entry) !== entry.byteLength) throw new Error('the record is cut short');
  }

  override write(context: RequestContext, nodeId: NodeId, offset: number, data: Uint8Array, killSuidgid: boolean): void {
    super.write(context, nodeId, offset, data, killSuidgid);
    this.#append(BigInt(offset), data);
  }

  override fsync(): void {
    super.fsync();
    this.#append(flushMark, new Uint8Array(0));
  }
}

if (process.argv[1] === import.meta.filename) {
  const [, , mountPoint = '', record = ''] = process.argv;
  const mounted = await nativeDriver(new RecordingFilesystem(record), memoryErrnoOf, {
    mountPoint,
    source: 'recording-disk',
    subtype: 'sealdrive',
    readOnly: false,
    allowOther: false,
    defaultPermissions: true,
    writebackCache: false,
  });
  process.on('SIGTERM', () => void mounted.unmount());
  process.stdout.write('ready\n');
  await mounted.ended;
}
