/**
 * Sends an object, or a range of it, piece by piece: the next piece is read while one is sent, and no more than these
 * are in memory.
 */
import type { ObjectKey, ObjectStore } from '../store/object-store.js';
import type { Exchange } from './exchange.js';
import type { PieceBuffers } from './piece-buffers.js';
import { pieceSize } from './piece-buffers.js';
import { Refusal } from './refusal.js';
import type { RangeRequest } from './request-target.js';

/** Buffers smaller than this are cheaper to allocate than to keep. */
const smallSize = 64 * 1024;

interface Piece {
  readonly bytes: Uint8Array;
  /** To be called when the bytes were sent. */
  readonly release: () => void;
}

type Base = Pick<ObjectStore, 'get' | 'head' | 'readInto'>;

export class Downloads {
  readonly #base: Base;
  readonly #buffers: PieceBuffers;

  constructor(base: Base, buffers: PieceBuffers) {
    this.#base = base;
    this.#buffers = buffers;
  }

  /**
   * False when there is no such object, and nothing was answered. Throws {@link Refusal} and StoreError, also in the
   * middle of the answer.
   */
  async send(exchange: Exchange, key: ObjectKey, range: RangeRequest | undefined): Promise<boolean> {
    if (range?.offset !== undefined && range.length !== undefined && range.length <= pieceSize) {
      // The usual case: a single read suffices, and the size of the object need not be known.
      const { offset } = range;
      const piece = await this.#read(key, offset, range.length);
      if (!piece) return false;
      const { bytes, release } = piece;
      if (bytes.byteLength === 0) throw new Refusal('RANGE', 'the range starts after the end of the object');
      exchange.begin(206, bytes.byteLength, { 'content-range': `bytes ${offset}-${offset + bytes.byteLength - 1}/*` });
      await exchange.write(bytes, release);
      exchange.end();
      return true;
    }
    if (!range) {
      const first = await this.#read(key, 0, pieceSize);
      if (!first) return false;
      const isWhole = first.bytes.byteLength < pieceSize;
      const size = isWhole ? first.bytes.byteLength : await this.#base.head(key);
      if (size === undefined) return false;
      exchange.begin(200, size);
      await this.#sendPieces(exchange, key, 0, size, first);
      return true;
    }
    const size = await this.#base.head(key);
    if (size === undefined) return false;
    const start = range.offset ?? Math.max(0, size - (range.length ?? 0));
    const end = range.offset === undefined ? size : Math.min(size, start + (range.length ?? Infinity));
    if (start >= end) throw new Refusal('RANGE', 'the range starts after the end of the object');
    exchange.begin(206, end - start, { 'content-range': `bytes ${start}-${end - 1}/${size}` });
    await this.#sendPieces(exchange, key, start, end, undefined);
    return true;
  }

  async #sendPieces(exchange: Exchange, key: ObjectKey, start: number, end: number, first: Piece | undefined): Promise<void> {
    const read = async (at: number): Promise<Piece> => {
      const length = Math.min(pieceSize, end - at);
      const piece = await this.#read(key, at, length);
      // The object was deleted meanwhile, or the base has lost a part of it.
      if (piece?.bytes.byteLength !== length) throw new Refusal('BASE_ANSWER', 'the object is shorter than announced');
      return piece;
    };
    let next: Promise<Piece> | Piece | undefined = end > start ? (first ?? read(start)) : undefined;
    for (let at = start; next !== undefined; ) {
      const { bytes, release }: Piece = await next;
      at += bytes.byteLength;
      next = at < end ? read(at) : undefined;
      // It may fail while this piece is being sent; the failure is then noticed below, or not at all.
      if (next instanceof Promise) next.catch(() => {});
      if (!(await exchange.write(bytes, release))) return;
    }
    exchange.end();
  }

  /** At most `length` bytes, and at most a piece. */
  async #read(key: ObjectKey, offset: number, length: number): Promise<Piece | undefined> {
    const base = this.#base;
    if (!base.readInto || length <= smallSize) {
      const bytes = await base.get(key, { range: { offset, length } });
      return bytes && { bytes, release: () => {} };
    }
    const buffer = this.#buffers.take();
    const count = await base.readInto(key, buffer.subarray(0, length), offset);
    const release = (): void => this.#buffers.give(buffer);
    if (count === undefined) {
      release();
      return undefined;
    }
    if (count <= smallSize) {
      // A small object requested as a whole: the buffer of the piece is returned at once.
      const bytes = Buffer.from(buffer.subarray(0, count));
      release();
      return { bytes, release: () => {} };
    }
    return { bytes: buffer.subarray(0, count), release };
  }
}
