/**
 * What the tree knows of a pack (doc/format.md, "Tree keys"). Every commit that counts implies one entry for each of
 * its packs.
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 = 1 |
 * | birth | varint: the number of the newest commit that names the pack |
 * | size, epoch | varint each |
 * | index hash | 32: H(sealed index) |
 */
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import type { PackId } from '../pack/pack-id.js';
import { packEntryKey, type TreeKey } from './key.js';

export interface PackEntry {
  readonly birth: number;
  readonly size: number;
  readonly epoch: number;
  /** 32 bytes. */
  readonly indexHash: Uint8Array;
}

const version = 1;

export function encodePackEntry({ birth, size, epoch, indexHash }: PackEntry): Uint8Array {
  return new ByteWriter(56).u8(version).varint(birth).varint(size).varint(epoch).bytes(indexHash).finish();
}

/** Strict: throws MalformedBytesError. */
export function decodePackEntry(value: Uint8Array): PackEntry {
  const reader = new ByteReader(value);
  if (reader.u8() !== version) throw new MalformedBytesError('a pack entry of an unknown version');
  const entry = { birth: reader.varint(), size: reader.varint(), epoch: reader.varint(), indexHash: new Uint8Array(reader.bytes(32)) };
  reader.end();
  return entry;
}

interface NamedPack extends Omit<PackEntry, 'birth'> {
  readonly id: PackId;
}

/** The entries that commit `sequence` implies for its `packs`. */
export function impliedEntries(sequence: number, packs: readonly NamedPack[]): (readonly [TreeKey, Uint8Array])[] {
  return packs.map((pack) => [packEntryKey(pack.id), encodePackEntry({ ...pack, birth: sequence })]);
}
