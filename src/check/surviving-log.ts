/**
 * The commits that can still be opened, in the store or among a device's copies (doc/security.md, "Salvage"). A commit
 * opens only on top of the one before it, whose hash is part of its key, so each loss also costs the one behind it. A
 * commit that opens was sealed by a holder of the volume's keys; `commit-proof.ts` decides which ones count.
 */
import { equalBytes, toHex } from '../base/bytes.js';
import type { Checkpoint } from '../commit/commit.js';
import type { CommitFields } from '../commit/commit-codec.js';
import { commitObjectMax } from '../commit/commit-codec.js';
import { CommitError } from '../commit/commit-error.js';
import type { Enrolment } from '../commit/enrolment.js';
import type { Genesis } from '../commit/genesis.js';
import { logKey, logPrefix, sequenceOfKey } from '../commit/log-name.js';
import { type OpenedCommit, openCommit } from '../commit/open-commit.js';
import type { Sequence } from '../commit/sequence.js';
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { ObjectStore } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import type { CommitCopies } from './commit-copies.js';
import type { VerifiedHistory } from './commit-proof.js';
import { CommitProof } from './commit-proof.js';

interface SurvivingCheckpoint extends Checkpoint {
  readonly sequence: Sequence;
}

/** `proven`: written by a device of the volume; `unproven`: other commits that open; `all`: both. */
export type Standing = 'proven' | 'unproven' | 'all';

/** A summary of the commits of one standing. */
export interface Survivors {
  readonly standing: 'proven' | 'all';
  /** The newest one; 0 without any. */
  readonly newest: number;
  /** Newest first, by the commits that they cover. */
  readonly checkpoints: readonly SurvivingCheckpoint[];
  /** Numbers without such a commit, ascending. */
  readonly lost: readonly number[];
}

interface Survey {
  readonly proven: Survivors;
  readonly all: Survivors;
  /** Numbers with an unproven commit, ascending. */
  readonly unproven: readonly number[];
  /** Numbers with no commit that opens, ascending. */
  readonly lost: readonly number[];
}

interface SurvivingLogOptions {
  readonly store: ObjectStore;
  readonly keys: VolumeKeys;
  readonly genesis: Genesis;
  readonly copies: CommitCopies;
  /** The history that this device has verified, if any. */
  readonly trust?: VerifiedHistory | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Each reading of the log may learn of devices that change the judgements of the one before. */
const readingsMax = 4;

export class SurvivingLog {
  readonly #options: SurvivingLogOptions;
  /** Hashes of unproven commits, as hex. */
  #unproven: ReadonlySet<string> = new Set();

  constructor(options: SurvivingLogOptions) {
    this.#options = options;
  }

  /** Reads the log up to number `at`. */
  async survey(at: number, onProgress?: (done: number, total: number) => void): Promise<Survey> {
    const end = Math.min(at, await this.#newestKnown());
    let devices: readonly Enrolment[] = [];
    for (let reading = 1; ; reading++) {
      const proof = new CommitProof(this.#options.genesis, devices, this.#options.trust);
      const survey = await this.#surveyOnce(proof, end, onProgress);
      this.#unproven = proof.unproven;
      if (!proof.isStale || reading === readingsMax) return survey;
      ({ devices } = proof);
    }
  }

  async #surveyOnce(proof: CommitProof, end: number, onProgress: ((done: number, total: number) => void) | undefined): Promise<Survey> {
    const proven = new Tally('proven');
    const all = new Tally('all');
    const unproven: number[] = [];
    const lost: number[] = [];
    for await (const { sequence, opened } of this.#openAll(0, end)) {
      onProgress?.(sequence, end);
      const one = proof.judge(opened);
      proven.add(sequence, one ? [one] : [], proof.isWhole);
      all.add(sequence, opened, false);
      if (opened.length === 0) lost.push(sequence);
      if (opened.length > (one ? 1 : 0)) unproven.push(sequence);
    }
    return { proven: proven.finish(), all: all.finish(), unproven, lost };
  }

  /** Commits with `after < sequence <= end`, ascending. Of several at one number the proven one comes last. */
  async *read(standing: Standing, after: number, end: number): AsyncGenerator<CommitFields, void> {
    for await (const { opened } of this.#openAll(after, end)) {
      const isUnproven = ({ hash }: OpenedCommit): boolean => this.#unproven.has(toHex(hash));
      if (standing !== 'proven') for (const one of opened) if (one.decoded && isUnproven(one)) yield one.decoded;
      if (standing !== 'unproven') for (const one of opened) if (one.decoded && !isUnproven(one)) yield one.decoded;
    }
  }

  /**
   * The commits that open at each number: none, one, or several that contradict each other; this device's copy comes
   * first.
   */
  async *#openAll(after: number, end: number): AsyncGenerator<{ readonly sequence: number; readonly opened: readonly OpenedCommit[] }, void> {
    let before = after === 0 ? [this.#options.keys.volumeId] : (await this.#candidates(after)).map(hashBytes);
    for (let sequence = after + 1; sequence <= end; sequence++) {
      this.#options.signal?.throwIfAborted();
      const candidates = await this.#candidates(sequence);
      const opened: OpenedCommit[] = [];
      for (const sealed of candidates) {
        const one = await this.#open(sequence, sealed, before);
        if (one) opened.push(one);
      }
      yield { sequence, opened };
      before = candidates.map(hashBytes);
    }
  }

  async #open(sequence: number, sealed: Uint8Array, before: readonly Uint8Array[]): Promise<OpenedCommit | undefined> {
    for (const previousHash of before) {
      try {
        return openCommit(this.#options.keys, sealed, sequence, previousHash);
      } catch (error) {
        if (!(error instanceof CommitError)) throw error;
      }
    }
    return undefined;
  }

  /** The bytes that may be commit `sequence`: the copy's, and the store's where they differ. */
  async #candidates(sequence: number): Promise<Uint8Array[]> {
    const { store, keys, copies } = this.#options;
    const candidates: Uint8Array[] = [];
    const copy = await copies.read(sequence).catch(() => undefined);
    if (copy) candidates.push(copy);
    try {
      const stored = await store.get(logKey(keys.root, sequence), { sizeMax: commitObjectMax });
      if (stored && !(copy && equalBytes(copy, stored))) candidates.push(stored);
    } catch (error) {
      // A store that fails for one object may still return others.
      if (!(error instanceof StoreError)) throw error;
    }
    return candidates;
  }

  /** The greatest number that is listed, copied or trusted. */
  async #newestKnown(): Promise<number> {
    const { store, keys, copies, trust } = this.#options;
    let newest = Math.max(copies.newest, trust?.head.sequence ?? 0);
    for await (const { key } of store.list(logPrefix)) newest = Math.max(newest, sequenceOfKey(keys.root, key) ?? 0);
    return newest;
  }
}

class Tally {
  readonly #standing: Survivors['standing'];
  readonly #checkpoints: SurvivingCheckpoint[] = [];
  readonly #lost: number[] = [];
  #newest = 0;

  constructor(standing: Survivors['standing']) {
    this.#standing = standing;
  }

  /** `isWhole`: nothing is lost at this number, even without a commit. */
  add(sequence: number, commits: readonly OpenedCommit[], isWhole: boolean): void {
    if (commits.length > 0) this.#newest = sequence;
    else if (!isWhole) this.#lost.push(sequence);
    for (const { decoded: commit } of commits) {
      if (commit?.checkpoint) this.#checkpoints.push({ ...commit.checkpoint, sequence: commit.sequence });
    }
  }

  finish(): Survivors {
    const checkpoints = this.#checkpoints.toSorted((a, b) => b.covers - a.covers || b.sequence - a.sequence);
    return { standing: this.#standing, newest: this.#newest, checkpoints, lost: this.#lost };
  }
}
