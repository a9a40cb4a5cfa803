/**
 * Reads the whole log as the store shows it: opens and verifies every commit, continues behind damage, and collects
 * what makes up the volume's newest state (doc/format.md, "Commit"). Unlike the log of the commit layer it belongs to
 * no device, trusts nothing and writes nothing.
 */
import { equalBytes, unlessMalformed } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import type { ChainState, LogPosition } from '../commit/chain.js';
import { chainBeforeCheckpoint, chainFromGenesis, extendChain } from '../commit/chain.js';
import type { Checkpoint, Mutation } from '../commit/commit.js';
import type { CommitFields } from '../commit/commit-codec.js';
import { commitObjectMax } from '../commit/commit-codec.js';
import { CommitError } from '../commit/commit-error.js';
import type { Genesis } from '../commit/genesis.js';
import { logKey, logPrefix, sequenceOfKey } from '../commit/log-name.js';
import { type KeyslotEntry, type Member, newestOfAuthors } from '../commit/log-state.js';
import { type OpenedCommit, openCommit } from '../commit/open-commit.js';
import type { Sequence } from '../commit/sequence.js';
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import { decodeKey, type TreeKey } from '../meta/key.js';
import { impliedEntries, type PackEntry } from '../meta/pack-entry.js';
import type { PackId } from '../pack/pack-id.js';
import type { ObjectStore } from '../store/object-store.js';
import type { FindingCode, Findings } from './finding.js';

interface LogSurveyOptions {
  readonly store: ObjectStore;
  readonly keys: VolumeKeys;
  readonly genesis: Genesis;
  readonly findings: Findings;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (done: number, total: number) => void;
  /** A commit that a device has verified, to be compared with the store's. */
  readonly anchor?: LogPosition | undefined;
}

export interface RecentCommit {
  readonly sequence: Sequence;
  /** With the entries that it implies for its packs. */
  readonly mutations: readonly Mutation[];
  readonly filesDelta: number;
  readonly bytesDelta: number;
}

interface SurveyedCommit extends RecentCommit {
  readonly previousOwn: Sequence;
  /** Whether it is known to count; behind damage, only the next checkpoint says so. */
  readonly isJudged: boolean;
}

export interface LogSurvey {
  /** The newest commit that opens, if any. */
  readonly head: LogPosition | undefined;
  readonly headWallTimeMs: number | undefined;
  /** The number of the newest commit that the store shows, readable or not. */
  readonly newest: number;
  readonly members: readonly Member[];
  /** The keyslots that the log lists in the end; `undefined` behind damage. */
  readonly keyslots: readonly KeyslotEntry[] | undefined;
  readonly checkpoint: (Checkpoint & { readonly sequence: Sequence }) | undefined;
  /** The commits that count after those that the checkpoint covers, ascending. */
  readonly recent: readonly RecentCommit[];
  /** What the commits that count say of each pack. */
  readonly packs: ReadonlyMap<PackId, PackEntry>;
  /** How many commits could be opened. */
  readonly commitCount: number;
  /** Whether the checkpoint and every commit after it were verified: then every device sees this state. */
  readonly isCurrentWhole: boolean;
}

/** How many commits are fetched ahead of the current one. */
const fetchWindow = 8;

interface Lost {
  readonly sequence: number;
  readonly code: FindingCode;
  readonly message: string;
}

export async function surveyLog(options: LogSurveyOptions): Promise<LogSurvey> {
  return new LogSurveyor(options).run();
}

class LogSurveyor {
  readonly #options: LogSurveyOptions;
  readonly #lost: Lost[] = [];
  readonly #packs = new Map<PackId, PackEntry>();
  /** `undefined` behind damage, up to the next checkpoint, which has the roster. */
  #state: ChainState | undefined;
  #members: readonly Member[];
  #head: LogPosition | undefined;
  #headWallTimeMs: number | undefined;
  #checkpoint: LogSurvey['checkpoint'];
  #recent: SurveyedCommit[] = [];
  #count = 0;

  constructor(options: LogSurveyOptions) {
    this.#options = options;
    this.#state = chainFromGenesis(options.keys.volumeId, options.genesis);
    this.#members = [];
  }

  async run(): Promise<LogSurvey> {
    const { keys, signal, anchor, onProgress } = this.#options;
    const listed = await this.#listNewest();
    let newest = 0;
    let anchorHash: Uint8Array | undefined = anchor?.sequence === 0 ? keys.volumeId : undefined;
    /** The hash of the object before, readable or not; `undefined` when it is missing. */
    let previousHash: Uint8Array | undefined = keys.volumeId;
    let isPreviousReadable = true;
    for await (const { sequence, sealed } of this.#fetchAll(listed)) {
      signal?.throwIfAborted();
      onProgress?.(sequence, Math.max(listed, sequence));
      if (!sealed) {
        this.#lose(sequence, 'COMMIT_MISSING', `commit ${sequence} is not in the store`);
        previousHash = undefined;
        isPreviousReadable = false;
        continue;
      }
      newest = sequence;
      const hash = hashBytes(sealed);
      if (sequence === anchor?.sequence) anchorHash = hash;
      isPreviousReadable = await this.#take(sequence, sealed, hash, previousHash, isPreviousReadable);
      previousHash = hash;
    }
    this.#compare(anchor, anchorHash, newest);
    const isCurrentWhole = this.#report();
    return {
      head: this.#head,
      headWallTimeMs: this.#headWallTimeMs,
      newest,
      members: this.#members,
      keyslots: this.#state?.log.keyslots,
      checkpoint: this.#checkpoint,
      recent: this.#recent,
      packs: this.#packs,
      commitCount: this.#count,
      isCurrentWhole,
    };
  }

  /** The greatest number that the store lists. It is a hint: later numbers are asked for as well. */
  async #listNewest(): Promise<number> {
    const { store, keys, findings, signal } = this.#options;
    let newest = 0;
    for await (const { key } of store.list(logPrefix, signal ? { signal } : {})) {
      const sequence = sequenceOfKey(keys.root, key);
      if (sequence === undefined) findings.add('OBJECT_FOREIGN', 'an object in the log that no device of this volume has written', { object: key });
      else newest = Math.max(newest, sequence);
    }
    return newest;
  }

  /** Every number up to the newest listed one, and those that follow it without a gap. */
  async *#fetchAll(listed: number): AsyncGenerator<{ readonly sequence: number; readonly sealed: Uint8Array | undefined }> {
    const { store, keys, signal } = this.#options;
    const fetching: Promise<Uint8Array | undefined>[] = [];
    let next = 1;
    try {
      for (let sequence = 1; ; sequence++) {
        while (next < sequence + fetchWindow && next <= Math.max(listed, sequence)) {
          const one = store.get(logKey(keys.root, next++), { sizeMax: commitObjectMax, ...(signal ? { signal } : {}) });
          one.catch(() => {});
          fetching.push(one);
        }
        const sealed = await fetching.shift();
        if (!sealed && sequence > listed) return;
        yield { sequence, sealed };
      }
    } finally {
      await Promise.allSettled(fetching);
    }
  }

  /** Opens and checks one commit. Returns whether it could be opened. */
  async #take(
    sequence: number,
    sealed: Uint8Array,
    hash: Uint8Array,
    previousHash: Uint8Array | undefined,
    isPreviousReadable: boolean,
  ): Promise<boolean> {
    const cutOff = `commit ${sequence} cannot be opened, since the one before it is missing or damaged`;
    if (!previousHash) {
      this.#lose(sequence, 'COMMIT_CUT_OFF', cutOff);
      return false;
    }
    let opened: OpenedCommit;
    try {
      opened = openCommit(this.#options.keys, sealed, sequence, previousHash);
    } catch (error) {
      if (!(error instanceof CommitError)) throw error;
      if (isPreviousReadable) this.#lose(sequence, 'COMMIT_DAMAGED', describeError(error));
      else this.#lose(sequence, 'COMMIT_CUT_OFF', cutOff);
      return false;
    }
    this.#count++;
    this.#head = { sequence: opened.sequence, hash };
    this.#follow(opened);
    return true;
  }

  /** Judges a commit by the rules of the chain, or only by its signature behind damage. */
  #follow(opened: OpenedCommit): void {
    this.#state ??= this.#beginAgain(opened);
    if (this.#state) {
      const { state, commit, void: broken } = extendChain(this.#state, opened);
      this.#state = state;
      this.#members = state.log.members;
      if (commit) this.#collect(commit, true);
      else this.#options.findings.add('COMMIT_VOID', `commit ${opened.sequence} does not count: ${broken.reason}`, { sequence: opened.sequence });
      return;
    }
    const author = this.#members.find(({ enrolment }) => enrolment.deviceId === opened.origin?.author);
    if (author && !opened.isSignedBy(author.enrolment.signingKey)) return;
    if (opened.decoded) this.#collect(opened.decoded, false);
  }

  /** Behind damage, a checkpoint says which of the commits before it count, beside everything else. */
  #beginAgain(opened: OpenedCommit): ChainState | undefined {
    const state = chainBeforeCheckpoint(opened, this.#options.genesis.ownerKey);
    if (!state) return undefined;
    const counting = new Set(newestOfAuthors(state.log));
    for (const { sequence, previousOwn } of this.#recent.toReversed()) if (counting.has(sequence)) counting.add(previousOwn);
    this.#recent = this.#recent.filter(({ isJudged, sequence }) => isJudged || counting.has(sequence));
    return state;
  }

  #collect(commit: CommitFields, isJudged: boolean): void {
    const { sequence, previousOwn, filesDelta, bytesDelta, checkpoint, packs, wallTimeMs } = commit;
    this.#headWallTimeMs = wallTimeMs;
    for (const [key, value] of commit.mutations) {
      const decoded = value === null && key.startsWith('P') ? unlessMalformed(() => decodeKey(key as TreeKey)) : undefined;
      if (decoded?.type === 'pack') this.#packs.delete(decoded.id);
    }
    for (const pack of packs) this.#packs.set(pack.id, { ...pack, birth: sequence });
    const mutations = [...commit.mutations, ...impliedEntries(sequence, packs)];
    this.#recent.push({ sequence, previousOwn, isJudged, mutations, filesDelta, bytesDelta });
    // Two devices may fold at the same time: the later checkpoint can then cover less, but both lead to the same state.
    if (!checkpoint || checkpoint.covers < (this.#checkpoint?.covers ?? 0)) return;
    this.#checkpoint = { ...checkpoint, sequence };
    this.#recent = this.#recent.filter((one) => one.sequence > checkpoint.covers);
  }

  #lose(sequence: number, code: FindingCode, message: string): void {
    this.#state = undefined;
    this.#lost.push({ sequence, code, message });
  }

  #compare(anchor: LogPosition | undefined, found: Uint8Array | undefined, newest: number): void {
    if (!anchor) return;
    const { findings } = this.#options;
    const { sequence } = anchor;
    if (newest < sequence)
      findings.add('LOG_ROLLED_BACK', `this device has seen commit ${sequence}, but the store ends at ${newest}: it went back`, { sequence });
    else if (found && !equalBytes(found, anchor.hash))
      findings.add('LOG_FORKED', `the store shows another commit ${sequence} than this device has seen`, { sequence });
  }

  /** Reports the losses. Returns whether the newest state needs none of them. */
  #report(): boolean {
    const { findings } = this.#options;
    const covers = this.#checkpoint?.covers ?? 0;
    let isWhole = this.#head !== undefined;
    for (const { sequence, code, message } of this.#lost) {
      // A device that begins at the checkpoint also needs the commit before it, whose hash is part of the key.
      const isNeeded = sequence > covers || sequence + 1 === this.#checkpoint?.sequence;
      if (isNeeded) isWhole = false;
      const role = isNeeded ? 'the newest state needs it' : 'only older history needs it';
      findings.add(code, `${message}; ${role}`, { sequence }, isNeeded ? 'fatal' : 'error');
    }
    if (!this.#head && this.#lost.length === 0) findings.add('COMMIT_MISSING', 'the log contains only the genesis', { sequence: 1 }, 'fatal');
    return isWhole;
  }
}
