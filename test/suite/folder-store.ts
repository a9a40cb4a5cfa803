/** A store in one of several folders that a simulated sync client keeps alike (`synced-folders.ts`). */
import { equalBytes, toHex } from '../../src/base/bytes.js';
import { hashBytes } from '../../src/crypto/hash.js';
import type { Disk } from '../../src/disk/disk.js';
import { bodySize, readBodyPart } from '../../src/store/file-body.js';
import type { GetOptions, ListedObject, ObjectBody, ObjectKey, ObjectStore, PutOptions, PutOutcome } from '../../src/store/object-store.js';
import type { FileObject, Folder } from '../simulation/synced-folders.js';

/** The bytes of an object; the same object for the same bytes. */
export interface StoredFile extends FileObject {
  readonly bytes: Uint8Array;
}

export class FolderStore implements ObjectStore {
  readonly description = 'folder';
  readonly local = true;
  readonly #disk: Disk;
  readonly #folder: Folder;
  /** By hash; shared by the stores of all folders. */
  readonly #files: Map<string, StoredFile>;

  constructor(disk: Disk, folder: Folder, files: Map<string, StoredFile>) {
    this.#disk = disk;
    this.#folder = folder;
    this.#files = files;
  }

  /** What a reader finds: of a file that has not arrived completely, the first half. */
  #read(key: string): Uint8Array | undefined {
    const found = this.#folder.get(key);
    if (found === 'part') {
      const { object } = this.#folder.entry(key);
      const { bytes } = object as StoredFile;
      return bytes.subarray(0, bytes.byteLength >> 1);
    }
    return (found as StoredFile | undefined)?.bytes;
  }

  async get(key: ObjectKey, { range, signal }: GetOptions = {}): Promise<Uint8Array | undefined> {
    signal?.throwIfAborted();
    const bytes = this.#read(key);
    if (!bytes) return undefined;
    return new Uint8Array(range ? bytes.subarray(range.offset, range.offset + range.length) : bytes);
  }

  async head(key: ObjectKey): Promise<number | undefined> {
    return this.#read(key)?.byteLength;
  }

  async put(key: ObjectKey, body: ObjectBody, options: PutOptions = {}): Promise<PutOutcome> {
    options.signal?.throwIfAborted();
    const bytes = await readBodyPart(this.#disk, body, 0, bodySize(body));
    if (this.#folder.get(key) !== undefined) return 'exists';
    this.#folder.change(key, this.file(bytes));
    return 'created';
  }

  file(bytes: Uint8Array): StoredFile {
    const name = toHex(hashBytes(bytes));
    const known = this.#files.get(name);
    if (known && equalBytes(known.bytes, bytes)) return known;
    const file: StoredFile = { kind: 'pack', id: this.#files.size + 1, bytes: new Uint8Array(bytes) };
    this.#files.set(name, file);
    return file;
  }

  async *list(prefix: string, { after = '' }: { readonly after?: string } = {}): AsyncIterable<ListedObject> {
    const names = [...this.#folder.names(prefix)].filter((name) => name > after && !name.includes('.sync-conflict-'));
    for (const name of names.toSorted()) yield { key: name, size: this.#read(name)?.byteLength ?? 0 };
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    for (const key of keys) if (this.#folder.get(key) !== undefined) this.#folder.change(key, undefined);
  }

  async close(): Promise<void> {}
}
