/**
 * Compression of items before they are sealed: Zstandard (RFC 8878), only where a cheap sample shows that it pays
 * (doc/format.md, "Pack"). The work is done on the thread pool. Decompression is bounded before it begins, since a
 * device of the volume may be hostile.
 */
import { compress as zstdCompress, decompress as zstdDecompress } from '@mongodb-js/zstd';
import { Limiter } from '../base/limiter.js';
import { PackError } from './pack-error.js';

const level = 1;
/** Below this size nothing is gained, since the padding of the pack is larger. */
const plainMin = 512;
/** An item stays raw unless compression reduces it to this share of its size. */
const shareMax = 0.9;
const sampleCount = 1024;
const sampleSlice = 64;
/**
 * Above this entropy, in bits per byte, data counts as compressed or encrypted. A sample of 1,024 random bytes has
 * about 7.8.
 */
const entropyMax = 7.3;

/** The pool has four threads, and file I/O needs some of them. */
const threads = new Limiter(3);

const counts = new Uint16Array(256);

/**
 * Whether compression is worth trying, by the entropy of 1 KiB of samples from all over `bytes`. Takes about 2
 * microseconds.
 */
export function looksCompressible(bytes: Uint8Array): boolean {
  const length = bytes.byteLength;
  if (length < plainMin) return false;
  counts.fill(0);
  let sampled = 0;
  if (length <= sampleCount) {
    for (const byte of bytes) counts[byte]!++;
    sampled = length;
  } else {
    const slices = sampleCount / sampleSlice;
    const stride = Math.floor((length - sampleSlice) / (slices - 1));
    for (let slice = 0; slice < slices; slice++) {
      const from = slice * stride;
      for (const byte of bytes.subarray(from, from + sampleSlice)) counts[byte]!++;
    }
    sampled = sampleCount;
  }
  let sum = 0;
  for (const count of counts) {
    if (count > 0) sum += count * Math.log2(count);
  }
  return Math.log2(sampled) - sum / sampled < entropyMax;
}

const asBuffer = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** One Zstandard frame; `undefined` when it would not be smaller by a tenth. Borrows `bytes` until it resolves. */
export async function compress(bytes: Uint8Array): Promise<Uint8Array | undefined> {
  const frame = await threads.run(() => zstdCompress(asBuffer(bytes), level));
  return frame.byteLength <= bytes.byteLength * shareMax ? frame : undefined;
}

const magic = 0xfd2fb528;
const windowMax = 8 * 1024 * 1024;
const blockMax = 128 * 1024;

const malformed = (what: string): PackError => new PackError('MALFORMED', `compressed item: ${what}`);

/**
 * The length of the frame that `bytes` begins with, after checking that it can yield `plainLength` bytes and not vastly
 * more. Reads only the headers of its blocks (RFC 8878, 3.1.1). Throws PackError MALFORMED.
 */
export function frameLength(bytes: Uint8Array, plainLength: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = bytes.byteLength;
  if (size < 9 || view.getUint32(0, true) !== magic) throw malformed('no Zstandard frame');
  const descriptor = view.getUint8(4);
  const singleSegment = (descriptor & 0x20) !== 0;
  if ((descriptor & 0x08) !== 0 || (descriptor & 0x03) !== 0) throw malformed('reserved bit or dictionary');
  const checksum = (descriptor & 0x04) !== 0;
  let at = 5;
  if (!singleSegment) {
    const window = view.getUint8(at);
    const base = 2 ** (10 + (window >>> 3));
    if (base + (base / 8) * (window & 7) > windowMax) throw malformed('window is too large');
    at++;
  }
  const flag = descriptor >>> 6;
  const sizeLength = flag === 0 ? (singleSegment ? 1 : 0) : 2 ** flag;
  if (at + sizeLength > size) throw malformed('cut off');
  if (sizeLength > 0) {
    let stated = sizeLength === 2 ? 256 : 0;
    for (let index = 0; index < sizeLength; index++) stated += view.getUint8(at + index) * 2 ** (8 * index);
    if (stated !== plainLength) throw malformed('another length than stated');
  }
  at += sizeLength;
  // A single-segment frame states no window: it is as large as its content (RFC 8878, 3.1.1.1.1.2).
  if (singleSegment && plainLength > windowMax) throw malformed('window is too large');
  // The most that the blocks can yield. Encoders make blocks shorter than the maximum, so it may exceed the plain
  // length, within reason.
  let yieldMax = 0;
  for (;;) {
    if (at + 3 > size) throw malformed('cut off');
    const header = view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
    at += 3;
    const type = (header >>> 1) & 3;
    const blockSize = header >>> 3;
    if (type === 3 || blockSize > blockMax) throw malformed('impossible block');
    at += type === 1 ? 1 : blockSize;
    yieldMax += type === 2 ? blockMax : blockSize;
    if (yieldMax > plainLength * 8 + 1024 * 1024) throw malformed('too many blocks');
    if ((header & 1) !== 0) break;
  }
  if (checksum) at += 4;
  if (at > size) throw malformed('cut off');
  if (yieldMax < plainLength) throw malformed('another length than stated');
  return at;
}

/**
 * Undoes {@link compress}: exactly `plainLength` bytes, owned by the caller. Borrows `frame` until it settles. Throws
 * PackError MALFORMED.
 */
export async function decompress(frame: Uint8Array, plainLength: number): Promise<Uint8Array> {
  const length = frameLength(frame, plainLength);
  let plain: Uint8Array;
  try {
    plain = await threads.run(() => zstdDecompress(asBuffer(frame.subarray(0, length))));
  } catch (cause) {
    throw new PackError('MALFORMED', 'compressed item: does not decompress', { cause });
  }
  if (plain.byteLength !== plainLength) throw malformed('another length than stated');
  return plain;
}
