/**
 * The index of a pack, at its end (doc/format.md, "Pack"). Only check, salvage and resuming after a crash read it;
 * ordinary reads know their places from the tree.
 *
 * Index payload: count varint, the items, then zeros, so that the whole pack has a PADME size. An item:
 *
 * | field | encoding |
 * | --- | --- |
 * | kind | u8: 0 gap, 1 chunk, 2 page |
 * | sealed length | varint |
 * | chunk: codec | u8 |
 * | chunk: plain length, stored length | varint each |
 * | chunk: salt | 16 |
 * | chunk and page: hash | 32 |
 * | chunk: owner | inode varint, offset in the file varint |
 *
 * Footer payload: version u32 = 2, index offset u32, index sealed length u32, item count u32, 8 zeros.
 */
import type { Plaintext, Sealed } from '../base/brand.js';
import { ByteReader, ByteWriter, equalBytes, MalformedBytesError } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes, hashLength } from '../crypto/hash.js';
import { padmeLength } from '../crypto/padme.js';
import { bareOverhead } from '../crypto/seal-format.js';
import { chunkSaltLength, sealedChunkLength } from '../crypto/stream-format.js';
import type { PackKeys, StoredChunk } from './item.js';
import { codecs, isChunkLength, itemPlace } from './item.js';
import { PackError } from './pack-error.js';
import type { PackId } from './pack-id.js';

interface ItemSpan {
  readonly offset: number;
  readonly sealedLength: number;
}

/** Bytes that nothing refers to, whose bounds were lost in a crash. */
interface GapItem extends ItemSpan {
  readonly kind: 'gap';
}

/** For whom a chunk was sealed: a hint for people and for collecting garbage, never a reason to delete. */
export interface ChunkOwner {
  /** An inode's number. */
  readonly ino: number;
  /** Bytes from the beginning of the file. */
  readonly offset: number;
}

export interface ChunkItem extends ItemSpan, Omit<StoredChunk, 'hashes'> {
  readonly kind: 'chunk';
  /** 32 bytes: the `contentHash` of item.ts. */
  readonly hash: Uint8Array;
  readonly owner: ChunkOwner;
}

export interface PageItem extends ItemSpan {
  readonly kind: 'page';
  /** 32 bytes: of the sealed bytes. */
  readonly hash: Uint8Array;
}

export type PackItem = GapItem | ChunkItem | PageItem;

const kinds = ['gap', 'chunk', 'page'] as const;
const version = 2;
const footerPayload = 24;
/** Of a sealed footer, which ends the pack. */
export const footerLength = footerPayload + bareOverhead;
const footerOffset = 0xffffffff;
/** Offsets are u32, and a whole pack must fit in one buffer. */
export const packSizeMax = 2 ** 31;
/** No item takes more of the index than this. */
const itemBytesMax = 1 + 5 + 1 + 4 + 4 + chunkSaltLength + hashLength + 8 + 8;

/** What index and footer add to a pack of so many items, without the padding, at most. */
export const packEndMax = (itemCount: number): number => 8 + bareOverhead + footerLength + itemCount * itemBytesMax;

/** Index and footer, sealed, which are to be written at `end`, where the items end. */
export function sealPackEnd(keys: PackKeys, id: PackId, items: readonly PackItem[], end: number): readonly [index: Sealed, footer: Sealed] {
  const index = new ByteWriter(16 + items.length * itemBytesMax).varint(items.length);
  for (const item of items) writeItem(index, item);
  const least = end + bareOverhead + index.length + footerLength;
  index.zeros(padmeLength(least) - least);
  const sealedIndex = keys.packIndex.seal(itemPlace(id, end), index.finish() as Plaintext);
  const footer = new ByteWriter(footerPayload).u32(version).u32(end).u32(sealedIndex.byteLength).u32(items.length).zeros(8);
  return [sealedIndex, keys.packFooter.seal(itemPlace(id, footerOffset), footer.finish() as Plaintext)];
}

function writeItem(index: ByteWriter, item: PackItem): void {
  index.u8(kinds.indexOf(item.kind)).varint(item.sealedLength);
  if (item.kind === 'chunk') index.u8(codecs.indexOf(item.codec)).varint(item.plainLength).varint(item.storedLength).bytes(item.salt);
  if (item.kind !== 'gap') index.bytes(item.hash);
  if (item.kind === 'chunk') index.varint(item.owner.ino).varint(item.owner.offset);
}

function readItem(reader: ByteReader, offset: number): PackItem {
  const kind = kinds[reader.u8()];
  const span = { offset, sealedLength: reader.varint() };
  const readHash = (): Uint8Array => new Uint8Array(reader.bytes(hashLength));
  if (kind === 'gap') return { kind, ...span };
  if (kind === 'page') return { kind, ...span, hash: readHash() };
  if (kind !== 'chunk') throw new MalformedBytesError('item of an unknown kind');
  const codec = codecs[reader.u8()];
  const [plainLength, storedLength] = [reader.varint(), reader.varint()];
  const salt = new Uint8Array(reader.bytes(chunkSaltLength));
  const hash = readHash();
  const owner = { ino: reader.varint(), offset: reader.varint() };
  if (!codec || !isChunkLength(codec, plainLength, storedLength) || sealedChunkLength(storedLength) !== span.sealedLength)
    throw new MalformedBytesError('impossible chunk');
  return { kind, ...span, codec, plainLength, storedLength, salt, hash, owner };
}

/** Returns `length` bytes of a pack at `offset`, fewer when it ends before. */
type PackRangeReader = (offset: number, length: number) => Promise<Uint8Array>;

/**
 * The items of a finished pack of `size` bytes, in order of offsets. `indexHash`: of its sealed index, if it is known.
 * Throws PackError MISSING when it is cut off, NOT_AUTHENTIC, MALFORMED, and the errors of `read`.
 */
export async function readPackIndex(
  keys: PackKeys,
  id: PackId,
  size: number,
  read: PackRangeReader,
  indexHash?: Uint8Array,
): Promise<readonly PackItem[]> {
  if (size < footerLength + bareOverhead || size > packSizeMax) throw new PackError('MALFORMED', `pack ${id}: impossible size ${size}`);
  const exactly = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = await read(offset, length);
    if (bytes.byteLength !== length) throw new PackError('MISSING', `pack ${id}: ${length} bytes at ${offset} are not there`);
    return bytes;
  };
  const sealedFooter = await exactly(size - footerLength, footerLength);
  try {
    const footer = new ByteReader(keys.packFooter.open(itemPlace(id, footerOffset), sealedFooter));
    if (footer.u32() !== version) throw new MalformedBytesError('unknown version');
    const end = footer.u32();
    const indexLength = footer.u32();
    const itemCount = footer.u32();
    if (footer.u53() !== 0) throw new MalformedBytesError('reserved bytes are set');
    footer.end();
    if (end + indexLength + footerLength !== size) throw new MalformedBytesError('footer does not fit the size');
    const sealedIndex = await exactly(end, indexLength);
    if (indexHash && !equalBytes(hashBytes(sealedIndex), indexHash))
      throw new PackError('NOT_AUTHENTIC', `pack ${id}: not the index that its commit names`);
    return decodeIndex(keys.packIndex.open(itemPlace(id, end), sealedIndex), itemCount, end);
  } catch (cause) {
    if (cause instanceof CryptoError) throw new PackError('NOT_AUTHENTIC', `pack ${id}: index or footer`, { cause });
    if (cause instanceof MalformedBytesError) throw new PackError('MALFORMED', `pack ${id}: index or footer`, { cause });
    throw cause;
  }
}

function decodeIndex(payload: Plaintext, itemCount: number, end: number): PackItem[] {
  const reader = new ByteReader(payload);
  if (reader.varint() !== itemCount || itemCount > reader.remaining) throw new MalformedBytesError('item count is wrong');
  const items: PackItem[] = [];
  let offset = 0;
  for (let index = 0; index < itemCount; index++) {
    const item = readItem(reader, offset);
    if (item.sealedLength < 1 || item.sealedLength > end - offset) throw new MalformedBytesError('impossible item');
    items.push(item);
    offset += item.sealedLength;
  }
  if (offset !== end) throw new MalformedBytesError('items do not fill the pack');
  if (reader.bytes(reader.remaining).some((byte) => byte !== 0)) throw new MalformedBytesError('padding is not zero');
  return items;
}
