/**
 * The index of a pack, at its end (doc/format.md, "Pack"). Only check, salvage and resuming after a crash read it;
 * ordinary reads know their places from the tree.
 *
 * Index payload: count varint, then per item kind u8 (0 gap, 1 chunk, 2 page) and sealed length varint, then zeros, so
 * that the whole pack has a PADME size. Footer payload: version u32 = 1, index offset u32, index sealed length u32,
 * item count u32, 8 zeros.
 */
import type { Plaintext, Sealed } from '../base/brand.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { padmeLength } from '../crypto/padme.js';
import { bareOverhead } from '../crypto/seal-format.js';
import type { ItemKind, PackKeys } from './item.js';
import { itemPlace } from './item.js';
import { PackError } from './pack-error.js';
import type { PackId } from './pack-id.js';

/** A `gap` is bytes that nothing refers to, whose bounds were lost in a crash. */
export interface PackItem {
  readonly kind: ItemKind | 'gap';
  readonly offset: number;
  readonly sealedLength: number;
}

const kinds = ['gap', 'chunk', 'page'] as const;
const version = 1;
const footerPayload = 24;
const footerLength = footerPayload + bareOverhead;
const footerOffset = 0xffffffff;
/** Offsets are u32, and a whole pack must fit in one buffer. */
export const packSizeMax = 2 ** 31;

/** Index and footer, sealed, which are to be written at `end`, where the items end. */
export function sealPackEnd(keys: PackKeys, id: PackId, items: readonly PackItem[], end: number): readonly [index: Sealed, footer: Sealed] {
  const index = new ByteWriter(16 + items.length * 4).varint(items.length);
  for (const item of items) index.u8(kinds.indexOf(item.kind)).varint(item.sealedLength);
  const least = end + bareOverhead + index.length + footerLength;
  index.zeros(padmeLength(least) - least);
  const sealedIndex = keys.packIndex.seal(itemPlace(id, end), index.finish() as Plaintext);
  const footer = new ByteWriter(footerPayload).u32(version).u32(end).u32(sealedIndex.byteLength).u32(items.length).zeros(8);
  return [sealedIndex, keys.packFooter.seal(itemPlace(id, footerOffset), footer.finish() as Plaintext)];
}

/** Returns `length` bytes of a pack at `offset`, fewer when it ends before. */
type PackRangeReader = (offset: number, length: number) => Promise<Uint8Array>;

/**
 * The items of a finished pack of `size` bytes, in order of offsets. Throws PackError MISSING when it is cut off,
 * NOT_AUTHENTIC, MALFORMED, and the errors of `read`.
 */
export async function readPackIndex(keys: PackKeys, id: PackId, size: number, read: PackRangeReader): Promise<readonly PackItem[]> {
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
    const kind = kinds[reader.u8()];
    const sealedLength = reader.varint();
    if (!kind || sealedLength < 1 || sealedLength > end - offset) throw new MalformedBytesError('impossible item');
    items.push({ kind, offset, sealedLength });
    offset += sealedLength;
  }
  if (offset !== end) throw new MalformedBytesError('items do not fill the pack');
  if (reader.bytes(reader.remaining).some((byte) => byte !== 0)) throw new MalformedBytesError('padding is not zero');
  return items;
}
