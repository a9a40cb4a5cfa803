/**
 * Reads one request from the buffer that the kernel filled: the header, then fields by the offsets of `abi.ts`. It
 * copies numbers and names, never content; `bytes` are views that die with the request.
 */

import type { ByteString } from '../base/brand.js';
import { MalformedBytesError } from '../base/bytes.js';
import { fuse_in_header } from './abi.js';
import { opcodeName, payloadMinOf } from './opcode.js';

const headerSize = fuse_in_header.SIZE;
const twoTo32 = 0x100000000;

export class RequestReader {
  readonly #bytes: Buffer;
  readonly #view: DataView;
  #length = 0;

  /** Borrows `bytes` for its whole life; {@link accept} announces new content. */
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /**
   * A new request of `length` bytes lies in the buffer. Throws {@link MalformedBytesError} if that is less than its
   * opcode needs.
   */
  accept(length: number): void {
    if (length < headerSize || this.#view.getUint32(fuse_in_header.len, true) !== length) {
      throw new MalformedBytesError(`a request of ${length} bytes does not fit its header`);
    }
    this.#length = length;
    if (this.payloadLength < payloadMinOf(this.opcode)) throw new MalformedBytesError(`${opcodeName(this.opcode)} with ${this.payloadLength} bytes`);
  }

  get opcode(): number {
    return this.#view.getUint32(fuse_in_header.opcode, true);
  }

  /** The kernel counts these up from 0 in steps of 2, far below 2^53. */
  get unique(): number {
    return this.#u64(fuse_in_header.unique);
  }

  get nodeid(): number {
    return this.#u64(fuse_in_header.nodeid);
  }

  get uid(): number {
    return this.#view.getUint32(fuse_in_header.uid, true);
  }

  get gid(): number {
    return this.#view.getUint32(fuse_in_header.gid, true);
  }

  get pid(): number {
    return this.#view.getUint32(fuse_in_header.pid, true);
  }

  get payloadLength(): number {
    return this.#length - headerSize;
  }

  // Below, `at` counts from the end of the header.

  u32(at: number): number {
    return this.#view.getUint32(headerSize + at, true);
  }

  /** An unsigned 64-bit field. Above 2^53 it is rounded: such offsets are beyond every file anyway. */
  u64(at: number): number {
    return this.#u64(headerSize + at);
  }

  i64(at: number): number {
    return this.#view.getInt32(headerSize + at + 4, true) * twoTo32 + this.#view.getUint32(headerSize + at, true);
  }

  #u64(at: number): number {
    return this.#view.getUint32(at + 4, true) * twoTo32 + this.#view.getUint32(at, true);
  }

  /** The NUL-terminated name that starts at `at`. */
  name(at: number): ByteString {
    return this.#bytes.toString('latin1', headerSize + at, this.#endOfName(at));
  }

  /** Where the field after the name at `at` starts. */
  afterName(at: number): number {
    return this.#endOfName(at) + 1 - headerSize;
  }

  #endOfName(at: number): number {
    const end = this.#bytes.indexOf(0, headerSize + at);
    if (end < 0 || end >= this.#length) throw new MalformedBytesError('a name without an end');
    return end;
  }

  /** `length` bytes as a view of the request buffer. */
  bytes(at: number, length: number): Uint8Array {
    const start = headerSize + at;
    if (start + length > this.#length) throw new MalformedBytesError(`needs ${length} bytes at ${at}, has ${this.#length - start}`);
    return this.#bytes.subarray(start, start + length);
  }
}
