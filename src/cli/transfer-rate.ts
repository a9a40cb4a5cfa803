/**
 * The rate of a transfer over the last seconds: packs arrive in large pieces, so one interval says little. It has no
 * clock; the caller passes the time.
 */

const windowMs = 15_000;
/** A shorter time says nothing. */
const sureMs = 1000;

export class TransferRate {
  /** Oldest first. */
  #samples: { readonly atMs: number; readonly bytes: number }[] = [];

  note(atMs: number, bytes: number): void {
    // The count is lower than before, so it has started again.
    if (bytes < (this.#samples.at(-1)?.bytes ?? 0)) this.#samples = [];
    this.#samples.push({ atMs, bytes });
    // One older sample stays, so that there is always a whole window.
    const newest = this.#samples.findLastIndex((sample) => sample.atMs <= atMs - windowMs);
    this.#samples.splice(0, Math.min(newest, this.#samples.length - 2));
  }

  /** Bytes a second; `undefined`: not known yet. */
  get perSecond(): number | undefined {
    const [first] = this.#samples;
    const last = this.#samples.at(-1);
    if (!first || !last || last.atMs - first.atMs < sureMs) return undefined;
    return ((last.bytes - first.bytes) * 1000) / (last.atMs - first.atMs);
  }
}
