/**
 * The place of a sealed tree page and the hash of its bytes (doc/format.md, "Tree page"). The hash makes the tree a
 * Merkle tree: nobody, not even a device of the volume, can put another page in its place.
 *
 * | field | encoding |
 * | --- | --- |
 * | pack | 16 |
 * | offset | u32 |
 * | length | u32, sealed |
 * | hash | 32: H(sealed bytes) |
 */
import { ByteReader, ByteWriter, equalBytes, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import type { PackId } from './pack-id.js';

export interface PageReference {
  readonly pack: PackId;
  readonly offset: number;
  /** Bytes of the sealed page. */
  readonly length: number;
  readonly hash: Uint8Array;
}

export const pageReferenceLength = 56;

export const samePage = (a: PageReference, b: PageReference): boolean => a.pack === b.pack && a.offset === b.offset && equalBytes(a.hash, b.hash);

export function encodePageReference(reference: PageReference): Uint8Array {
  return writePageReference(new ByteWriter(pageReferenceLength), reference).finish();
}

export function writePageReference(writer: ByteWriter, reference: PageReference): ByteWriter {
  return writer.bytes(fromHex(reference.pack)).u32(reference.offset).u32(reference.length).bytes(reference.hash);
}

/** Reads 56 bytes; the caller owns the hash. Throws MalformedBytesError. */
export function readPageReference(reader: ByteReader): PageReference {
  const pack = toHex(reader.bytes(16)) as PackId;
  const offset = reader.u32();
  const length = reader.u32();
  return { pack, offset, length, hash: new Uint8Array(reader.bytes(32)) };
}

/** Strict: exactly 56 bytes. Throws MalformedBytesError. */
export function decodePageReference(bytes: Uint8Array): PageReference {
  if (bytes.byteLength !== pageReferenceLength) throw new MalformedBytesError('page reference has a wrong length');
  return readPageReference(new ByteReader(bytes));
}
