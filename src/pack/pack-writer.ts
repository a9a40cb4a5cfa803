/** A staging pack on the local disk: skeleton, the signatures only. */
import type { Plaintext, Sealed } from '../base/brand.js';
import type { Disk } from '../disk/disk.js';
import type { FileBody } from '../store/object-store.js';
import type { PackId } from './pack-id.js';
import type { PackKeys } from './pack-keys.js';
import type { PageReference } from './page-reference.js';

export interface PackWriterOptions {
  readonly disk: Disk;
  readonly path: string;
  readonly id: PackId;
  readonly keys: PackKeys;
}

export interface PackItem {
  readonly kind: 'chunk' | 'page';
  readonly offset: number;
  readonly sealedLength: number;
}

/** A run of chunks side by side, as `DataExtent` holds it. */
export interface RunPlace {
  readonly pack: PackId;
  readonly packOffset: number;
  readonly chunks: readonly { readonly plainLength: number; readonly sealedLength: number }[];
}

export interface FinishedPack extends FileBody {
  readonly id: PackId;
}

export declare class PackWriter {
  /** A new, empty pack; the file must not exist. The name becomes durable with the first {@link PackWriter.sync}. */
  static create(options: PackWriterOptions): Promise<PackWriter>;
  /** After a crash: keeps what lies below the end of the last of `items` (ascending), drops the rest. A pack that was finished stays finished. */
  static resume(options: PackWriterOptions, items: readonly PackItem[]): Promise<PackWriter>;
  readonly id: PackId;
  readonly path: string;
  /** Sealed bytes allocated so far; of a finished pack, the whole file. */
  readonly size: number;
  readonly itemCount: number;
  readonly finished: boolean;
  /**
   * Seals chunks side by side, in call order with other appends. Resolves when they are in the file (not yet synced).
   * The plaintexts are borrowed until then. Throws PackError FULL or IO, having appended nothing.
   */
  appendRun(chunks: readonly Plaintext[], options?: { readonly compress?: boolean }): Promise<RunPlace>;
  appendPage(page: Plaintext): Promise<PageReference>;
  /** The sealed bytes of an item whose append has resolved. */
  read(offset: number, length: number): Promise<Sealed>;
  /** All appends that have resolved survive power loss, with the file's name. */
  sync(): Promise<void>;
  /** Adds index and footer and syncs; no appends afterwards. Again on a finished pack: the same answer. */
  finish(): Promise<FinishedPack>;
  /** Closes the file, and leaves it. Waits for what is under way. */
  close(): Promise<void>;
}
