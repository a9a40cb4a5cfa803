/** Reads chunks and pages wherever they are: skeleton, the signatures only. */
import type { Plaintext } from '../base/brand.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { ObjectStore } from '../store/object-store.js';
import type { PackId } from './pack-id.js';
import type { PackKeys } from './pack-keys.js';
import type { PackWriter, RunPlace } from './pack-writer.js';
import type { PageReference } from './page-reference.js';

export interface PackSourceOptions {
  readonly store: ObjectStore;
  readonly keys: PackKeys;
  /** Packs that are still on the local disk only, by id: the owner adds and removes them. */
  readonly staging: ReadonlyMap<PackId, Pick<PackWriter, 'read'>>;
  /** Bytes of opened chunks kept in memory. */
  readonly memoryMax?: number;
}

export declare class PackSource {
  constructor(options: PackSourceOptions);
  /** The chunk's plaintext, borrowed (do not change it): at once when it is in memory. Throws PackError, StoreError. */
  readChunk(pack: PackId, offset: number, plainLength: number, sealedLength: number): MaybePromise<Plaintext>;
  /** Chunks `first` to `last` (inclusive) of a run, borrowed; neighbours that are not in memory come with one request. */
  readRun(run: RunPlace, first: number, last: number): MaybePromise<readonly Plaintext[]>;
  /** Begins to load what is not there yet; errors are left for the read that follows. */
  prefetchRun(run: RunPlace, first: number, last: number): void;
  /** Verified against the reference's hash and opened; owned by the caller. */
  readPage(reference: PageReference): Promise<Plaintext>;
}
