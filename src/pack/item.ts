/**
 * The payload of one item of a pack (doc/format.md, "Pack"): a header, then the data, raw or compressed. Sealing is up
 * to the caller.
 *
 * | field | encoding |
 * | --- | --- |
 * | codec | u8: 0 raw, 1 zstd |
 * | zeros | 3 |
 * | plain length | u32 |
 * | data | |
 * | zeros | compressed chunks only: up to the PADME size of the payload |
 */
import type { Plaintext } from '../base/brand.js';
import { ByteWriter, fromHex } from '../base/bytes.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import { padmeLength } from '../crypto/padme.js';
import type { EpochKeys } from '../crypto/volume-keys.js';
import { compress, decompress, frameLength, looksCompressible } from './compression.js';
import { PackError } from './pack-error.js';
import type { PackId } from './pack-id.js';

export type ItemKind = 'chunk' | 'page';

/** The keys of one epoch with which packs are sealed. */
export type PackKeys = Pick<EpochKeys, ItemKind | 'packIndex' | 'packFooter'>;

const headerLength = 8;
const codecRaw = 0;
const codecZstd = 1;
/** Chunks hold at most 4 MiB (a volume's chunk size is less), pages at most 2 MiB. */
export const chunkPlainMax = 4 * 1024 * 1024;
const pagePlainMax = 2 * 1024 * 1024;

/** The place that an item's seal is bound to; `0xffffffff` is the footer's. */
export function itemPlace(id: PackId, offset: number): Uint8Array {
  return new ByteWriter(20).bytes(fromHex(id)).u32(offset).finish();
}

function header(codec: number, plainLength: number): Plaintext {
  return new ByteWriter(headerLength).u8(codec).zeros(3).u32(plainLength).finish() as Plaintext;
}

/** The payload in parts, for the seal; at once when nothing is to be compressed. Borrows `plain` until it is sealed. */
export function encodeItem(kind: ItemKind, plain: Plaintext, tryCompress: boolean): MaybePromise<Plaintext[]> {
  if (!tryCompress || !looksCompressible(plain)) return [header(codecRaw, plain.byteLength), plain];
  return compress(plain).then((frame) => {
    if (!frame) return [header(codecRaw, plain.byteLength), plain];
    const length = headerLength + frame.byteLength;
    const padding = kind === 'chunk' ? padmeLength(length) - length : 0;
    const parts = [header(codecZstd, plain.byteLength), frame as Plaintext];
    if (padding > 0) parts.push(new Uint8Array(padding) as Plaintext);
    return parts;
  });
}

/** Whether the data of the payload is raw, so that {@link decodeItem} is synchronous. */
export function isRaw(payload: Plaintext): boolean {
  return payload[0] === codecRaw;
}

/** The data of an opened payload: shares its memory when raw. Throws (or rejects with) PackError MALFORMED. */
export function decodeItem(kind: ItemKind, payload: Plaintext): MaybePromise<Plaintext> {
  const malformed = (what: string): PackError => new PackError('MALFORMED', `${kind}: ${what}`);
  if (payload.byteLength < headerLength) throw malformed('payload is too short');
  const codec = payload[0];
  if (payload[1] !== 0 || payload[2] !== 0 || payload[3] !== 0) throw malformed('reserved bytes are set');
  const plainLength = new DataView(payload.buffer, payload.byteOffset).getUint32(4, true);
  if (plainLength > (kind === 'chunk' ? chunkPlainMax : pagePlainMax)) throw malformed('claims to be too large');
  const data = payload.subarray(headerLength);
  if (codec === codecRaw) {
    if (data.byteLength !== plainLength) throw malformed('another length than stated');
    return data as Plaintext;
  }
  if (codec !== codecZstd) throw malformed('unknown codec');
  const frame = frameLength(data, plainLength);
  if (payload.byteLength !== (kind === 'chunk' ? padmeLength(headerLength + frame) : headerLength + frame)) throw malformed('wrong padding');
  for (let at = frame; at < data.byteLength; at++) if (data[at] !== 0) throw malformed('padding is not zero');
  return decompress(data, plainLength) as Promise<Plaintext>;
}
