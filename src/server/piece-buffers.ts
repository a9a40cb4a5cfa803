/**
 * Reusable memory for pieces of large objects: allocating it for each piece would keep the garbage collector busier
 * than the disk. A buffer that is never given back, as when a client disconnects, is merely
 * not reused.
 */

export const pieceSize = 512 * 1024;

export class PieceBuffers {
  readonly #free: Buffer[] = [];
  readonly #keepMax: number;

  /** At most `keepMax` returned buffers are kept. */
  constructor(keepMax = 32) {
    this.#keepMax = keepMax;
  }

  /** `pieceSize` bytes with arbitrary content. */
  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(pieceSize);
  }

  /** Returns a buffer that nobody uses any more. */
  give(buffer: Buffer): void {
    if (this.#free.length < this.#keepMax) this.#free.push(buffer);
  }
}
