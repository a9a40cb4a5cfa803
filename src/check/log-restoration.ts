/**
 * Puts lost commits and the genesis back into the log, from copies of this device whose hashes prove that they are the
 * right ones (doc/cli.md, "check, repair, salvage"). Nothing is overwritten, and nothing is put where another device
 * has continued the log.
 *
 * The proof goes from the newest commit back: the device's trust holds the hash of that one, and each commit opens only
 * on top of the right one before it. The volume id is the hash of the genesis.
 */

import type { Sealed } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import type { ChainState } from '../commit/chain.js';
import { commitObjectMax } from '../commit/commit-codec.js';
import { CommitError } from '../commit/commit-error.js';
import { genesisObjectMax } from '../commit/genesis.js';
import { logKey, logPrefix, sequenceOfKey } from '../commit/log-name.js';
import { type OpenedCommit, openCommit } from '../commit/open-commit.js';
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { Disk } from '../disk/disk.js';
import type { ObjectKey, ObjectStore } from '../store/object-store.js';
import { openBareVolume } from './bare-volume.js';
import type { CommitCopies } from './commit-copies.js';
import { openCommitCopies } from './commit-copies.js';
import { Findings } from './finding.js';
import { readLocalTrust } from './local-anchor.js';
import { RepairError } from './repair-error.js';

interface RestorationOptions {
  readonly store: ObjectStore;
  /** 32 bytes, borrowed. */
  readonly rootSecret: Uint8Array;
  readonly volumeId: Uint8Array;
  readonly random: Random;
  readonly disk: Disk;
  /** The state directory of this device, which no process has mounted. */
  readonly stateDirectory: string;
  readonly signal?: AbortSignal | undefined;
}

/** An object of the log; the genesis has number 0. */
export interface LogObject {
  readonly sequence: number;
  readonly object: ObjectKey;
}

interface RestorableObject extends LogObject {
  /** The hash of the copy, which is read again when it is put. */
  readonly hash: Uint8Array;
}

export interface LogRestoration {
  /** The newest commit that this device has verified; 0 when it has no history with the volume. */
  readonly seen: number;
  /** The newest commit that the store shows. */
  readonly newest: number;
  /** Missing from the store, with a proven copy here; ascending. */
  readonly restorable: readonly RestorableObject[];
  /** Missing from the store, without a copy here; ascending. */
  readonly lost: readonly LogObject[];
  /** In the store with wrong bytes, which are never overwritten; ascending. `hasCopy`: the right ones are here. */
  readonly damaged: readonly (LogObject & { readonly hasCopy: boolean })[];
}

/**
 * Changes nothing. Throws RepairError `FORKED`, `BEYOND_REPAIR` (no genesis anywhere), CommitError `BAD_STATE`,
 * StoreError, disk errors.
 */
export async function planLogRestoration(options: RestorationOptions): Promise<LogRestoration> {
  const { store, disk, stateDirectory, volumeId } = options;
  const copies = await openCommitCopies(disk, stateDirectory);
  const kept = await copies.read(0);
  const genesisCopy = kept && equalBytes(hashBytes(kept), volumeId) ? kept : undefined;
  const bare = await openBareVolume({ ...options, findings: new Findings(1), genesisCopy });
  if (!bare) throw new RepairError('BEYOND_REPAIR', 'the genesis of the volume is missing or damaged, and this device has no copy of it');
  const { keys } = bare;
  try {
    const trust = await readLocalTrust(options);
    const search = new RestorationSearch(store, keys, copies, trust, options.signal);
    await search.genesis(genesisCopy);
    await search.commits();
    return search.result;
  } finally {
    keys.root.wipe();
  }
}

/**
 * Puts back the restorable objects of the plan, the oldest first. Returns how many it put. Throws RepairError,
 * StoreError, disk errors.
 */
export async function restoreLog({ store, disk, stateDirectory, signal }: RestorationOptions, plan: LogRestoration): Promise<number> {
  const copies = await openCommitCopies(disk, stateDirectory);
  let count = 0;
  for (const { sequence, object, hash } of plan.restorable) {
    const bytes = (await copies.read(sequence)) as Sealed | undefined;
    if (!bytes || !equalBytes(hashBytes(bytes), hash))
      throw new RepairError('RACING', `the copy of commit ${sequence} has changed: run the command again`);
    const outcome = await store.put(object, bytes, { ifAbsent: true, ...(signal ? { signal } : {}) });
    if (outcome === 'exists') {
      const found = await store.get(object, { sizeMax: commitObjectMax });
      if (!found || !equalBytes(found, bytes)) throw forkedAt(sequence, 'meanwhile');
    } else count++;
  }
  return count;
}

function forkedAt(sequence: number, when: string): RepairError {
  return new RepairError('FORKED', `another device has put a commit ${sequence} of its own ${when}, where this device knows a different one`);
}

class RestorationSearch {
  readonly #store: ObjectStore;
  readonly #keys: VolumeKeys;
  readonly #copies: CommitCopies;
  readonly #trust: ChainState | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #restorable: RestorableObject[] = [];
  readonly #lost: LogObject[] = [];
  readonly #damaged: (LogObject & { readonly hasCopy: boolean })[] = [];
  #newest = 0;

  constructor(store: ObjectStore, keys: VolumeKeys, copies: CommitCopies, trust: ChainState | undefined, signal: AbortSignal | undefined) {
    this.#store = store;
    this.#keys = keys;
    this.#copies = copies;
    this.#trust = trust;
    this.#signal = signal;
  }

  get result(): LogRestoration {
    const ascending = (a: LogObject, b: LogObject): number => a.sequence - b.sequence;
    return {
      seen: this.#trust?.head.sequence ?? 0,
      newest: this.#newest,
      restorable: this.#restorable.toSorted(ascending),
      lost: this.#lost.toSorted(ascending),
      damaged: this.#damaged.toSorted(ascending),
    };
  }

  #objectAt(sequence: number): LogObject {
    return { sequence, object: logKey(this.#keys.root, sequence) };
  }

  /** `copy`: this device's, if it is the right one. */
  async genesis(copy: Uint8Array | undefined): Promise<void> {
    const at = this.#objectAt(0);
    const stored = await this.#store.get(at.object, { sizeMax: genesisObjectMax });
    if (!stored && copy) this.#restorable.push({ ...at, hash: this.#keys.volumeId });
    else if (stored && !equalBytes(hashBytes(stored), this.#keys.volumeId)) this.#damaged.push({ ...at, hasCopy: copy !== undefined });
  }

  async commits(): Promise<void> {
    const listed = await this.#list();
    const seen = this.#trust?.head.sequence ?? 0;
    const provable = this.#copies.oldest > 0 ? Math.min(this.#copies.oldest, seen + 1) : seen + 1;
    // Without a copy, a missing commit can only be reported as lost.
    for (let at = 1; at <= Math.max(seen, this.#newest); at++) {
      if ((at < provable || at > seen) && !listed.has(at) && !(await this.#stored(at))) this.#lost.push(this.#objectAt(at));
    }
    await this.#walkBack(seen, provable);
  }

  async #list(): Promise<ReadonlySet<number>> {
    const listed = new Set<number>();
    for await (const { key } of this.#store.list(logPrefix, this.#signal ? { signal: this.#signal } : {})) {
      const sequence = sequenceOfKey(this.#keys.root, key);
      if (sequence !== undefined) listed.add(sequence);
    }
    this.#newest = Math.max(0, ...listed);
    return listed;
  }

  /** From commit `from`, whose hash is trusted, down to `to`. */
  async #walkBack(from: number, to: number): Promise<void> {
    const { head, checkpoint } = this.#trust ?? { head: undefined, checkpoint: undefined };
    let expected = head?.hash;
    let stored = from >= to ? await this.#stored(from) : undefined;
    for (let at = from; at >= to && at > 0; at--) {
      this.#signal?.throwIfAborted();
      // Where the chain of hashes is broken, the hash of the newest checkpoint is known as well.
      if (!expected && at === checkpoint?.sequence) expected = checkpoint.hash;
      const copy = await this.#copies.read(at);
      const before = at > 1 ? await this.#stored(at - 1) : undefined;
      const isHere = expected !== undefined && copy !== undefined && equalBytes(hashBytes(copy), expected);
      const isThere = stored !== undefined && (!expected || equalBytes(hashBytes(stored), expected));
      const right = isHere ? copy : isThere && expected ? stored : undefined;
      const candidates = await this.#hashesBefore(at, before, checkpoint);
      if (!stored && isHere && expected) this.#restorable.push({ ...this.#objectAt(at), hash: expected });
      else if (!stored) this.#lost.push(this.#objectAt(at));
      else if (!isThere) {
        // If it opens, a holder of the keys has put it: it belongs to another history and is not damaged.
        if (await this.#openOn(stored, at, candidates)) throw forkedAt(at, 'in the store');
        this.#damaged.push({ ...this.#objectAt(at), hasCopy: isHere });
      }
      expected = right && (await this.#openOn(right, at, candidates))?.previousHash;
      stored = before;
    }
  }

  /** Possible hashes of the commit before `at`. */
  async #hashesBefore(at: number, stored: Uint8Array | undefined, checkpoint: ChainState['checkpoint']): Promise<Uint8Array[]> {
    if (at === 1) return [this.#keys.volumeId];
    const copy = await this.#copies.read(at - 1);
    const hashes = [stored, copy].filter((bytes) => bytes !== undefined).map(hashBytes);
    return at === checkpoint?.sequence ? [...hashes, checkpoint.previousHash] : hashes;
  }

  async #openOn(sealed: Uint8Array, sequence: number, hashes: readonly Uint8Array[]): Promise<OpenedCommit | undefined> {
    for (const hash of hashes) {
      try {
        return openCommit(this.#keys, sealed, sequence, hash);
      } catch (error) {
        if (!(error instanceof CommitError)) throw error;
      }
    }
    return undefined;
  }

  #stored(sequence: number): Promise<Uint8Array | undefined> {
    return this.#store.get(logKey(this.#keys.root, sequence), { sizeMax: commitObjectMax, ...(this.#signal ? { signal: this.#signal } : {}) });
  }
}
