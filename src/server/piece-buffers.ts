/**
 * Memory for pieces of large objects on their way, used again and again: taking it anew for each would keep the garbage collector busier than the disk. Whoever takes a
 * buffer may keep it for ever, as one does whose client went away: then it is lost to the others, and no more than that.
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
