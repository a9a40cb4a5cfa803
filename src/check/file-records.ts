/**
 * What a volume's state says of each file, one after the other in the order of inode numbers: its inode and its extents, joined from the two streams that
 * hold them. What does not decode is as good as lost.
 */
import { equalBytes, MalformedBytesError } from '../base/bytes.js';
import type { Extent } from '../meta/extent.js';
import { decodeExtent } from '../meta/extent.js';
import type { Inode } from '../meta/inode.js';
import { decodeInode } from '../meta/inode.js';
import type { DecodedKey, Ino, TreeKey } from '../meta/key.js';
import { decodeKey } from '../meta/key.js';
import type { Entry } from './state-entries.js';

/** The key space, as far as there is one. */
export interface EntrySource {
  /** Entries with `from <= key < to`, ascending; values borrowed. */
  entries(from: string, to: string): AsyncIterable<readonly Entry[]>;
}

export interface PlacedExtent {
  readonly offset: number;
  readonly extent: Extent;
}

export interface FileRecord {
  readonly ino: Ino;
  /** `undefined`: it is lost, and the extents tell as much as there is to tell. */
  readonly inode: Inode | undefined;
  readonly extents: readonly PlacedExtent[];
  /** Inode and extents as they are stored, to be compared. */
  readonly raw: readonly Uint8Array[];
}

export async function* fileRecords(source: EntrySource): AsyncGenerator<FileRecord, void> {
  const inodes = new Cursor(source.entries('I', 'J'), 'inode');
  const extents = new Cursor(source.entries('E', 'F'), 'extent');
  for (;;) {
    const [inode, extent] = [await inodes.peek(), await extents.peek()];
    if (!inode && !extent) return;
    const ino = Math.min(inode?.key.ino ?? Infinity, extent?.key.ino ?? Infinity) as Ino;
    const raw: Uint8Array[] = [];
    let decoded: Inode | undefined;
    if (inode?.key.ino === ino) {
      inodes.advance();
      decoded = decodedValue(() => decodeInode(inode.value));
      if (decoded) raw.push(inode.value);
    }
    const placed: PlacedExtent[] = [];
    for (let next = extent; next?.key.ino === ino; next = await extents.peek()) {
      extents.advance();
      const { key, value } = next;
      const one = decodedValue(() => decodeExtent(value));
      if (!one) continue;
      placed.push({ offset: key.offset, extent: one });
      raw.push(value);
    }
    if (raw.length > 0) yield { ino, inode: decoded, extents: placed, raw };
  }
}

/** Whether two records of one file say the same. */
export function isSameRecord(a: FileRecord, b: FileRecord): boolean {
  if (a.raw.length !== b.raw.length || a.extents.length !== b.extents.length) return false;
  return a.raw.every((bytes, index) => equalBytes(bytes, b.raw[index])) && a.extents.every(({ offset }, index) => offset === b.extents[index].offset);
}

type KeyOf<T extends 'inode' | 'extent'> = Extract<DecodedKey, { readonly type: T extends 'inode' ? 'inode' | 'orphan' : T }>;

/** A stream of entries, one at a time; keys of another type are passed over. */
class Cursor<T extends 'inode' | 'extent'> {
  readonly #batches: AsyncIterator<readonly Entry[]>;
  readonly #type: T;
  #batch: readonly Entry[] = [];
  #at = 0;
  #next: { readonly key: KeyOf<T>; readonly value: Uint8Array } | undefined;

  constructor(batches: AsyncIterable<readonly Entry[]>, type: T) {
    this.#batches = batches[Symbol.asyncIterator]();
    this.#type = type;
  }

  async peek(): Promise<{ readonly key: KeyOf<T>; readonly value: Uint8Array } | undefined> {
    while (!this.#next) {
      while (this.#at >= this.#batch.length) {
        const batch = await this.#batches.next();
        if (batch.done) return undefined;
        this.#batch = batch.value;
        this.#at = 0;
      }
      const [text, value] = this.#batch[this.#at++];
      const key = decodedKey(text);
      if (key?.type === this.#type) this.#next = { key: key as KeyOf<T>, value };
    }
    return this.#next;
  }

  advance(): void {
    this.#next = undefined;
  }
}

export function decodedKey(key: string): DecodedKey | undefined {
  return decodedValue(() => decodeKey(key as TreeKey));
}

/** `undefined` for what does not decode. */
export function decodedValue<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}
