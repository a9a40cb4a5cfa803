/**
 * The entries that the volume writes into its journal, as bytes (doc/format.md, "Journal segment"). The journal itself
 * does not look into them; `replay.ts` acts on them. Numbers are u53 unless said otherwise; `x?` is u8 0, or 1 and x.
 *
 * | type | fields |
 * | --- | --- |
 * | 1 operation | serial, then the operation as in `operation-codec.ts` |
 * | 2 dirty data | ino, version, offset, mtime? (seconds i53, nanoseconds u32), bytes to the end |
 * | 3 base | sequence, hash 32, covers, root? (56), committed serial, device, ino counter, counter, reset, packs, |
 * | | landed |
 * | 4 forget | serial of an operation that was never synced and whose content was lost to a power failure |
 * | 5 moved | the result of an operation in a rebase: u8 0/1 whether it is the first of its rebase, then as 1 |
 * | 6 moved | the same of a carried operation: u8 0/1, device id 16, device u32, sequence, hash 32, device id 16, |
 * | | then as 1 |
 *
 * *Reset* is a u8: 0 none, 1 rebase, 2 renewal. *Landed* is absent or: varint count, each device varint, serial: the
 * operations of other devices up to there are in that commit or an earlier one.
 *
 * A base entry says which commit the pending operations are based on and how to load that state (`root` is the
 * checkpoint's). Operations up to the committed serial are in that commit or an earlier one. After a rebase,
 * no operation before the entry counts. What counts instead are the moved entries before it, from the newest first one
 * on, and the operations after it (doc/concurrency.md, "Replay"). Moved entries without a base entry after them do not
 * count: a crash ended that rebase. After a rebase onto a new identity of this installation (`renewal`), no dirty data
 * before the entry counts either. The packs, as in a commit, are in the store, and no commit of the log names them. A
 * forget entry removes its operation and everything after it.
 */
import { ByteReader, ByteWriter, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import type { CommitPack } from '../commit/commit.js';
import { readPacks, writePacks } from '../commit/commit-codec.js';
import type { DeviceId } from '../commit/enrolment.js';
import type { Carried } from '../commit/lost-work.js';
import type { Sequence } from '../commit/sequence.js';
import { readList } from '../commit/text-field.js';
import type { Ino } from '../meta/key.js';
import type { Operation } from '../operation/operation.js';
import { decodeOperation, encodeOperation } from '../operation/operation-codec.js';
import { type PageReference, readPageReference, writePageReference } from '../pack/page-reference.js';
import type { PendingOperation } from './pending-layers.js';

export interface OperationEntry {
  readonly type: 'operation';
  /** Counts this device's operations from 1. */
  readonly serial: number;
  readonly operation: Operation;
}

export interface MovedEntry {
  readonly type: 'moved';
  /** Entries of an earlier rebase no longer count. */
  readonly isFirst: boolean;
  readonly serial: number;
  readonly operation: Operation;
  readonly carried: Carried | undefined;
}

export interface DirtyEntry {
  readonly type: 'dirty';
  readonly ino: Ino;
  readonly version: number;
  readonly offset: number;
  readonly mtime: Timespec | undefined;
  readonly bytes: Uint8Array;
}

/** What a base entry takes back of what the journal holds before it. */
export type BaseReset = 'none' | 'rebase' | 'renewal';
const resets: readonly BaseReset[] = ['none', 'rebase', 'renewal'];

export interface BaseEntry {
  readonly type: 'base';
  readonly sequence: number;
  readonly hash: Uint8Array;
  /** The tree at `root` holds all commits up to this one. */
  readonly covers: number;
  readonly root: PageReference | undefined;
  /** This device's operations up to here are in commits up to `sequence`. */
  readonly committedSerial: number;
  /** The numbers and stamps that were given out, up to the counters, are of this device. */
  readonly deviceIndex: number;
  readonly nextInoCounter: number;
  /** Serials and stamps up to this one have been given out. */
  readonly counter: number;
  readonly reset: BaseReset;
  /** Packs that the next commit must name although they are not staged here. */
  readonly packs: readonly CommitPack[];
  /** The same of other devices, by their index, as far as work of theirs may be pending here. */
  readonly landed: ReadonlyMap<number, number>;
}

export interface ForgetEntry {
  readonly type: 'forget';
  readonly serial: number;
}

export type JournalEntry = OperationEntry | MovedEntry | DirtyEntry | BaseEntry | ForgetEntry;

export function encodeOperationEntry(serial: number, operation: Operation): Uint8Array {
  return new ByteWriter(160).u8(1).u53(serial).bytes(encodeOperation(operation)).finish();
}

export function encodeMovedEntry({ serial, operation, carried }: PendingOperation, isFirst: boolean): Uint8Array {
  const writer = new ByteWriter(240).u8(carried ? 6 : 5).u8(isFirst ? 1 : 0);
  if (carried) {
    const { deviceId, deviceIndex, source, by } = carried;
    writer.bytes(fromHex(deviceId)).u32(deviceIndex).u53(source.sequence).bytes(source.hash).bytes(fromHex(by));
  }
  return writer.u53(serial).bytes(encodeOperation(operation)).finish();
}

function readMoved(reader: ByteReader, isCarried: boolean): MovedEntry {
  const isFirst = readFlag(reader);
  const carried = isCarried
    ? {
        deviceId: toHex(reader.bytes(16)) as DeviceId,
        deviceIndex: reader.u32(),
        source: { sequence: reader.u53() as Sequence, hash: new Uint8Array(reader.bytes(32)) },
        by: toHex(reader.bytes(16)) as DeviceId,
      }
    : undefined;
  return { type: 'moved', isFirst, carried, serial: reader.u53(), operation: decodeOperation(reader.bytes(reader.remaining)) };
}

/** In two parts, so that content is not copied. */
export function encodeDirtyEntry(entry: Omit<DirtyEntry, 'type'>): readonly Uint8Array[] {
  const head = new ByteWriter(48).u8(2).u53(entry.ino).u53(entry.version).u53(entry.offset);
  if (entry.mtime) head.u8(1).i53(entry.mtime.sec).u32(entry.mtime.nsec);
  else head.u8(0);
  return [head.finish(), entry.bytes];
}

export function encodeBaseEntry(entry: Omit<BaseEntry, 'type'>): Uint8Array {
  const writer = new ByteWriter(128).u8(3).u53(entry.sequence).bytes(entry.hash).u53(entry.covers);
  if (entry.root) writePageReference(writer.u8(1), entry.root);
  else writer.u8(0);
  writer.u53(entry.committedSerial).u53(entry.deviceIndex).u53(entry.nextInoCounter).u53(entry.counter).u8(resets.indexOf(entry.reset));
  writePacks(writer, entry.packs);
  if (entry.landed.size > 0) writer.varint(entry.landed.size);
  for (const [device, serial] of entry.landed) writer.varint(device).u53(serial);
  return writer.finish();
}

export function encodeForgetEntry(serial: number): Uint8Array {
  return new ByteWriter(16).u8(4).u53(serial).finish();
}

/** Strict; throws MalformedBytesError. Shares memory with `bytes`. */
export function decodeJournalEntry(bytes: Uint8Array): JournalEntry {
  const reader = new ByteReader(bytes);
  const type = reader.u8();
  switch (type) {
    case 1:
      return { type: 'operation', serial: reader.u53(), operation: decodeOperation(reader.bytes(reader.remaining)) };
    case 2: {
      const ino = reader.u53() as Ino;
      const version = reader.u53();
      const offset = reader.u53();
      const mtime = readFlag(reader) ? { sec: reader.i53(), nsec: reader.u32() } : undefined;
      return { type: 'dirty', ino, version, offset, mtime, bytes: reader.bytes(reader.remaining) };
    }
    case 3: {
      const sequence = reader.u53();
      const hash = new Uint8Array(reader.bytes(32));
      const covers = reader.u53();
      const root = readFlag(reader) ? readPageReference(reader) : undefined;
      const committedSerial = reader.u53();
      const deviceIndex = reader.u53();
      const nextInoCounter = reader.u53();
      const counter = reader.u53();
      const reset = resets[reader.u8()];
      const packs = readPacks(reader);
      const landed = new Map(reader.remaining > 0 ? readList(reader, 9, () => [reader.varint(), reader.u53()] as const) : []);
      reader.end();
      if (reset === undefined) throw new MalformedBytesError('a base of an unknown kind');
      return { type: 'base', sequence, hash, covers, root, committedSerial, deviceIndex, nextInoCounter, counter, reset, packs, landed };
    }
    case 4: {
      const serial = reader.u53();
      reader.end();
      return { type: 'forget', serial };
    }
    case 5:
    case 6:
      return readMoved(reader, type === 6);
    default:
      throw new MalformedBytesError('journal entry of an unknown type');
  }
}

function readFlag(reader: ByteReader): boolean {
  const flag = reader.u8();
  if (flag > 1) throw new MalformedBytesError('a flag is 0 or 1');
  return flag === 1;
}
