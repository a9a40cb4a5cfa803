/**
 * The log as one device reads and extends it (doc/format.md, "Commit"; doc/security.md). It fetches, verifies, remembers and appends
 * commits; what their mutations mean is the volume's business. The rules of the chain are `chain.ts`.
 *
 * One call of `poll`, `put`, `forget` or `commitsUpToHead` at a time: the volume's commit lock sees to that.
 */
import { join } from 'node:path';
import { assert } from '../base/assert.js';
import type { Sealed } from '../base/brand.js';
import { equalBytes, toHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { Random } from '../base/random.js';
import { CryptoError } from '../crypto/crypto-error.js';
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { Disk } from '../disk/disk.js';
import { HeldDirectory } from '../disk/held-directory.js';
import { ensureDirectory, replaceFile } from '../disk/whole-file.js';
import type { ObjectKey, ObjectStore } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import type { ChainState, LogPosition, Member } from './chain.js';
import { chainBeforeCheckpoint, chainFromGenesis, extendChain, nextCommit } from './chain.js';
import type { Commit, CommitDraft, DeviceId, Enrolment, Sequence } from './commit.js';
import type { CommitFields, DecodedCommit } from './commit-codec.js';
import { commitObjectMax, commitPlainMax, decodeCommit, encodeCommit, padCommit } from './commit-codec.js';
import { CommitError } from './commit-error.js';
import type { Device } from './device.js';
import { loadDevice, newDevice, saveDevice } from './device.js';
import { deviceLabel, isoTime } from './device-label.js';
import { readGenesis } from './genesis.js';
import { LocalLog } from './local-log.js';
import type { GapSearch } from './log-gap.js';
import { findGap, showsCommit } from './log-gap.js';
import { commitPlace, logKey, sequenceName } from './log-name.js';
import { openCommit } from './open-commit.js';
import type { TrustFile } from './trust-state.js';
import { loadTrust, saveTrust } from './trust-state.js';

export interface CommitLogOptions {
  readonly store: ObjectStore;
  /** With the genesis's epoch. */
  readonly keys: VolumeKeys;
  readonly disk: Disk;
  /** The state directory: `device`, `trust` and `log/` are in it. It exists. */
  readonly stateDirectory: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What this device calls itself, if it must enrol. */
  readonly deviceName: string;
  readonly readOnly: boolean;
  /** For identities. */
  readonly random: Random;
  /** What another device has shown: the log must contain it. */
  readonly headCode?: HeadCode | undefined;
  /** Called before this device enrols, with how many others there are; what it throws ends the opening. */
  readonly beforeEnrolment?: ((otherDevices: number) => Promise<void>) | undefined;
}

/** A commit as people compare it between two devices: its number, and the beginning of its hash as hex. */
export interface HeadCode {
  readonly sequence: number;
  readonly hashStart: string;
}

/** One poll answers at most this much; the next one goes on. */
const pollCountMax = 512;
const pollBytesMax = 64 * 1024 * 1024;
/** Commits fetched at once while catching up. */
const fetchWindowMax = 16;
/** Where it is known that there are as many: on a new device they may be hundreds, and each window costs a round trip. */
const knownWindowMax = 64;
/** Numbers asked for at once while the newest commit is looked for. */
const probesAtOnce = 12;
/** Each of several at once; what is larger comes alone. */
const windowCommitMax = 1024 * 1024;
/** Where holes are looked for at a start: one page of a list in most stores, and as many questions as go side by side. */
const startGaps = { recentMax: 900, askedMax: 32 };
/** While it runs, so often that the answers should be small. */
const runningGaps = { recentMax: 64, askedMax: 0 };
/** A look around the head counts this long for what is put. */
const lookFreshMs = 2000;
/** Every so many polls that find nothing, the store is asked whether it still has what it had, unless the caller decides. */
const emptyPollsPerCheck = 8;

/**
 * `proven`: the store showed what this device had seen, or more; `unproven`: this device had seen nothing that it could compare with;
 * `offline`: the store could not be asked.
 */
export type Freshness = 'proven' | 'unproven' | 'offline';

export class CommitLog {
  readonly #options: CommitLogOptions;
  readonly #local: LocalLog;
  readonly #directory: HeldDirectory;
  readonly #device: Device;
  readonly #trust: TrustFile;
  #state: ChainState;
  #lastCheckpoint: Commit | undefined;
  #freshness: Freshness;
  #emptyPolls = 0;
  /** When each device wrote its newest commit that was read here, by its own clock. */
  readonly #signs = new Map<DeviceId, { readonly sequence: number; readonly wallTimeMs: number }>();
  /** When the store last answered for all that is behind the head, by our clock. */
  #answeredMs: number | undefined;
  /** When `look` last found nothing wrong, and at which head. */
  #looked: { readonly sequence: Sequence; readonly atMs: number } | undefined;
  /** Hashes of what this process tried to put at head + 1. */
  readonly #attempts = new Set<string>();
  /** The one number under which an own commit may be that this process did not put: a crash cut it off from its answer, or it is still under way. */
  readonly #leftoverSequence: number;

  private constructor(options: CommitLogOptions, directory: HeldDirectory, device: Device, start: { state: ChainState; freshness: Freshness }) {
    this.#options = options;
    this.#directory = directory;
    this.#local = new LocalLog(options.disk, options.stateDirectory);
    this.#device = device;
    this.#trust = trustFileOf(options, device);
    this.#state = start.state;
    this.#freshness = start.freshness;
    this.#leftoverSequence = start.state.head.sequence + 1;
  }

  /**
   * Opens the log in this device's trust: verifies what it knows against the store (offline: against its own copies), enrols the device if it is new
   * (not when read-only). `head` is then the newest commit whose trust was persisted. Throws CommitError, StoreError, disk errors.
   */
  static async open(options: CommitLogOptions): Promise<CommitLog> {
    const { disk, stateDirectory, keys, deviceName } = options;
    await new LocalLog(disk, stateDirectory).prepare();
    const directory = await HeldDirectory.hold(disk, stateDirectory);
    const known = await loadDevice(disk, stateDirectory, keys.device);
    let device = known;
    if (!device) {
      const made = newDevice(deviceName, options.random);
      device = made.device;
      await saveDevice(disk, stateDirectory, keys.device, device, made.seed);
      made.seed.fill(0);
    }
    const trusted = await loadTrust(trustFileOf(options, device));
    const state = trusted ?? (await chainOfGenesis(options));
    const log = new CommitLog(options, directory, device, { state, freshness: trusted ? 'proven' : 'unproven' });
    if (trusted) await log.#verifyKnown();
    else {
      // It has been here before and does not know how far it got: only the whole log can tell its counters.
      if (known) await log.#catchUp();
      const readFrom = known ? 1 : await log.#beginAtNewest();
      await log.#checkGaps({ ...startGaps, readFrom, random: options.random });
    }
    if (options.headCode) await log.#verifyHeadCode(options.headCode);
    if (!options.readOnly && !log.#member()) await log.#enrol(!trusted);
    await log.#loadCheckpoint();
    return log;
  }

  get deviceId(): DeviceId {
    return this.#device.id;
  }

  /** -1 while this device is not enrolled (read-only). */
  get deviceIndex(): number {
    return this.#member()?.enrolment.deviceIndex ?? -1;
  }

  /** Everybody enrolled, by index. */
  get roster(): readonly Enrolment[] {
    return this.#state.members.map(({ enrolment }) => enrolment);
  }

  /** The roster with each device's newest commit: its last proof of life. */
  get members(): readonly Member[] {
    return this.#state.members;
  }

  /** The newest commit that was verified and persisted in the trust state. */
  get head(): LogPosition {
    return this.#state.head;
  }

  /** `unproven` on a device that has no history of its own; `offline` while the store could not be asked. */
  get freshness(): Freshness {
    return this.#freshness;
  }

  /**
   * When a device wrote its newest commit that was read here, by its own clock, in milliseconds since 1970; `undefined`: not since the
   * newest checkpoint. Signed, so the store cannot invent it: a store that withholds commits lets it grow old.
   */
  signOfLifeMs(device: DeviceId): number | undefined {
    return this.#signs.get(device)?.wallTimeMs;
  }

  /**
   * The newest sign of life of any other device, in milliseconds since 1970. Since each commit follows all before it, it is also until when nothing can
   * have been withheld. Undefined: not since the newest checkpoint, or there is no other device.
   */
  get newestSignOfOthersMs(): number | undefined {
    const others = [...this.#signs].filter(([deviceId]) => deviceId !== this.#device.id);
    return others.length === 0 ? undefined : Math.max(...others.map(([, { wallTimeMs }]) => wallTimeMs));
  }

  /** When the store last answered a poll, by our clock, in milliseconds since 1970. */
  get answeredMs(): number | undefined {
    return this.#answeredMs;
  }

  /** The newest commit with a checkpoint up to `head`, if any. */
  get lastCheckpoint(): Commit | undefined {
    return this.#lastCheckpoint;
  }

  /** What this device's own newest commit up to `head` says; zeros without one. */
  get own(): { readonly nextInoCounter: number; readonly operationSerial: number } {
    const newest = this.#member()?.newest;
    return { nextInoCounter: newest?.nextInoCounter ?? 0, operationSerial: newest?.operationSerial ?? 0 };
  }

  #member(): Member | undefined {
    return this.#state.members.find(({ enrolment }) => enrolment.deviceId === this.#device.id);
  }

  // --- Opening

  /** Asks the store for what this device has seen, and for what came since. */
  async #verifyKnown(): Promise<void> {
    try {
      await this.#verifyStore();
      // What has long been missed comes in parts, while the volume is used already.
      await this.#pollOnce();
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'UNAVAILABLE') throw error;
      this.#freshness = 'offline';
      this.#options.logger.warn('the store cannot be reached; the log is opened as it was', { sequence: this.head.sequence });
    }
  }

  /** `newest`: how far the log is likely to go. */
  async #catchUp(newest = 0): Promise<void> {
    while (!(await this.#pollOnce({ isOpening: true, newest })).isAtEnd);
    await this.#persist([]);
  }

  /** A device without history: begins at the newest checkpoint that the store shows. Answers the first commit that it read. */
  async #beginAtNewest(): Promise<number> {
    const newest = await this.#probeNewest();
    const checkpoint = newest === 0 ? undefined : await this.#findCheckpoint(newest);
    if (checkpoint) this.#state = checkpoint;
    const first = this.head.sequence + 1;
    await this.#catchUp(newest);
    // A volume is made with its first commit, which holds the root directory: an empty log is a log that is withheld.
    if (this.head.sequence === 0) throw new CommitError('MISSING', 'the store shows no commit of the volume', { sequence: 1 });
    this.#options.logger.info('begins with the log as the store shows it; whether it is the newest cannot be proven', {
      sequence: this.head.sequence,
    });
    return first;
  }

  /**
   * The sequence of the newest commit, as the store tells it: a hint. Doubles, then divides, with several questions at once: over a network those that do
   * not wait for each other cost one round trip together. A LIST of a long log would take minutes.
   */
  async #probeNewest(): Promise<number> {
    const { store, keys } = this.#options;
    const exists = (sequence: number): Promise<boolean> => showsCommit({ store, root: keys.root }, sequence);
    /** How many of ascending numbers are there before the first that is not. */
    const countPresent = async (sequences: readonly number[]): Promise<number> => {
      const found = await Promise.all(sequences.map(exists));
      return found.includes(false) ? found.indexOf(false) : found.length;
    };
    let low = 0;
    let high = 0;
    for (let first = 1; high === 0; first *= 2 ** probesAtOnce) {
      if (first > 2 ** 40) throw new CommitError('MALFORMED', 'the store claims to have a log without end');
      const powers = Array.from({ length: probesAtOnce }, (_, index) => first * 2 ** index);
      const present = await countPresent(powers);
      low = present > 0 ? powers[present - 1] : low;
      high = powers[present] ?? 0;
    }
    while (high - low > 1) {
      const step = Math.ceil((high - low) / (probesAtOnce + 1));
      const points: number[] = [];
      for (let at = low + step; at < high; at += step) points.push(at);
      const present = await countPresent(points);
      low = present > 0 ? points[present - 1] : low;
      high = points[present] ?? high;
    }
    return low;
  }

  /** The state before the checkpoint that commit `newest` is or names, or `undefined` when there is none yet. */
  async #findCheckpoint(newest: number): Promise<ChainState | undefined> {
    let { commit } = await this.#openUnlinked(newest, newest);
    if (!commit.checkpoint) {
      if (commit.lastCheckpoint === 0) return undefined;
      ({ commit } = await this.#openUnlinked(commit.lastCheckpoint, newest));
    }
    if (!commit.checkpoint) throw new CommitError('MALFORMED', `commit ${commit.sequence} is no checkpoint`, { sequence: commit.sequence });
    return chainBeforeCheckpoint(commit);
  }

  /** Commit `sequence` on top of whatever the store shows before it. */
  async #openUnlinked(sequence: number, newest: number): Promise<DecodedCommit> {
    const [before, sealed] = await Promise.all([this.#fetch(sequence - 1), this.#fetch(sequence)]);
    if (!before || !sealed) throw gapError(before ? sequence : sequence - 1, newest);
    return this.#open(sealed, sequence, hashBytes(before));
  }

  /** Throws CommitError: `ROLLBACK` when the log ends before what another device has seen, `FORK` when it is another one. */
  async #verifyHeadCode({ sequence, hashStart }: HeadCode): Promise<void> {
    await this.#catchUp();
    const { head } = this.#state;
    const evidence = { sequence, expectedHash: hashStart };
    if (head.sequence < sequence)
      throw new CommitError('ROLLBACK', `the store shows ${head.sequence} commits, the head code is of ${sequence}`, evidence);
    let found = head.hash;
    for (let at = head.sequence as number; at > sequence; at--) found = await this.#hashBefore(at, found);
    const foundHash = toHex(found);
    if (!foundHash.startsWith(hashStart))
      throw new CommitError('FORK', `commit ${sequence} is not the one of the head code`, { ...evidence, foundHash });
    this.#freshness = 'proven';
  }

  /** `isCaughtUp`: the head was the newest commit just now. */
  async #enrol(isCaughtUp: boolean): Promise<void> {
    const draft: CommitDraft = {
      wallTimeMs: this.#options.clock.now().sec * 1000,
      nextInoCounter: 0,
      operationSerial: 0,
      filesDelta: 0,
      bytesDelta: 0,
      packs: [],
      checkpoint: undefined,
      mutations: [],
    };
    for (let isAtNewest = isCaughtUp; ; isAtNewest = false) {
      // At the newest commit, since a lost race costs an attempt; it may also turn out that an earlier attempt succeeded.
      if (!isAtNewest) await this.#catchUp();
      if (this.#member()) return;
      // The first one made the volume and writes nothing more.
      await this.#options.beforeEnrolment?.(this.#state.members.length - 1);
      const { id: deviceId, name, signer } = this.#device;
      const enrolment = { deviceId, deviceIndex: this.#state.members.length, publicKey: signer.publicKey, name };
      if ((await this.#put(draft, enrolment, undefined)) !== 'lost') return;
    }
  }

  async #loadCheckpoint(): Promise<void> {
    const link = this.#state.checkpoint;
    if (!link || this.#lastCheckpoint) return;
    this.#lastCheckpoint = await this.#readKnown(link.sequence, link.hash, link.previousHash);
  }

  // --- Reading

  /** Verified commits with `after < sequence <= head`, ascending, from the local copies or the store. Throws CommitError, StoreError. */
  async *commitsUpToHead(after: Sequence): AsyncGenerator<Commit, void> {
    const { head } = this.#state;
    if (after >= head.sequence) return;
    // The hashes first, from the head back: a commit opens only on top of the right one before it.
    const hashes: Uint8Array[] = [head.hash];
    for (let sequence = head.sequence as number; sequence > after; sequence--)
      hashes.push(await this.#hashBefore(sequence, hashes[hashes.length - 1]));
    hashes.reverse();
    for (let index = 1; index < hashes.length; index++) yield await this.#readKnown(after + index, hashes[index], hashes[index - 1]);
  }

  /** The hash of the commit before `sequence`, which hashes to `hash`: proven by the seal of the latter. */
  async #hashBefore(sequence: number, hash: Uint8Array): Promise<Uint8Array> {
    if (sequence === 1) return this.#options.keys.volumeId;
    const sealed = await this.#sealedKnown(sequence, hash);
    const key = this.#options.keys.current.commit;
    const copy = await this.#local.read(sequence - 1);
    for (const before of [copy, () => this.#fetch(sequence - 1)]) {
      const bytes = typeof before === 'function' ? await before() : before;
      if (!bytes) continue;
      const candidate = hashBytes(bytes);
      try {
        key.open(commitPlace(sequence, candidate), sealed);
        // A start without the store needs it again.
        if (bytes !== copy) await this.#local.write([{ sequence: sequence - 1, bytes: bytes as Sealed }]);
        return candidate;
      } catch (error) {
        if (!(error instanceof CryptoError)) throw error;
      }
    }
    throw new CommitError('MISSING', `commit ${sequence - 1} is gone, or another one stands there`, { sequence: sequence - 1 });
  }

  /** A commit that was verified before: the hash says that it is the same. */
  async #readKnown(sequence: number, hash: Uint8Array, previousHash: Uint8Array): Promise<Commit> {
    const { commit } = await this.#open(await this.#sealedKnown(sequence, hash), sequence, previousHash);
    this.#noteSign(commit);
    return { ...commit, hash };
  }

  /** The sealed bytes that hash to `hash`: the copy, or the store's, which become the copy. */
  async #sealedKnown(sequence: number, hash: Uint8Array): Promise<Uint8Array> {
    const copy = await this.#local.read(sequence);
    if (copy && equalBytes(hashBytes(copy), hash)) return copy;
    const sealed = await this.#fetch(sequence);
    if (!sealed) throw new CommitError('MISSING', `commit ${sequence} is gone`, { sequence, expectedHash: toHex(hash) });
    const found = hashBytes(sealed);
    const evidence = { sequence, expectedHash: toHex(hash), foundHash: toHex(found) };
    if (!equalBytes(found, hash)) throw new CommitError('FORK', `another commit ${sequence} than this device has seen`, evidence);
    await this.#local.write([{ sequence, bytes: sealed as Sealed }]);
    return sealed;
  }

  #fetch(sequence: number, signal?: AbortSignal, sizeMax = commitObjectMax): Promise<Uint8Array | undefined> {
    return this.#options.store.get(logKey(this.#options.keys.root, sequence), { sizeMax, ...(signal ? { signal } : {}) });
  }

  #open(sealed: Uint8Array, sequence: number, previousHash: Uint8Array): Promise<DecodedCommit> {
    return openCommit(this.#options.keys, sealed, sequence, previousHash);
  }

  /** Where the commit after the head will be. */
  get nextKey(): ObjectKey {
    return logKey(this.#options.keys.root, this.head.sequence + 1);
  }

  /**
   * Looks for commits after `head`: verifies them, persists the trust, moves `head`, answers them ascending (empty: nothing new; at
   * most some hundreds: the next call goes on). `checks`: whether the store is also asked, when there is nothing new, if it still has what it had; not
   * given: now and then. `looks`: whether one that finds nothing asks for the number behind the next one too, so that a hole is seen at once.
   * Throws CommitError (integrity), StoreError, disk errors.
   */
  async poll(signal?: AbortSignal, { checks, looks = true }: { checks?: boolean; looks?: boolean } = {}): Promise<readonly Commit[]> {
    if (this.#freshness === 'offline') await this.#verifyStore(signal);
    const { commits } = await this.#pollOnce({ signal, looks });
    if (commits.length > 0) this.#emptyPolls = 0;
    else if (checks ?? ++this.#emptyPolls >= emptyPollsPerCheck) {
      this.#emptyPolls = 0;
      await this.#checkHead(signal);
      await this.#checkGaps({ ...runningGaps, random: undefined, signal });
    }
    return commits;
  }

  /** One commit or more, in order: several at once, of a size that together fits in memory, up to the first that is larger. That one comes alone. */
  async #fetchWindow(from: number, window: number, signal: AbortSignal | undefined): Promise<(Uint8Array | undefined)[]> {
    if (window === 1) return [await this.#fetch(from, signal)];
    const results = await Promise.allSettled(Array.from({ length: window }, (_, index) => this.#fetch(from + index, signal, windowCommitMax)));
    const fetched: (Uint8Array | undefined)[] = [];
    for (const result of results) {
      if (result.status === 'fulfilled') fetched.push(result.value);
      else if (result.reason instanceof StoreError && result.reason.code === 'PROTOCOL') break;
      else throw result.reason;
    }
    return fetched.length > 0 ? fetched : [await this.#fetch(from, signal)];
  }

  /** `newest`: how far the log is likely to go. `isAtEnd`: it was followed to its end, and with `looks` there is no hole behind it. */
  async #pollOnce({
    signal,
    isOpening = false,
    looks = true,
    newest = 0,
  }: {
    readonly signal?: AbortSignal | undefined;
    readonly isOpening?: boolean;
    readonly looks?: boolean;
    readonly newest?: number;
  } = {}): Promise<{ readonly commits: readonly Commit[]; readonly isAtEnd: boolean }> {
    let state = this.#state;
    const commits: Commit[] = [];
    const copies: { sequence: number; bytes: Sealed }[] = [];
    let bytes = 0;
    let isAtEnd = false;
    // With those behind the newest, which tell that it is the newest.
    let window = Math.min(knownWindowMax, Math.max(looks ? 2 : 1, newest - state.head.sequence + 2));
    fetching: while (commits.length < pollCountMax && bytes < pollBytesMax) {
      const from = state.head.sequence + 1;
      const fetched = await this.#fetchWindow(from, window, signal);
      for (const [index, found] of fetched.entries()) {
        const sealed = found ?? (await this.#fetchAgain(from + index, fetched.slice(index + 1), looks, signal));
        if (!sealed) {
          isAtEnd = true;
          break fetching;
        }
        const extended = await this.#extend(state, sealed, signal);
        if (!isOpening && extended.commit.deviceId === this.#device.id) this.#checkOwn(extended.commit);
        state = extended.state;
        commits.push(extended.commit);
        copies.push({ sequence: extended.commit.sequence, bytes: sealed as Sealed });
        bytes += sealed.byteLength;
      }
      // Past what is known to be there it is one question at first: most often nothing is.
      const ahead = newest - state.head.sequence;
      window = ahead > 0 ? Math.min(knownWindowMax, ahead + 2) : Math.min(fetchWindowMax, window * 2);
    }
    if (commits.length > 0) await this.#accept(state, commits, copies);
    this.#answeredMs = this.#options.clock.now().sec * 1000;
    return { commits, isAtEnd };
  }

  #noteSign({ deviceId, sequence, wallTimeMs }: CommitFields): void {
    // A clock that is ahead would make its device look alive for as long.
    const atMs = Math.min(wallTimeMs, this.#options.clock.now().sec * 1000);
    if (sequence > (this.#signs.get(deviceId)?.sequence ?? 0)) this.#signs.set(deviceId, { sequence, wallTimeMs: atMs });
  }

  /** Two installations with one identity (a copied state directory, a restored machine) would give out the same inode numbers. */
  #checkOwn(commit: Commit): void {
    const hash = toHex(commit.hash);
    if (this.#attempts.has(hash) || commit.sequence === this.#leftoverSequence) return;
    const evidence = { sequence: commit.sequence, foundHash: hash, deviceId: commit.deviceId };
    throw new CommitError('FORK', `commit ${commit.sequence} was written by another installation with the identity of this one`, evidence);
  }

  async #extend(state: ChainState, sealed: Uint8Array, signal: AbortSignal | undefined): Promise<{ state: ChainState; commit: Commit }> {
    const sequence = state.head.sequence + 1;
    try {
      return extendChain(state, await this.#open(sealed, sequence, state.head.hash), hashBytes(sealed));
    } catch (error) {
      if (!(error instanceof CommitError) || error.code !== 'NOT_AUTHENTIC') throw error;
      // Damage, or a commit that follows another history: the commit before it tells, if the store now shows another one.
      const before = state.head.sequence === 0 ? undefined : await this.#fetch(state.head.sequence, signal);
      const evidence = {
        sequence: state.head.sequence,
        expectedHash: toHex(state.head.hash),
        ...(before ? { foundHash: toHex(hashBytes(before)) } : {}),
      };
      if (state.head.sequence > 0 && !before) throw this.#goneError(error);
      if (before && !equalBytes(hashBytes(before), state.head.hash)) {
        await this.#saveEvidence(state.head.sequence, before);
        throw new CommitError('FORK', `the store shows another commit ${state.head.sequence} than it did`, evidence, { cause: error });
      }
      await this.#saveEvidence(sequence, sealed);
      throw error;
    }
  }

  /** Copies first, then the trust, then the state: whatever crashes in between, nothing was shown that is not trusted. */
  async #accept(state: ChainState, commits: readonly Commit[], copies: readonly { sequence: number; bytes: Sealed }[]): Promise<void> {
    await this.#save(state, copies);
    if (commits.length > 0) this.#attempts.clear();
    for (const commit of commits) {
      this.#noteSign(commit);
      this.#tellEnrolment(commit);
    }
    this.#state = state;
    this.#lastCheckpoint = commits.findLast((commit) => commit.checkpoint) ?? this.#lastCheckpoint;
  }

  /** A device that joins may read and write everything from then on: whoever looks after a drive is to hear of it. */
  #tellEnrolment({ deviceId, enrolments, checkpoint, wallTimeMs }: Commit): void {
    if (checkpoint || deviceId === this.#device.id) return;
    for (const { name, deviceIndex } of enrolments) {
      this.#options.logger.info('a new device takes part in the volume', { device: deviceLabel(deviceIndex, name), enrolled: isoTime(wallTimeMs) });
    }
  }

  /** Not where another directory took the place of ours, or none: this device then ends with this process, and what it still commits is for others. */
  async #save(state: ChainState, copies: readonly { sequence: number; bytes: Sealed }[]): Promise<void> {
    if (!(await this.#directory.isInPlace()))
      return this.#options.logger.warn('the state directory is not where it was: trust is kept in memory only');
    await this.#local.write(copies);
    return saveTrust(this.#trust, state);
  }

  #persist(copies: readonly { sequence: number; bytes: Sealed }[]): Promise<void> {
    return this.#accept(this.#state, [], copies);
  }

  /**
   * Keeps the commit that the store showed in the place of another: what it signs and which one it follows proves the fork to everybody with
   * the keys. The one that this device knows is in `log/`. Best effort: the stop does not depend on it.
   */
  async #saveEvidence(sequence: number, bytes: Uint8Array): Promise<void> {
    const { disk, stateDirectory, logger } = this.#options;
    const directory = join(stateDirectory, 'evidence');
    try {
      if (!(await this.#directory.isInPlace())) return;
      await ensureDirectory(disk, directory);
      await replaceFile(disk, join(directory, `${sequenceName(sequence)}-${toHex(hashBytes(bytes)).slice(0, 16)}`), bytes);
    } catch (error) {
      logger.warn('the evidence could not be saved', { sequence, reason: describeError(error) });
    }
  }

  #goneError(cause?: unknown): CommitError {
    const { sequence, hash } = this.head;
    const isOwn = this.#member()?.newest?.sequence === sequence;
    const message = isOwn ? `commit ${sequence}, which this device wrote, is gone` : `commit ${sequence} is gone: the store went back`;
    return new CommitError(isOwn ? 'OWN_COMMIT_MISSING' : 'ROLLBACK', message, { sequence, expectedHash: toHex(hash) }, { cause });
  }

  /** Whether the store still shows the head. Throws CommitError `ROLLBACK`, `OWN_COMMIT_MISSING`, `FORK`; StoreError. */
  async #checkHead(signal?: AbortSignal): Promise<void> {
    const { sequence, hash } = this.head;
    const sealed = await this.#fetch(sequence, signal);
    if (!sealed) throw this.#goneError();
    const found = hashBytes(sealed);
    const evidence = { sequence, expectedHash: toHex(hash), foundHash: toHex(found) };
    if (!equalBytes(found, hash)) {
      await this.#saveEvidence(sequence, sealed);
      throw new CommitError('FORK', `the store shows another commit ${sequence} than it did`, evidence);
    }
  }

  /** Whether the store still shows all that this device has seen, and no hole. Throws CommitError, StoreError. */
  async #verifyStore(signal?: AbortSignal): Promise<void> {
    const gaps = this.#checkGaps({ ...startGaps, random: this.#options.random, signal });
    // A head that is gone says more than a hole.
    gaps.catch(() => {});
    await this.#checkHead(signal);
    await gaps;
    if (this.#freshness === 'offline') this.#freshness = 'proven';
  }

  /** Looks for numbers that are missing. Names without the PRF of this volume are ignored. Throws CommitError `MISSING`, StoreError. */
  async #checkGaps(how: Omit<GapSearch, 'store' | 'root' | 'head'>): Promise<void> {
    const { store, keys, logger } = this.#options;
    const head = this.head.sequence;
    const { newest, missing, foreign } = await findGap({ ...how, store, root: keys.root, head });
    if (foreign > 0) logger.warn('foreign objects lie in the log', { count: foreign });
    if (missing !== undefined) throw gapError(missing, newest);
    // The list alone is no commit: this is what the next poll asks for.
    if (newest > head && !(await this.#shows(head + 1, how.signal))) throw gapError(head + 1, newest);
  }

  /** The commit `sequence`, which was absent, if it has come since, with what follows it. `behind`: what was got for the numbers after it. */
  async #fetchAgain(
    sequence: number,
    behind: readonly (Uint8Array | undefined)[],
    looks: boolean,
    signal: AbortSignal | undefined,
  ): Promise<Uint8Array | undefined> {
    const later = behind.findIndex((sealed) => sealed !== undefined);
    if (later < 0 && !(looks && behind.length === 0 && (await this.#shows(sequence + 1, signal)))) return undefined;
    const sealed = await this.#fetch(sequence, signal);
    // What follows it was put on top of it, so it was there.
    if (!sealed) throw gapError(sequence, sequence + 1 + Math.max(0, later));
    return sealed;
  }

  /**
   * Before a put: whether the head is still there, and nothing behind a hole. What it finds counts for a moment, so that it can be asked while something else
   * goes on. Throws CommitError `MISSING`, `ROLLBACK`, `OWN_COMMIT_MISSING`; StoreError.
   */
  async look(signal?: AbortSignal): Promise<void> {
    if (this.#freshness === 'offline') await this.#verifyStore(signal);
    const { sequence } = this.head;
    const [isHeadThere, isBehindThere] = await Promise.all([this.#shows(sequence, signal), this.#shows(sequence + 2, signal)]);
    if (!isHeadThere) throw this.#goneError();
    // Where the next one is there as well, the number is lost, as so often.
    if (isBehindThere && !(await this.#shows(sequence + 1, signal))) throw gapError(sequence + 1, sequence + 2);
    this.#looked = { sequence, atMs: this.#options.clock.monotonicMs() };
  }

  #shows(sequence: number, signal: AbortSignal | undefined): Promise<boolean> {
    return showsCommit({ store: this.#options.store, root: this.#options.keys.root, signal }, sequence);
  }

  // --- Writing

  /**
   * Appends a commit at head + 1. The commit itself when it is in the log (trust persisted, head moved); `lost` when another commit has
   * that number: poll, rebase, try again. After a StoreError the outcome is unknown: the next poll tells (the own commit then comes back from it).
   */
  put(draft: CommitDraft, signal?: AbortSignal): Promise<Commit | 'lost'> {
    assert(this.#member(), 'only an enrolled device writes');
    return this.#put(draft, undefined, signal);
  }

  async #put(draft: CommitDraft, enrolment: Enrolment | undefined, signal: AbortSignal | undefined): Promise<Commit | 'lost'> {
    const { keys } = this.#options;
    const fields = nextCommit(this.#state, this.#device.id, enrolment, draft);
    const encoded = encodeCommit(fields, keys.volumeId, (message) => this.#device.signer.sign(message));
    // As every reader will see it; also the check that we write nothing that others refuse.
    assert(encoded.byteLength <= commitPlainMax, 'a commit is bounded');
    const decoded = decodeCommit(encoded, keys.volumeId);
    const sealed = keys.current.commit.seal(commitPlace(fields.sequence, fields.previousHash), padCommit(encoded));
    const { state, commit } = extendChain(this.#state, decoded, hashBytes(sealed));
    const looked = this.#looked;
    const isLooked = looked?.sequence === this.head.sequence && this.#options.clock.monotonicMs() - looked.atMs <= lookFreshMs;
    if (this.#freshness === 'offline' || !isLooked) await this.look(signal);
    this.#attempts.add(toHex(commit.hash));
    if (!(await this.#store(fields.sequence, sealed, signal))) return 'lost';
    await this.#accept(state, [commit], [{ sequence: commit.sequence, bytes: sealed }]);
    this.#emptyPolls = 0;
    return commit;
  }

  /** Whether `sealed` is now the commit `sequence`. Throws StoreError when that cannot be known yet. */
  async #store(sequence: number, sealed: Sealed, signal: AbortSignal | undefined): Promise<boolean> {
    let failure: unknown;
    try {
      const outcome = await this.#options.store.put(logKey(this.#options.keys.root, sequence), sealed, {
        ifAbsent: true,
        ...(signal ? { signal } : {}),
      });
      if (outcome === 'created') return true;
    } catch (error) {
      failure = error;
    }
    // The answer was lost, or a repeated attempt met the first one: the bytes tell, since no two commits are alike.
    let found: Uint8Array | undefined;
    try {
      found = await this.#fetch(sequence, signal);
    } catch (error) {
      throw failure ?? error;
    }
    if (found) return equalBytes(found, sealed);
    throw failure ?? new StoreError('PROTOCOL', `the store has something under the number ${sequence} and does not show it`);
  }

  /** Removes local copies of commits that no start needs any more, now that the tree holds those up to `covers`. */
  async forget(covers: Sequence): Promise<void> {
    // The one at `covers` stays: the next one is bound to its hash.
    if (await this.#directory.isInPlace()) await this.#local.removeBefore(covers, this.#state.checkpoint?.sequence);
  }

  /** Wipes the signing key. Nothing may be called afterwards. */
  async close(): Promise<void> {
    this.#device.signer.wipe();
  }
}

function trustFileOf({ disk, stateDirectory, keys }: CommitLogOptions, device: Device): TrustFile {
  return { disk, stateDirectory, key: keys.trust, deviceId: device.id };
}

function gapError(sequence: number, newest: number): CommitError {
  const what = sequence === 0 ? 'the genesis of the volume' : `commit ${sequence}`;
  const proof = newest > sequence ? `commit ${newest} comes after it` : 'the store lists it';
  return new CommitError('MISSING', `${what} is missing from the store, although ${proof}`, { sequence });
}

async function chainOfGenesis({ store, disk, stateDirectory, keys }: CommitLogOptions): Promise<ChainState> {
  const genesis = await readGenesis({ store, disk, stateDirectory, root: keys.root, volumeId: keys.volumeId });
  genesis.epochKey.fill(0);
  return chainFromGenesis(keys.volumeId, genesis.creator);
}
