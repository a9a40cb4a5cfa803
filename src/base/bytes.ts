/**
 * Little-endian binary writing and strict reading, and the few byte operations that several layers need. It is not a
 * schema language: every codec spells out its fields beneath a copy of its table in doc/format.md.
 */

import { assert } from './assert.js';
import { decodeSystemText, encodeSystemText } from './system-text.js';

/** The input of a decoder is too short, too long or out of range. Layers wrap it in their own error. */
export class MalformedBytesError extends Error {
  override readonly name = 'MalformedBytesError';
}

/** What `read` decodes; `undefined` when its input is malformed. */
export function unlessMalformed<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}

/**
 * Reads fixed-width little-endian fields from `bytes`, which it borrows and never changes. Throws {@link
 * MalformedBytesError}.
 */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.#bytes.byteLength - this.#offset;
  }

  #advance(length: number): number {
    const at = this.#offset;
    if (length > this.#bytes.byteLength - at) throw new MalformedBytesError(`needs ${length} bytes at ${at}, has ${this.remaining}`);
    this.#offset = at + length;
    return at;
  }

  u8(): number {
    return this.#view.getUint8(this.#advance(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4), true);
  }

  /** An unsigned 64-bit field that must fit in 53 bits. */
  u53(): number {
    const at = this.#advance(8);
    const high = this.#view.getUint32(at + 4, true);
    if (high >= 0x200000) throw new MalformedBytesError(`number at ${at} exceeds 2^53`);
    return high * 0x100000000 + this.#view.getUint32(at, true);
  }

  /** A signed 64-bit field that must fit in 53 bits (and a sign). */
  i53(): number {
    const at = this.#advance(8);
    const value = this.#view.getInt32(at + 4, true) * 0x100000000 + this.#view.getUint32(at, true);
    if (!Number.isSafeInteger(value)) throw new MalformedBytesError(`number at ${at} exceeds 2^53`);
    return value;
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8), true);
  }

  /** LEB128, at most 53 bits, shortest form only. */
  varint(): number {
    let value = 0;
    let scale = 1;
    for (let index = 0; index < 8; index++) {
      const byte = this.u8();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if (byte === 0 && index > 0) throw new MalformedBytesError('varint is not in its shortest form');
        if (!Number.isSafeInteger(value)) throw new MalformedBytesError('varint exceeds 2^53');
        return value;
      }
      scale *= 128;
    }
    throw new MalformedBytesError('varint is too long');
  }

  /** The next `length` bytes, sharing memory with the input. */
  bytes(length: number): Uint8Array {
    const at = this.#advance(length);
    return this.#bytes.subarray(at, at + length);
  }

  /** The next `length` bytes as a byte string. */
  byteString(length: number): string {
    const at = this.#advance(length);
    return latin1Slice(this.#bytes, at, at + length);
  }

  /** Throws when bytes are left. */
  end(): void {
    if (this.remaining !== 0) throw new MalformedBytesError(`${this.remaining} bytes too many`);
  }
}

/** Appends fixed-width little-endian fields to a buffer that it owns and grows. */
export class ByteWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(capacity = 256) {
    this.#buffer = Buffer.allocUnsafe(capacity);
  }

  get length(): number {
    return this.#length;
  }

  /** May replace the buffer, so it is called in a statement of its own, before `#buffer` is read. */
  #reserve(count: number): number {
    const at = this.#length;
    const needed = at + count;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafe(Math.max(needed, this.#buffer.length * 2));
      this.#buffer.copy(grown, 0, 0, at);
      this.#buffer = grown;
    }
    this.#length = needed;
    return at;
  }

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
    return this;
  }

  u16(value: number): this {
    const at = this.#reserve(2);
    this.#buffer.writeUInt16LE(value, at);
    return this;
  }

  u32(value: number): this {
    const at = this.#reserve(4);
    this.#buffer.writeUInt32LE(value, at);
    return this;
  }

  u53(value: number): this {
    const at = this.#reserve(8);
    this.#buffer.writeUInt32LE(value % 0x100000000, at);
    this.#buffer.writeUInt32LE(Math.floor(value / 0x100000000), at + 4);
    return this;
  }

  i53(value: number): this {
    const at = this.#reserve(8);
    const high = Math.floor(value / 0x100000000);
    this.#buffer.writeUInt32LE(value - high * 0x100000000, at);
    this.#buffer.writeInt32LE(high, at + 4);
    return this;
  }

  u64(value: bigint): this {
    const at = this.#reserve(8);
    this.#buffer.writeBigUInt64LE(value, at);
    return this;
  }

  /** Asserts what {@link ByteReader.varint} demands. */
  varint(value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, 'a varint is a whole number of 53 bits');
    let rest = value;
    while (rest >= 0x80) {
      this.u8((rest % 128) | 0x80);
      rest = Math.floor(rest / 128);
    }
    return this.u8(rest);
  }

  bytes(value: Uint8Array): this {
    const at = this.#reserve(value.byteLength);
    this.#buffer.set(value, at);
    return this;
  }

  byteString(value: string): this {
    const at = this.#reserve(value.length);
    this.#buffer.write(value, at, 'latin1');
    return this;
  }

  zeros(count: number): this {
    const at = this.#reserve(count);
    this.#buffer.fill(0, at, at + count);
    return this;
  }

  /** Discards the content and keeps the buffer. */
  reset(): this {
    this.#length = 0;
    return this;
  }

  /** A copy of the content, owned by the caller. */
  copy(): Uint8Array {
    return new Uint8Array(this.#buffer.subarray(0, this.#length));
  }

  /** The content, sharing memory with the writer: do not continue to write after taking it. */
  finish(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }
}

const asBuffer = (bytes: Uint8Array): Buffer => (bytes instanceof Buffer ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));

/** A copy in memory of its own, which keeps no pool alive and was not filled with zeros first. */
export function copyOfBytes(bytes: Uint8Array): Uint8Array {
  const copy = Buffer.allocUnsafeSlow(bytes.byteLength);
  copy.set(bytes);
  return copy;
}

/** How many bytes the parts have together. */
export const totalLength = (parts: readonly Uint8Array[]): number => parts.reduce((sum, { byteLength }) => sum + byteLength, 0);

/** Bytes `start` to `end` as a byte string. */
export function latin1Slice(bytes: Uint8Array, start: number, end: number): string {
  return asBuffer(bytes).toString('latin1', start, end);
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && asBuffer(a).equals(b);
}

export function toHex(bytes: Uint8Array): string {
  return asBuffer(bytes).toString('hex');
}

/** Strict: throws {@link MalformedBytesError} unless it is lower-case hex of an even length. */
export function fromHex(hex: string): Uint8Array {
  if (hex.length % 2 !== 0 || !/^[0-9a-f]*$/.test(hex)) throw new MalformedBytesError('not lower-case hex');
  return Buffer.from(hex, 'hex');
}

/** The bytes of a name or path (`system-text.ts`) as a byte string. */
export function byteStringOf(text: string): string {
  return encodeSystemText(text).toString('latin1');
}

/** The inverse of {@link byteStringOf}: text that loses nothing. For people, see `printable.ts`. */
export function textOf(bytes: string): string {
  return decodeSystemText(Buffer.from(bytes, 'latin1'));
}
