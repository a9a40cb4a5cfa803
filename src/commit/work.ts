/**
 * The operations that a commit brings, beside the mutations that they made (doc/format.md, "Records"): whoever has seen
 * the commit can do them again on top of another history. What the bytes of an operation mean is up to the volume.
 *
 * | field | encoding |
 * | --- | --- |
 * | groups | varint count, each as below |
 * | device index | varint: the device that has acknowledged the operations |
 * | source | u8 0: this commit; 1: sequence u53, hash 32 of the commit in which that device had put them |
 * | first, last | u53 each: the serials of the first and the last operation |
 * | operations | varint length, bytes (`work-codec.ts` of the volume) |
 */
import { type ByteReader, type ByteWriter, MalformedBytesError } from '../base/bytes.js';
import type { Sequence } from './sequence.js';
import { readList } from './text-field.js';

/** The commit in which the author of operations had put them. */
export interface WorkSource {
  readonly sequence: Sequence;
  readonly hash: Uint8Array;
}

/** Operations of one device, in their order. */
export interface WorkGroup {
  readonly deviceIndex: number;
  /** `undefined`: this commit. */
  readonly source: WorkSource | undefined;
  readonly first: number;
  readonly last: number;
  readonly bytes: Uint8Array;
}

export function writeWork(writer: ByteWriter, groups: readonly WorkGroup[]): void {
  writer.varint(groups.length);
  for (const { deviceIndex, source, first, last, bytes } of groups) {
    writer.varint(deviceIndex);
    if (source) writer.u8(1).u53(source.sequence).bytes(source.hash);
    else writer.u8(0);
    writer.u53(first).u53(last).varint(bytes.byteLength).bytes(bytes);
  }
}

/** Strict, and shares no memory with the input. Throws MalformedBytesError. */
export function readWork(reader: ByteReader): WorkGroup[] {
  return readList(reader, 19, () => {
    const deviceIndex = reader.varint();
    const flag = reader.u8();
    if (flag > 1) throw new MalformedBytesError('a flag out of range');
    const source = flag === 1 ? { sequence: reader.u53() as Sequence, hash: new Uint8Array(reader.bytes(32)) } : undefined;
    const [first, last] = [reader.u53(), reader.u53()];
    if (first > last) throw new MalformedBytesError('serials out of order');
    return { deviceIndex, source, first, last, bytes: new Uint8Array(reader.bytes(reader.varint())) };
  });
}
