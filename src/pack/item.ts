/**
 * The items of a pack before they are sealed: what a chunk or page stores for its plaintext (doc/format.md, "Pack").
 * What describes a chunk stands where the chunk is referred to, so that its stored bytes are nothing but content. A
 * page begins with a header:
 *
 * | field | encoding |
 * | --- | --- |
 * | codec | u8: 0 raw, 1 zstd |
 * | zeros | 3 |
 * | plain length | u32 |
 * | data | |
 */
import type { Plaintext } from '../base/brand.js';
import { ByteWriter, equalBytes, fromHex } from '../base/bytes.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { andThen } from '../base/maybe-promise.js';
import type { ChunkContent } from '../crypto/chunk-key.js';
import { hashBytes } from '../crypto/hash.js';
import { unsealStream } from '../crypto/node-stream.js';
import { padmeLength } from '../crypto/padme.js';
import { hashesLength, segmentHashLength } from '../crypto/stream-format.js';
import type { EpochKeys } from '../crypto/volume-keys.js';
import { compress, decompress, frameLength, looksCompressible } from './compression.js';
import { PackError } from './pack-error.js';
import type { PackId } from './pack-id.js';

/** The keys of one epoch with which packs are sealed. */
export type PackKeys = Pick<EpochKeys, 'epoch' | 'chunk' | 'page' | 'packIndex' | 'packFooter'>;

export type Codec = 'raw' | 'zstd';
/** By their numbers. */
export const codecs: readonly Codec[] = ['raw', 'zstd'];

/** A chunk as its references describe it. */
export interface StoredChunk {
  readonly codec: Codec;
  readonly plainLength: number;
  /** Bytes before sealing: content, or a compressed frame with its padding. */
  readonly storedLength: number;
  /** 16 random bytes. */
  readonly salt: Uint8Array;
  /** 32 bytes of each segment of what is stored: they bind the content also against those who have the keys. */
  readonly hashes: Uint8Array;
}

/** One for all of a chunk's content: the hash of its hashes. */
export function contentHash({ hashes }: Pick<StoredChunk, 'hashes'>): Uint8Array {
  return hashes.byteLength === segmentHashLength ? hashes : hashBytes(hashes);
}

/** One of adjacent chunks. */
export interface RunChunk extends StoredChunk {
  readonly sealedLength: number;
}

/** A chunk at its place in a pack. */
export interface PlacedChunk extends RunChunk {
  readonly pack: PackId;
  readonly offset: number;
}

const headerLength = 8;
/** Chunks hold at most 4 MiB (a volume's chunk size is less), pages at most 2 MiB. */
export const chunkPlainMax = 4 * 1024 * 1024;
const pagePlainMax = 2 * 1024 * 1024;

/** The place that an item's seal is bound to; `0xffffffff` is the footer's. */
export function itemPlace(id: PackId, offset: number): Uint8Array {
  return new ByteWriter(20).bytes(fromHex(id)).u32(offset).finish();
}

/** The place of a chunk's seal, which binds what describes it. */
export function chunkPlace(
  id: PackId,
  offset: number,
  { codec, plainLength, storedLength }: Pick<StoredChunk, 'codec' | 'plainLength' | 'storedLength'>,
): Uint8Array {
  return new ByteWriter(29).bytes(fromHex(id)).u32(offset).u8(codecs.indexOf(codec)).u32(plainLength).u32(storedLength).finish();
}

/** Whether a chunk can have these lengths. */
export function isChunkLength(codec: Codec, plainLength: number, storedLength: number): boolean {
  const isPossible = (length: number): boolean => length >= 1 && length <= chunkPlainMax;
  return isPossible(plainLength) && (codec === 'raw' ? storedLength === plainLength : isPossible(storedLength));
}

export function contentOf(chunk: PlacedChunk): ChunkContent {
  return { place: chunkPlace(chunk.pack, chunk.offset, chunk), salt: chunk.salt, hashes: chunk.hashes };
}

/**
 * The stored bytes of a sealed chunk, which is known by its {@link contentHash} alone; the caller's own. Throws
 * CryptoError `MALFORMED`, `NOT_AUTHENTIC`.
 */
export function openStored({ chunk }: Pick<PackKeys, 'chunk'>, placed: Omit<PlacedChunk, 'hashes'>, hash: Uint8Array, sealed: Uint8Array): Plaintext {
  const content = contentOf({ ...placed, hashes: new Uint8Array(hashesLength(placed.storedLength)) });
  const opening = chunk.opening(content, sealed, 0, Buffer.allocUnsafe(placed.storedLength));
  const hashes = unsealStream(opening);
  opening.key.fill(0);
  if (!hashes || !equalBytes(contentHash({ hashes }), hash)) throw chunk.notAuthentic();
  return opening.target as Plaintext;
}

/** What is to be sealed of an item, in parts. */
export interface EncodedItem {
  readonly codec: Codec;
  readonly plainLength: number;
  readonly parts: readonly Plaintext[];
}

/** At once when nothing is to be compressed. Borrows `plain` until it is sealed. */
export function encodeChunk(plain: Plaintext, tryCompress: boolean): MaybePromise<EncodedItem> {
  const raw: EncodedItem = { codec: 'raw', plainLength: plain.byteLength, parts: [plain] };
  if (!tryCompress || !looksCompressible(plain)) return raw;
  return compress(plain).then((frame) => {
    const storedLength = frame ? padmeLength(frame.byteLength) : 0;
    if (!frame || storedLength >= plain.byteLength) return raw;
    const padding = storedLength - frame.byteLength;
    const parts = padding > 0 ? [frame as Plaintext, new Uint8Array(padding) as Plaintext] : [frame as Plaintext];
    return { ...raw, codec: 'zstd', parts };
  });
}

/** As {@link encodeChunk}; the parts begin with the header. */
export function encodePage(plain: Plaintext): MaybePromise<EncodedItem> {
  const header = (codec: Codec): Plaintext =>
    new ByteWriter(headerLength).u8(codecs.indexOf(codec)).zeros(3).u32(plain.byteLength).finish() as Plaintext;
  const raw: EncodedItem = { codec: 'raw', plainLength: plain.byteLength, parts: [header('raw'), plain] };
  if (!looksCompressible(plain)) return raw;
  return andThen(compress(plain), (frame) => (frame ? { ...raw, codec: 'zstd', parts: [header('zstd'), frame as Plaintext] } : raw));
}

/**
 * The content of an opened chunk: shares memory with `stored` when raw. Throws (or rejects with) PackError MALFORMED.
 */
export function decodeChunk({ codec, plainLength }: Pick<StoredChunk, 'codec' | 'plainLength'>, stored: Plaintext): MaybePromise<Plaintext> {
  if (codec === 'raw') {
    if (stored.byteLength !== plainLength) throw malformed('chunk', 'another length than stated');
    return stored;
  }
  if (plainLength > chunkPlainMax) throw malformed('chunk', 'claims to be too large');
  const frame = frameLength(stored, plainLength);
  if (stored.byteLength !== padmeLength(frame)) throw malformed('chunk', 'wrong padding');
  for (let at = frame; at < stored.byteLength; at++) if (stored[at] !== 0) throw malformed('chunk', 'padding is not zero');
  return decompress(stored, plainLength) as Promise<Plaintext>;
}

/** The tree page in an opened payload: shares memory when raw. Throws (or rejects with) PackError MALFORMED. */
export function decodePage(payload: Plaintext): MaybePromise<Plaintext> {
  if (payload.byteLength < headerLength) throw malformed('page', 'payload is too short');
  const codec = codecs[payload[0]!];
  if (payload[1] !== 0 || payload[2] !== 0 || payload[3] !== 0) throw malformed('page', 'reserved bytes are set');
  const plainLength = new DataView(payload.buffer, payload.byteOffset).getUint32(4, true);
  if (plainLength > pagePlainMax) throw malformed('page', 'claims to be too large');
  const data = payload.subarray(headerLength) as Plaintext;
  if (codec === 'raw') {
    if (data.byteLength !== plainLength) throw malformed('page', 'another length than stated');
    return data;
  }
  if (codec !== 'zstd') throw malformed('page', 'unknown codec');
  if (data.byteLength !== frameLength(data, plainLength)) throw malformed('page', 'trailing bytes');
  return decompress(data, plainLength) as Promise<Plaintext>;
}

const malformed = (kind: string, what: string): PackError => new PackError('MALFORMED', `${kind}: ${what}`);
