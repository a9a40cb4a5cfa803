/**
 * Small reads that follow each other through a pack, answered from one larger read: files that were written together lie together, and a
 * request costs far more than the bytes around what it asks for. It keeps sealed bytes as the store sent them, for a short while; verifying
 * them is the reader's matter.
 */
import type { PackId } from './pack-id.js';

/** Reads up to `length` bytes of a pack, fewer only at its end. */
export type ReadPack = (pack: PackId, offset: number, length: number) => Promise<Uint8Array>;

interface Window {
  readonly pack: PackId;
  readonly start: number;
  /** What was asked for; the pack may end before. */
  readonly end: number;
  readonly bytes: Promise<Uint8Array>;
}

interface Trail {
  /** Where the last read ended. */
  end: number;
  /** How many reads in a row were near each other. */
  steps: number;
}

const smallMax = 96 * 1024;
/** A read this far behind the last one still follows it: other files' chunks lie between. */
const nearMax = 256 * 1024;
const windowFirst = 128 * 1024;
const windowMax = 1024 * 1024;
const windowsMax = 12;
const trailsMax = 64;

export class ReadWindows {
  readonly #read: ReadPack;
  /** Newest last. */
  #windows: Window[] = [];
  readonly #trails = new Map<PackId, Trail>();

  constructor(read: ReadPack) {
    this.#read = read;
  }

  /** `length` bytes at `offset`, or fewer where the pack ends. The bytes may be shared: do not change them. Rejects as the read does. */
  async read(pack: PackId, offset: number, length: number): Promise<Uint8Array> {
    if (length > smallMax) return this.#read(pack, offset, length);
    const held = this.#windows.find((window) => window.pack === pack && window.start <= offset && offset + length <= window.end);
    const steps = this.#follow(pack, offset, length);
    if (held) {
      const bytes = (await held.bytes).subarray(offset - held.start, offset - held.start + length);
      // It reached past the pack's end, or the pack was still growing: the store itself says.
      return bytes.byteLength === length ? bytes : this.#read(pack, offset, length);
    }
    if (steps === 0) return this.#read(pack, offset, length);
    const size = Math.min(windowMax, windowFirst * 2 ** Math.min(steps - 1, 3));
    const window: Window = { pack, start: offset, end: offset + Math.max(size, length), bytes: this.#read(pack, offset, Math.max(size, length)) };
    this.#windows.push(window);
    if (this.#windows.length > windowsMax) this.#windows.shift();
    try {
      return (await window.bytes).subarray(0, length);
    } catch (error) {
      this.#windows = this.#windows.filter((one) => one !== window);
      throw error;
    }
  }

  /** What is held of the pack is not to be used again: it did not verify. */
  forget(pack: PackId): void {
    this.#windows = this.#windows.filter((window) => window.pack !== pack);
  }

  /** Answers how many reads before this one led here. */
  #follow(pack: PackId, offset: number, length: number): number {
    const trail = this.#trails.get(pack) ?? { end: Number.NEGATIVE_INFINITY, steps: 0 };
    trail.steps = offset >= trail.end && offset - trail.end <= nearMax ? trail.steps + 1 : 0;
    trail.end = offset + length;
    this.#trails.delete(pack);
    this.#trails.set(pack, trail);
    if (this.#trails.size > trailsMax) this.#trails.delete(this.#trails.keys().next().value as PackId);
    return trail.steps;
  }
}
