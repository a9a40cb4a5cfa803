/**
 * The operations of a commit as the bytes that it holds of them, in groups of one author each (doc/format.md,
 * "Records").
 *
 * | field | encoding |
 * | --- | --- |
 * | operations | varint count, each: serial u53, length varint, the operation as in `operation-codec.ts` |
 */
import { ByteReader, ByteWriter, equalBytes } from '../base/bytes.js';
import type { Carried, LostGroup } from '../commit/lost-work.js';
import { readList } from '../commit/text-field.js';
import type { WorkGroup } from '../commit/work.js';
import { decodeOperation, encodeOperation } from '../operation/operation-codec.js';
import type { PendingOperation } from './pending-layers.js';

const isSameGroup = (a: Carried | undefined, b: Carried | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && a.deviceId === b.deviceId && equalBytes(a.source.hash, b.source.hash));

/** `ownIndex`: of this device. */
export function encodeWork(operations: readonly PendingOperation[], ownIndex: number): WorkGroup[] {
  const groups: PendingOperation[][] = [];
  for (const one of operations) {
    const group = groups.at(-1);
    if (group?.[0] && isSameGroup(group[0].carried, one.carried)) group.push(one);
    else groups.push([one]);
  }
  return groups.map((group) => {
    const [{ carried, serial: first } = { carried: undefined, serial: 0 }] = group;
    const last = group.at(-1)?.serial ?? first;
    return { deviceIndex: carried?.deviceIndex ?? ownIndex, source: carried?.source, first, last, bytes: encodeGroup(group) };
  });
}

function encodeGroup(operations: readonly PendingOperation[]): Uint8Array {
  const writer = new ByteWriter(64 + operations.length * 160).varint(operations.length);
  for (const { serial, operation } of operations) {
    const bytes = encodeOperation(operation);
    writer.u53(serial).varint(bytes.byteLength).bytes(bytes);
  }
  return writer.finish();
}

/** Strict; throws MalformedBytesError. Shares memory with the group. */
export function decodeWork({ carried, carriedUpTo, bytes }: LostGroup): PendingOperation[] {
  const reader = new ByteReader(bytes);
  const operations = readList(reader, 9, () => {
    const serial = reader.u53();
    const operation = decodeOperation(reader.bytes(reader.varint()));
    return { serial, operation, carried: serial > carriedUpTo ? undefined : carried };
  });
  reader.end();
  return operations;
}
