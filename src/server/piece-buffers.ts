/**
 * Reusable memory for pieces of large objects: allocating it for each piece would keep the garbage collector busier
 * than the disk. A user may keep a buffer for ever, as one does whose client disconnected: it is then lost to the
 * others, and nothing else happens.
 */

export const pieceSize = 512 * 1024;

export class PieceBuffers {
  readonly #free: Buffer[] = [];
  readonly #keepMax: number;

  /** Of those that are given back at most `keepMax` are kept. */
  constructor(keepMax = 32) {
    this.#keepMax = keepMax;
  }

  /** `pieceSize` bytes, with whatever was in them. */
  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(pieceSize);
  }

  /** Nobody looks at it any more. */
  give(buffer: Buffer): void {
    if (this.#free.length < this.#keepMax) this.#free.push(buffer);
  }
}
