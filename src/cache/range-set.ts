/** The byte ranges of a file that are present: disjoint half-open ranges in order, with neighbours joined. */

/** What a range costs on a disk is counted in blocks of this size. */
const blockSize = 4096;

export class RangeSet {
  /** start, end, start, end, ... strictly ascending. */
  readonly #bounds: number[] = [];

  get count(): number {
    return this.#bounds.length / 2;
  }

  /** Index of the first bound that is greater than (or, with `orEqual`, not less than) `at`. */
  #find(at: number, orEqual: boolean): number {
    let low = 0;
    let high = this.#bounds.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const bound = this.#bounds[middle]!;
      if (orEqual ? bound >= at : bound > at) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** Whether all of `start` to `end` (exclusive) is there; an empty range is. */
  covers(start: number, end: number): boolean {
    if (start >= end) return true;
    const index = this.#find(start, false);
    // An odd index is that of an end.
    return index % 2 === 1 && end <= this.#bounds[index]!;
  }

  add(start: number, end: number): void {
    if (start >= end) return;
    // Ranges that touch the new one are swallowed by it.
    const from = this.#find(start, true);
    const to = this.#find(end, false);
    const joined: number[] = [];
    if (from % 2 === 0) joined.push(start);
    if (to % 2 === 0) joined.push(end);
    this.#bounds.splice(from, to - from, ...joined);
  }

  /** Bytes that the ranges take on a disk, in whole blocks. */
  diskBytes(): number {
    let total = 0;
    let taken = 0;
    for (const [start, end] of this) {
      const first = Math.max(taken, Math.floor(start / blockSize) * blockSize);
      taken = Math.ceil(end / blockSize) * blockSize;
      total += taken - first;
    }
    return total;
  }

  *[Symbol.iterator](): Generator<readonly [start: number, end: number]> {
    for (let index = 0; index < this.#bounds.length; index += 2) yield [this.#bounds[index]!, this.#bounds[index + 1]!];
  }
}
