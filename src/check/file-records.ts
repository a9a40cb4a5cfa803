/**
 * The records of each file in a volume's state, in the order of inode numbers: inode and extents, joined from the two
 * streams that hold them (doc/format.md, "Tree keys"). A record that does not decode counts as lost.
 */
import { equalBytes, MalformedBytesError } from '../base/bytes.js';
import type { Extent } from '../meta/extent.js';
import { decodeExtent } from '../meta/extent.js';
import type { Inode } from '../meta/inode.js';
import { decodeInode } from '../meta/inode.js';
import type { DecodedKey, Ino, TreeKey } from '../meta/key.js';
import { decodeKey } from '../meta/key.js';
import type { Entry } from './state-entries.js';

/** The surviving part of the key space. */
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
  /** `undefined` when it is lost: then only the extents are known. */
  readonly inode: Inode | undefined;
  readonly extents: readonly PlacedExtent[];
  /** Inode and extents as they are stored, for comparison. */
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

/** Whether two records of one file are equal. */
export function isSameRecord(a: FileRecord, b: FileRecord): boolean {
  if (a.raw.length !== b.raw.length || a.extents.length !== b.extents.length) return false;
  const areEqual = (bytes: Uint8Array, other: Uint8Array | undefined): boolean => other !== undefined && equalBytes(bytes, other);
  return a.raw.every((bytes, index) => areEqual(bytes, b.raw[index])) && a.extents.every(({ offset }, index) => offset === b.extents[index]?.offset);
}

type KeyOf<T extends 'inode' | 'extent'> = Extract<DecodedKey, { readonly type: T extends 'inode' ? 'inode' | 'orphan' : T }>;

/** A stream of entries, one at a time, without keys of other types. */
class Cursor<T extends 'inode' | 'extent'> {
  readonly #batches: AsyncIterator<readonly Entry[]>;
  readonly #type: T;
  #batch: IterableIterator<Entry> = [].values();
  #next: { readonly key: KeyOf<T>; readonly value: Uint8Array } | undefined;

  constructor(batches: AsyncIterable<readonly Entry[]>, type: T) {
    this.#batches = batches[Symbol.asyncIterator]();
    this.#type = type;
  }

  async peek(): Promise<{ readonly key: KeyOf<T>; readonly value: Uint8Array } | undefined> {
    while (!this.#next) {
      const entry = this.#batch.next();
      if (entry.done) {
        const batch = await this.#batches.next();
        if (batch.done) return undefined;
        this.#batch = batch.value.values();
        continue;
      }
      const [text, value] = entry.value;
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

/** `undefined` when `decode` fails with MalformedBytesError. */
export function decodedValue<T>(decode: () => T): T | undefined {
  try {
    return decode();
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}
