/**
 * The extent: the value of an `E` key (doc/format.md, "Tree keys"). It maps `length` bytes of a file, from the offset
 * in its key on, to a run of adjacent chunks of one pack, or to reserved zeros. A range without an extent is a hole.
 *
 * | field | encoding |
 * | --- | --- |
 * | kind | u8: 1 data, 2 reserved (allocated, reads as zeros) |
 * | length | varint, bytes of the file |
 * | for data: skip | varint, bytes of the run's plaintext before the extent's first byte |
 * | pack | 16 bytes |
 * | packOffset | u32, where the run's first sealed chunk begins |
 * | chunks | varint count, then each as below |
 * | of a chunk | codec u8: 0 raw, 1 zstd; plain length varint; zstd: stored length varint; salt 16 |
 * | | a hash of 32 for each segment of what it stores |
 */
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import { chunkSaltLength, hashesLength, sealedChunkLength } from '../crypto/stream-format.js';
import { codecs, isChunkLength, type RunChunk } from '../pack/item.js';
import type { PackId } from '../pack/pack-id.js';

export interface DataExtent {
  readonly kind: 'data';
  readonly length: number;
  readonly skip: number;
  readonly pack: PackId;
  readonly packOffset: number;
  readonly chunks: readonly RunChunk[];
}

interface ReservedExtent {
  readonly kind: 'reserved';
  readonly length: number;
}

export type Extent = DataExtent | ReservedExtent;

/** Where the last chunk of the run ends in its pack. */
export const runEnd = ({ packOffset, chunks }: Pick<DataExtent, 'packOffset' | 'chunks'>): number =>
  chunks.reduce((end, { sealedLength }) => end + sealedLength, packOffset);

/** A run has at most this many chunks, so that a value stays small and a read decodes little. */
export const runChunksMax = 16;

export function encodeExtent(extent: Extent): Plaintext {
  const writer = new ByteWriter(64);
  if (extent.kind === 'reserved') return writer.u8(2).varint(extent.length).finish() as Plaintext;
  writer.u8(1).varint(extent.length).varint(extent.skip).bytes(fromHex(extent.pack)).u32(extent.packOffset).varint(extent.chunks.length);
  for (const { codec, plainLength, storedLength, salt, hashes } of extent.chunks) {
    writer.u8(codecs.indexOf(codec)).varint(plainLength);
    if (codec !== 'raw') writer.varint(storedLength);
    writer.bytes(salt).bytes(hashes);
  }
  return writer.finish() as Plaintext;
}

/** Strict; throws MalformedBytesError. Salts and hashes share memory with `bytes`. */
export function decodeExtent(bytes: Uint8Array): Extent {
  const reader = new ByteReader(bytes);
  const kind = reader.u8();
  const length = reader.varint();
  if (length < 1) throw new MalformedBytesError('extent is empty');
  if (kind === 2) {
    reader.end();
    return { kind: 'reserved', length };
  }
  if (kind !== 1) throw new MalformedBytesError('extent of an unknown kind');
  const skip = reader.varint();
  const pack = toHex(reader.bytes(16)) as PackId;
  const packOffset = reader.u32();
  const count = reader.varint();
  if (count < 1 || count > runChunksMax) throw new MalformedBytesError('extent has an impossible number of chunks');
  const chunks: RunChunk[] = [];
  let plainTotal = 0;
  for (let index = 0; index < count; index++) {
    const chunk = readChunk(reader);
    plainTotal += chunk.plainLength;
    chunks.push(chunk);
  }
  reader.end();
  if (skip + length > plainTotal) throw new MalformedBytesError('extent reaches past its run');
  return { kind: 'data', length, skip, pack, packOffset, chunks };
}

function readChunk(reader: ByteReader): RunChunk {
  const codec = codecs[reader.u8()];
  if (!codec) throw new MalformedBytesError('chunk of an unknown codec');
  const plainLength = reader.varint();
  const storedLength = codec === 'raw' ? plainLength : reader.varint();
  if (!isChunkLength(codec, plainLength, storedLength)) throw new MalformedBytesError('chunk of an impossible length');
  const salt = reader.bytes(chunkSaltLength);
  return { codec, plainLength, storedLength, sealedLength: sealedChunkLength(storedLength), salt, hashes: reader.bytes(hashesLength(storedLength)) };
}

/**
 * Bytes `from` to `to` of an extent, relative to its start, as an extent without the chunks that it no longer needs.
 */
export function sliceExtent(extent: Extent, from: number, to: number): Extent {
  if (extent.kind === 'reserved') return { kind: 'reserved', length: to - from };
  let { packOffset } = extent;
  let skip = extent.skip + from;
  const chunks: RunChunk[] = [];
  let covered = -skip;
  for (const chunk of extent.chunks) {
    if (chunks.length === 0 && skip >= chunk.plainLength) {
      skip -= chunk.plainLength;
      packOffset += chunk.sealedLength;
    } else chunks.push(chunk);
    covered += chunk.plainLength;
    if (covered >= to - from) break;
  }
  return { kind: 'data', length: to - from, skip, pack: extent.pack, packOffset, chunks };
}
