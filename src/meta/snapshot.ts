/**
 * Snapshots, and the policy by which they are taken, as the volume's key space holds them (doc/format.md, "Snapshot").
 * What takes and drops them is in `volume/snapshots.ts`.
 *
 * | snapshot | encoding |
 * | --- | --- |
 * | version | u8 = 1 |
 * | kind | u8: 0 manual, 1 hourly, 2 daily, 3 weekly, 4 monthly |
 * | held | u8: 0 or 1 |
 * | time | i53, ms since 1970 |
 * | sequence | varint: it shows the state after this commit |
 * | checkpoint | varint, the number of the commit that holds the tree of that state; H of that commit 32 |
 * | root | page reference?: none of an empty tree |
 * | files, bytes | varint each: the totals |
 * | label | length varint, at most 255 bytes of UTF-8 |
 *
 * | policy | encoding |
 * | --- | --- |
 * | version | u8 = 1 |
 * | hourly, daily, weekly, monthly | varint each: for so many seconds they are kept; 0: none is taken |
 */
import type { ByteString } from '../base/brand.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import { type PageReference, readPageReference, writePageReference } from '../pack/page-reference.js';
import { policyKey } from './key.js';

export const snapshotKinds = ['manual', 'hourly', 'daily', 'weekly', 'monthly'] as const;
export type SnapshotKind = (typeof snapshotKinds)[number];
export type AutomaticKind = Exclude<SnapshotKind, 'manual'>;

export interface Snapshot {
  readonly kind: SnapshotKind;
  /** It is not removed before it is released. */
  readonly isHeld: boolean;
  /** When it was taken, by the clock of the device that took it, in ms since 1970. */
  readonly timeMs: number;
  /** It shows the state after this commit. */
  readonly sequence: number;
  /** The commit whose checkpoint is the tree of that state. */
  readonly checkpoint: { readonly sequence: number; readonly hash: Uint8Array };
  /** Undefined: the tree is empty. */
  readonly root: PageReference | undefined;
  readonly files: number;
  readonly bytes: number;
  readonly label: string;
}

/** For so many seconds a snapshot is kept; 0: none of this kind is taken. */
export type SnapshotPolicy = Readonly<Record<AutomaticKind, number>>;

const daySec = 86_400;
/** Where the volume says nothing else. */
export const usualPolicy: SnapshotPolicy = { hourly: 2 * daySec, daily: 14 * daySec, weekly: 56 * daySec, monthly: 365 * daySec };
export const snapshotPolicyKey = policyKey('snapshots');

const version = 1;
/** Bytes of a label in a snapshot that is read. */
const labelMax = 255;

export function encodeSnapshot(snapshot: Snapshot): Uint8Array {
  const { kind, isHeld, timeMs, sequence, checkpoint, root, files, bytes, label } = snapshot;
  const writer = new ByteWriter(192)
    .u8(version)
    .u8(snapshotKinds.indexOf(kind))
    .u8(isHeld ? 1 : 0)
    .i53(timeMs)
    .varint(sequence);
  writer
    .varint(checkpoint.sequence)
    .bytes(checkpoint.hash)
    .u8(root ? 1 : 0);
  if (root) writePageReference(writer, root);
  const text = Buffer.from(label);
  return writer.varint(files).varint(bytes).varint(text.byteLength).bytes(text).finish();
}

/** Strict: throws MalformedBytesError. */
export function decodeSnapshot(value: Uint8Array): Snapshot {
  const reader = new ByteReader(value);
  if (reader.u8() !== version) throw new MalformedBytesError('a snapshot of an unknown version');
  const kind = snapshotKinds[reader.u8()];
  if (kind === undefined) throw new MalformedBytesError('a snapshot of an unknown kind');
  const snapshot = {
    kind,
    isHeld: readFlag(reader),
    timeMs: reader.i53(),
    sequence: reader.varint(),
    checkpoint: { sequence: reader.varint(), hash: new Uint8Array(reader.bytes(32)) },
    root: readFlag(reader) ? readPageReference(reader) : undefined,
    files: reader.varint(),
    bytes: reader.varint(),
    label: readLabel(reader),
  };
  reader.end();
  return snapshot;
}

function readFlag(reader: ByteReader): boolean {
  const flag = reader.u8();
  if (flag > 1) throw new MalformedBytesError('a flag is neither 0 nor 1');
  return flag === 1;
}

function readLabel(reader: ByteReader): string {
  const length = reader.varint();
  if (length > labelMax) throw new MalformedBytesError('a label is too long');
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(reader.bytes(length));
  } catch (error) {
    if (error instanceof TypeError) throw new MalformedBytesError('a label is no UTF-8 text');
    throw error;
  }
}

export function encodePolicy({ hourly, daily, weekly, monthly }: SnapshotPolicy): Uint8Array {
  return new ByteWriter(24).u8(version).varint(hourly).varint(daily).varint(weekly).varint(monthly).finish();
}

/** Strict: throws MalformedBytesError. */
export function decodePolicy(value: Uint8Array): SnapshotPolicy {
  const reader = new ByteReader(value);
  if (reader.u8() !== version) throw new MalformedBytesError('a policy of an unknown version');
  const policy = { hourly: reader.varint(), daily: reader.varint(), weekly: reader.varint(), monthly: reader.varint() };
  reader.end();
  return policy;
}

/** `2026-08-22T10.00.00Z`, which sorts, and which every file system takes; a label follows behind a hyphen. */
export function snapshotName(timeMs: number, label: string): ByteString {
  const time = new Date(Math.floor(timeMs / 1000) * 1000).toISOString().replace('.000', '').replaceAll(':', '.');
  return Buffer.from(label === '' ? time : `${time}-${label}`).toString('latin1');
}
