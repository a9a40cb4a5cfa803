/**
 * The commit log as one device follows and extends it (doc/format.md, "Commit"; doc/security.md, "Holes in the log" and
 * "Freshness"). It holds the verified state, moves it only after it is persisted, and stops at the first sign that the
 * store shows another history. What the mutations mean is up to the volume; the rules of the chain are in `chain.ts`,
 * the objects in `stored-log.ts`, the local files in `log-files.ts`.
 *
 * One call of `poll`, `put`, `removeCopies` or `commitsUpToHead` at a time: the volume's commit lock ensures it.
 */
import { assert } from '../base/assert.js';
import type { Sealed } from '../base/brand.js';
import { equalBytes, toHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import type { Random } from '../base/random.js';
import { hashBytes } from '../crypto/hash.js';
import { Signer } from '../crypto/signature.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { Disk } from '../disk/disk.js';
import type { ObjectKey, ObjectStore } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import type { ChainState, Extension, LogPosition, VoidCommit } from './chain.js';
import { chainFromGenesis, extendChain, nextCommit } from './chain.js';
import type { Commit, CommitDraft } from './commit.js';
import { commitPlainMax, encodeCommit, padCommit } from './commit-codec.js';
import { CommitError, type CommitErrorCode, missingCommit } from './commit-error.js';
import type { Device } from './device.js';
import { enrolmentOf, forgetLanded, openDevice, renewDevice, wipeDevice } from './device.js';
import { deviceLabel, isoTime } from './device-label.js';
import { type DeviceId, deviceIndexMax, type Enrolment, ownerId, ownerIndex } from './enrolment.js';
import { keepsWork, requireReadable, writingObstacle } from './features.js';
import type { Genesis } from './genesis.js';
import { KnownCommits } from './known-commits.js';
import type { CommitCopy } from './local-log.js';
import { LogFiles } from './log-files.js';
import type { GapSearch } from './log-gap.js';
import { checkGaps, runningGaps, startGaps } from './log-gap.js';
import { commitPlace } from './log-name.js';
import { type LogState, type Member, memberOf, newestOfAuthors } from './log-state.js';
import { type Carried, type LostWork, loadLostWork, sealWork, setAside, workIn } from './lost-work.js';
import { findNewest, stateBeforeNewestCheckpoint } from './newest-checkpoint.js';
import { OpenedCommit, openCommit } from './open-commit.js';
import { PastLog, type PastStart } from './past-log.js';
import type { ProgramVersion } from './program-version.js';
import type { LogRecord } from './record.js';
import type { Sequence } from './sequence.js';
import { SignsOfLife } from './signs-of-life.js';
import { StoredLog } from './stored-log.js';
import { Tail, type TailCommit } from './tail.js';
import type { LostCommits } from './trust-state.js';
import type { WorkGroup } from './work.js';

export interface CommitLogOptions {
  readonly store: ObjectStore;
  readonly keys: VolumeKeys;
  readonly genesis: Genesis;
  /** 32 bytes, borrowed for the opening: admits this device if nobody has done so before. */
  readonly ownerSeed: Uint8Array | undefined;
  readonly disk: Disk;
  /** Exists; the log keeps its files in it (`log-files.ts`, `device.ts`). */
  readonly stateDirectory: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** The name under which this device enrols, if it must. */
  readonly deviceName: string;
  readonly readOnly: boolean;
  readonly program: ProgramVersion;
  readonly random: Random;
  /** A commit that another device has shown to the user: the log must contain it. */
  readonly headCode?: HeadCode | undefined;
  /**
   * Called with the number of other devices that may write before this one enrols; an error that it throws ends the
   * opening.
   */
  readonly beforeEnrolment?: ((otherDevices: number) => Promise<void>) | undefined;
  /** Where commits hold their work: for so long, what does not fit is taken for something that is still under way. */
  readonly graceMs?: number;
}

/** A commit as people compare it between two devices: its number, and the beginning of its hash as hex. */
export interface HeadCode {
  readonly sequence: number;
  readonly hashStart: string;
}

/** One poll returns at most this much; the next one continues. */
const pollCountMax = 512;
const pollBytesMax = 64 * 1024 * 1024;
/** How many commits are fetched at once while catching up. */
const fetchWindowMax = 16;
/**
 * The same where it is known that there are as many: a new device may need hundreds, and each window costs a round
 * trip.
 */
const knownWindowMax = 64;
/** How long the result of `checkAroundHead` may be used for a put. */
const checkedAroundMs = 2000;
/**
 * After this many polls that find nothing, the store is asked whether it still has the head, unless the caller decides.
 */
const emptyPollsPerCheck = 8;

/** What the store shows may only mean that it has lost commits of the tail. */
const doubts: ReadonlySet<CommitErrorCode> = new Set(['ROLLBACK', 'OWN_COMMIT_MISSING', 'FORK', 'NOT_AUTHENTIC', 'MISSING']);
/** So many things that were wrong with the tail are mended one after the other before this is given up. */
const doubtsMax = 16;
/** Records that must stay: a history without one that this device has seen is not followed by itself. */
const lastingRecords: ReadonlySet<LogRecord['type']> = new Set(['removal', 'keyring', 'keyslots', 'features']);
/** How long another history must be shown before commits of others are left for it, at most. */
const followMs = 30_000;
/** How much of the tail is compared with the store at each check, where reading is cheap and where it is not. */
const tailPerCheck = { local: 64, remote: 8 };

/**
 * `proven`: the store showed what this device had seen, or more; `unproven`: this device has seen nothing to compare
 * with; `offline`: the store could not be asked.
 */
type Freshness = 'proven' | 'unproven' | 'offline';

interface PollOptions {
  /** Whether to ask, when nothing is new, if the store still has what it had. Without it: now and then. */
  readonly checkStore?: boolean;
  /** Whether to ask, when nothing is new, for the number behind the next one, so that a hole is noticed at once. */
  readonly checkHole?: boolean;
}

export class CommitLog {
  readonly #options: CommitLogOptions;
  #device: Device;
  /** During the opening: admits a new identity, if its former one may not. */
  #ownerSeed: Uint8Array | undefined;
  readonly #files: LogFiles;
  readonly #stored: StoredLog;
  readonly #known: KnownCommits;
  /** The log backwards. It may be read at any time. */
  readonly past: PastLog;
  readonly #signs: SignsOfLife;
  #state: ChainState;
  readonly #tail: Tail;
  #lost: LostCommits | undefined;
  #lastCheckpoint: Commit | undefined;
  #freshness: Freshness;
  #emptyPolls = 0;
  /** When the store last answered a poll, by our clock. */
  #answeredMs: number | undefined;
  /** When, and at which head, `checkAroundHead` last found nothing wrong. */
  #checkedAround: { readonly sequence: Sequence; readonly atMs: number } | undefined;
  /** Hashes of what this process tried to put at head + 1. */
  readonly #attempts = new Set<string>();
  /** Numbers that do not show what they should, and since when, in monotonic milliseconds. */
  readonly #since = new Map<number, number>();

  private constructor(
    options: CommitLogOptions,
    device: Device,
    files: LogFiles,
    stored: StoredLog,
    { start, tailStart }: { readonly start: ChainState; readonly tailStart: ChainState },
    freshness: Freshness,
  ) {
    this.#options = options;
    this.#device = device;
    this.#files = files;
    this.#stored = stored;
    this.#known = new KnownCommits(options.keys, stored, files.copies);
    this.past = new PastLog(options.keys, stored, files.copies);
    this.#signs = new SignsOfLife(options.clock);
    this.#state = start;
    this.#tail = new Tail(stored, files.copies, options.store.local ? tailPerCheck.local : tailPerCheck.remote, tailStart);
    this.#freshness = freshness;
  }

  /**
   * Opens the log from this device's trust state: verifies what it knows against the store (offline: against its own
   * copies) and enrols the device if it is new and may write. `head` is then the newest commit that is persisted as
   * trusted. Throws CommitError, StoreError, disk errors.
   */
  static async open(options: CommitLogOptions): Promise<CommitLog> {
    const { store, disk, stateDirectory, keys, genesis, random, logger } = options;
    const { device, isNew } = await ownDevice(options);
    const files = await LogFiles.open({ disk, stateDirectory, key: keys.trust, stateId: device.stateId }, logger);
    const trusted = await files.loadTrust();
    const state = trusted?.state ?? chainFromGenesis(keys.volumeId, genesis);
    requireReadable(state.log.features);
    const stored = new StoredLog(store, keys.root);
    const log = new CommitLog(
      options,
      device,
      files,
      stored,
      { start: state, tailStart: trusted?.tailStart ?? state },
      trusted ? 'proven' : 'unproven',
    );
    log.#lost = trusted?.lost;
    log.#ownerSeed = options.ownerSeed;
    if (trusted) await log.#verifyKnown();
    else {
      // An identity without a trust state was in use before, and only the whole log shows whether it wrote anything.
      if (!isNew) await log.#catchUp();
      const readFrom = isNew ? await log.#beginAtNewest() : 1;
      await log.#checkGaps({ ...startGaps, readFrom, random }, undefined, true);
    }
    if (options.headCode) await log.#verifyHeadCode(options.headCode);
    if (log.mustEnrol) await log.#enrolAtOpening(!trusted);
    await log.#loadCheckpoint();
    log.#ownerSeed = undefined;
    return log;
  }

  get deviceId(): DeviceId {
    return this.#device.id;
  }

  /** 16 bytes that stay the same when this installation takes a new identity. */
  get stateId(): Uint8Array {
    return this.#device.stateId;
  }

  /** -1 while this device is not enrolled: read-only, or its identity is new. */
  get deviceIndex(): number {
    return this.#member()?.enrolment.deviceIndex ?? -1;
  }

  /** The index of the identity that this installation had before, because another one has that too; 0 without one. */
  get formerIndex(): number {
    return this.#device.formerIndex;
  }

  /** Operations up to this serial are in commits of former identities. */
  get landedSerial(): number {
    return this.#device.landedSerial;
  }

  /** Whether this device must enrol before it can write anything. */
  get mustEnrol(): boolean {
    return !this.#options.readOnly && !this.#member() && this.obstacle === undefined;
  }

  /** All enrolled devices, by index. */
  get roster(): readonly Enrolment[] {
    return this.members.map(({ enrolment }) => enrolment);
  }

  /** The roster with the standing and the newest commit of each device. */
  get members(): readonly Member[] {
    return this.#state.log.members;
  }

  /** Why this device can write nothing, however the log was opened; `undefined` when it can. */
  get obstacle(): string | undefined {
    const obstacle = writingObstacle(this.#state.log.features);
    if (obstacle !== undefined) return obstacle;
    const member = this.#member();
    if (member?.status === 'removed') return 'this device was removed from the volume';
    return member?.enrolment.role === 'reader' ? 'this device may only read the volume' : undefined;
  }

  /** The newest commit that was verified and persisted in the trust state. */
  get head(): LogPosition {
    return this.#state.head;
  }

  /** The head, to read the log from it backwards. */
  get pastStart(): PastStart {
    return { ...this.head, newest: newestOfAuthors(this.#state.log) };
  }

  /** The object that the commit after the head will be. */
  get nextKey(): ObjectKey {
    return this.#stored.keyOf(this.head.sequence + 1);
  }

  /** `unproven` on a device that has no history of its own; `offline` while the store could not be asked. */
  get freshness(): Freshness {
    return this.#freshness;
  }

  /**
   * When a device wrote its newest commit that was read here, by its own clock, in milliseconds since 1970; `undefined`
   * when that lies before the newest checkpoint.
   */
  signOfLifeMs(device: DeviceId): number | undefined {
    return this.#signs.of(device);
  }

  /**
   * The newest sign of life of any other device, in milliseconds since 1970. Each commit follows all before it, so no
   * commit before this time can have been withheld. `undefined` when that lies before the newest checkpoint, or there
   * is no other device.
   */
  get newestSignOfOthersMs(): number | undefined {
    return this.#signs.newestBut(this.#device.id);
  }

  /** When the store last answered a poll, by our clock, in milliseconds since 1970. */
  get answeredMs(): number | undefined {
    return this.#answeredMs;
  }

  /** The newest commit with a checkpoint up to `head`, if any. */
  get lastCheckpoint(): Commit | undefined {
    return this.#lastCheckpoint;
  }

  /** The counters in this installation's own newest commit up to `head`; zeros without one. */
  get own(): { readonly nextInoCounter: number; readonly operationSerial: number } {
    const { nextInoCounter = 0, operationSerial = 0 } = this.#member() ?? {};
    return { nextInoCounter, operationSerial: Math.max(operationSerial, this.#device.landedSerial) };
  }

  #member(): Member | undefined {
    return memberOf(this.#state.log, this.#device.id);
  }

  /** Whether whoever has seen a commit can do again what it did. */
  get #keepsWork(): boolean {
    return keepsWork(this.#state.log.features);
  }

  /**
   * Whether nothing is left to do for an operation: the log has it, or does not take work of its author from others.
   */
  isSettled({ serial, carried }: { readonly serial: number; readonly carried?: Carried | undefined }): boolean {
    if (!carried) return serial <= this.own.operationSerial;
    const member = this.members[carried.deviceIndex - 1];
    const isSame = member?.enrolment.deviceId === carried.deviceId && member.status !== 'removed';
    // Nothing comes of the word of a removed device either.
    return !isSame || memberOf(this.#state.log, carried.by)?.status === 'removed' || serial <= member.operationSerial;
  }

  /** The serials of the newest operations of other devices up to `head`, by index; none where nobody carries any. */
  get landedOfOthers(): ReadonlyMap<number, number> {
    const others = this.#keepsWork ? this.members.filter(({ enrolment }) => enrolment.deviceId !== this.#device.id) : [];
    return new Map(others.map(({ enrolment, operationSerial }) => [enrolment.deviceIndex, operationSerial]));
  }

  // --- Opening

  /** Asks the store for what this device has seen, and for what came since. */
  async #verifyKnown(): Promise<void> {
    try {
      await this.#removeDead();
      await this.#afterDoubts(async () => {
        await this.#verifyStore();
        // One part of it; the volume follows the rest when it starts.
        await this.#follow();
      });
    } catch (error) {
      const isUnsettled = error instanceof CommitError && error.code === 'UNSETTLED';
      if (!isUnsettled && (!(error instanceof StoreError) || error.code !== 'UNAVAILABLE')) throw error;
      this.#freshness = 'offline';
      const why = isUnsettled ? 'the store is being changed' : 'the store cannot be reached';
      this.#options.logger.warn(`${why}; the log is opened as it was`, { sequence: this.head.sequence });
    }
  }

  /** `newest`: how far the log is likely to go. */
  async #catchUp(newest = 0): Promise<void> {
    while (!(await this.#follow({ newest })).isAtEnd);
    await this.#save(this.#state, []);
  }

  /** Begins at the newest checkpoint that the store shows. Returns the number of the first commit that was read. */
  async #beginAtNewest(): Promise<number> {
    const newest = await findNewest(this.#stored);
    const { keys, genesis } = this.#options;
    const checkpoint = newest === 0 ? undefined : await stateBeforeNewestCheckpoint(this.#stored, keys, genesis.ownerKey, newest);
    if (checkpoint) this.#state = checkpoint;
    this.#tail.beginAt(this.#state);
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
   * Throws CommitError: `ROLLBACK` when the log ends before the commit of the head code, `FORK` when it does not
   * contain it.
   */
  async #verifyHeadCode({ sequence, hashStart }: HeadCode): Promise<void> {
    await this.#catchUp();
    let at = this.head;
    const evidence = { sequence, expectedHash: hashStart };
    if (at.sequence < sequence)
      throw new CommitError('ROLLBACK', `the store shows ${at.sequence} commits, but the head code names commit ${sequence}`, evidence);
    while (at.sequence > sequence) at = await this.#known.before(at);
    const foundHash = toHex(at.hash);
    if (!foundHash.startsWith(hashStart))
      throw new CommitError('FORK', `commit ${sequence} is not the one of the head code`, { ...evidence, foundHash });
    this.#freshness = 'proven';
  }

  /** `isCaughtUp`: the head was the newest commit just now. */
  async #enrolAtOpening(isCaughtUp: boolean): Promise<void> {
    // A new identity has work of the former one at most, which can wait for the store.
    if (this.#freshness === 'offline' && this.formerIndex > 0) return;
    for (let isAtNewest = isCaughtUp; ; isAtNewest = false) {
      // Only on top of the newest commit, since losing the race costs an attempt. An earlier attempt may also turn out
      // to have succeeded.
      if (!isAtNewest) await this.#catchUp();
      if (!this.mustEnrol || (await this.enrol()) !== 'lost') return;
    }
  }

  /**
   * Puts the admission of this device at head + 1: of a new device, of a new identity, and of one whose admission the
   * store has lost. `lost` as in {@link CommitLog.put}: poll, and try again if this device still must enrol.
   */
  async enrol(signal?: AbortSignal): Promise<Commit | 'lost'> {
    const { program, beforeEnrolment, logger } = this.#options;
    const { certificate, name, formerIndex } = this.#device;
    if (this.members.length >= deviceIndexMax)
      throw new CommitError('NO_ROOM', `the volume has had ${deviceIndexMax} devices, which is as many as it can ever have`);
    if (!certificate) throw notAdmitted();
    await beforeEnrolment?.(this.members.filter(({ status, enrolment }) => status !== 'removed' && enrolment.role !== 'reader').length);
    const enrolment = await enrolmentOf(this.#device, certificate, this.members.length + 1, program);
    const commit = await this.#put(this.#emptyDraft(), [{ type: 'admission', enrolment }], [], signal);
    if (commit !== 'lost' && formerIndex > 0)
      logger.info('this installation takes part as a device of its own', { device: deviceLabel(enrolment.deviceIndex, name), formerIndex });
    return commit;
  }

  async #loadCheckpoint(): Promise<void> {
    const link = this.#state.checkpoint;
    if (!link || this.#lastCheckpoint) return;
    this.#lastCheckpoint = await this.#known.read(link);
    this.#signs.note(this.#lastCheckpoint);
  }

  // --- Reading

  /**
   * The commits with `after < sequence <= head` that count, ascending, from the local copies or the store. Throws
   * CommitError, StoreError.
   */
  async *commitsUpToHead(after: Sequence): AsyncGenerator<Commit, void> {
    for await (const commit of this.#known.readUpTo(this.head, after, newestOfAuthors(this.#state.log))) {
      this.#signs.note(commit);
      yield commit;
    }
  }

  /**
   * Looks for commits after `head`: verifies them, persists the trust, moves `head` and returns those that count,
   * ascending. Empty: there are none. At most some hundreds: the next call continues. Throws CommitError (integrity),
   * StoreError, disk errors.
   */
  poll(signal?: AbortSignal, options: PollOptions = {}): Promise<readonly Commit[]> {
    return this.#afterDoubts(() => this.#pollOnce(signal, options), signal);
  }

  async #pollOnce(signal: AbortSignal | undefined, { checkStore, checkHole = true }: PollOptions): Promise<readonly Commit[]> {
    if (this.#freshness === 'offline') await this.#verifyStore(signal);
    const { sequence } = this.head;
    const { commits } = await this.#follow({ checkHole }, signal);
    if (this.head.sequence > sequence) this.#emptyPolls = 0;
    else if (checkStore ?? ++this.#emptyPolls >= emptyPollsPerCheck) {
      this.#emptyPolls = 0;
      await this.#checkHead(signal);
      const missing = await this.#tail.findMissing(this.head.sequence, signal);
      if (missing !== undefined) throw this.#gone({ sequence: missing, hash: this.head.hash });
      await this.#checkGaps(runningGaps, signal);
    }
    return commits;
  }

  /**
   * `newest`: how far the log is likely to go. `isAtEnd`: the end was reached; with `checkHole` there is no hole behind
   * it.
   */
  async #follow(
    { checkHole = true, newest = 0 }: { readonly checkHole?: boolean; readonly newest?: number } = {},
    signal?: AbortSignal,
  ): Promise<{ readonly commits: readonly Commit[]; readonly isAtEnd: boolean }> {
    let state = this.#state;
    let tailStart = this.#tail.startFor(state);
    const tail: TailCommit[] = [];
    const commits: Commit[] = [];
    const copies: CommitCopy[] = [];
    let bytes = 0;
    let isAtEnd = false;
    // Up to two numbers behind the newest one, whose absence shows that it is the newest.
    let window = Math.min(knownWindowMax, Math.max(checkHole ? 2 : 1, newest - state.head.sequence + 2));
    fetching: while (copies.length < pollCountMax && bytes < pollBytesMax) {
      const from = state.head.sequence + 1;
      const fetched = await this.#stored.fetchWindow(from, window, signal);
      for (const [index, found] of fetched.entries()) {
        const later = fetched.slice(index + 1);
        // Where files arrive in any order, what stands behind a hole says nothing.
        const sealed = found ?? (this.#keepsWork ? undefined : await this.#stored.fetchBeforeLater(from + index, later, checkHole, signal));
        if (!sealed) {
          isAtEnd = true;
          break fetching;
        }
        // What fits is taken in before anything is made of what does not.
        if (this.#keepsWork && copies.length > 0 && !this.#follows(state, sealed)) break fetching;
        const extension = await this.#extend(state, sealed, signal);
        const logBefore = state.log;
        state = extension.state;
        copies.push({ sequence: state.head.sequence, bytes: sealed as Sealed });
        if (extension.void) this.#noteVoid(extension.void);
        else {
          const { commit } = extension;
          if (await this.#isOfAnotherInstallation(commit, sealed, logBefore)) await this.#renew(logBefore, state.log);
          if (this.#mayLeave(commit, state)) tail.push({ state, bytes: sealed.byteLength, isCheckpoint: commit.checkpoint !== undefined });
          else tailStart = state;
          commits.push(commit);
        }
        bytes += sealed.byteLength;
      }
      // Where nothing is known to follow, begin with few numbers: most often there is nothing.
      const ahead = newest - state.head.sequence;
      window = ahead > 0 ? Math.min(knownWindowMax, ahead + 2) : Math.min(fetchWindowMax, window * 2);
    }
    if (copies.length > 0) await this.#accept(state, tailStart, commits, copies);
    this.#tail.grew(tail.filter((one) => this.#tail.includes(one.state.head.sequence)));
    this.#answeredMs = this.#options.clock.now().sec * 1000;
    return { commits, isAtEnd };
  }

  /** Whether somebody else wrote the commit under this installation's identity, or carries what somebody else did. */
  async #isOfAnotherInstallation(commit: Commit, sealed: Uint8Array, before: LogState): Promise<boolean> {
    if (commit.author === this.#device.id) return !(await this.#hasWritten(commit, sealed));
    const index = memberOf(before, this.#device.id)?.enrolment.deviceIndex;
    for (const { deviceIndex, source } of workIn(commit) ?? []) if (deviceIndex === index && source && !(await this.#hasWritten(source))) return true;
    return false;
  }

  /** Whether this installation wrote the commit, which has its author: everything that it puts is kept before that. */
  async #hasWritten(position: LogPosition, sealed?: Uint8Array): Promise<boolean> {
    const { sequence, hash } = position;
    if (this.#attempts.has(toHex(hash))) return true;
    const copy = await this.#files.copies.read(sequence);
    if (copy && (sealed ? equalBytes(copy, sealed) : equalBytes(hashBytes(copy), hash))) return true;
    return this.#files.lost.has(position);
  }

  /** Whether this device can do again what the commit did, should the log lose it. `log`: after it. */
  #mayLeave({ author, records, mutations }: Commit, { log }: ChainState): boolean {
    if (author === this.#device.id) return true;
    if (author === ownerId || !keepsWork(log.features) || records.some(({ type }) => lastingRecords.has(type))) return false;
    return mutations.length === 0 || records.some(({ type }) => type === 'work');
  }

  /**
   * Another installation has the identity of this one (a cloned machine, a copied or restored state directory), and has
   * written a commit under it, between `before` and `after`: this one takes a new identity. Durable before anything of
   * the other one is accepted, so that nothing of it is ever taken for this one's. Throws CommitError `NOT_ADMITTED`,
   * disk errors.
   */
  async #renew(before: LogState, after: LogState): Promise<void> {
    const { keys, random, disk, stateDirectory, logger } = this.#options;
    const former = this.#device;
    const member = memberOf(after, former.id);
    assert(member, 'the author of a commit takes part');
    const { deviceIndex: formerIndex, role } = member.enrolment;
    const isAdmin = role === 'admin';
    const owner = !isAdmin && this.#ownerSeed ? new Signer(this.#ownerSeed) : undefined;
    const admitter = isAdmin ? former.signer : owner;
    if (!admitter) {
      const message = 'another installation has the identity of this one; mount it again with the passphrase, so that it gets one of its own';
      throw new CommitError('NOT_ADMITTED', message, { deviceId: former.id });
    }
    this.#device = await renewDevice({ disk, stateDirectory, key: keys.device }, former, {
      volumeId: keys.volumeId,
      random,
      formerIndex,
      landedSerial: Math.max(former.landedSerial, memberOf(before, former.id)?.operationSerial ?? 0),
      admitter,
      admittedBy: isAdmin ? formerIndex : ownerIndex,
    });
    owner?.wipe();
    wipeDevice(former);
    logger.warn('another installation has the identity of this one, which takes a new one; nothing of either is lost', { formerIndex });
  }

  /**
   * Nothing comes of a void commit, so nothing that this device has put may be one. Throws CommitError
   * `NOT_PERMITTED`.
   */
  #noteVoid({ sequence, hash, reason }: VoidCommit): void {
    if (this.#attempts.has(toHex(hash)))
      throw new CommitError('NOT_PERMITTED', `commit ${sequence} of this device does not count: ${reason}`, { sequence });
    this.#options.logger.warn('a commit that breaks the rules is skipped: somebody with the keys of the volume has written it', { sequence, reason });
  }

  async #extend(state: ChainState, sealed: Uint8Array, signal: AbortSignal | undefined): Promise<Extension> {
    const { head } = state;
    const sequence = head.sequence + 1;
    try {
      return this.#extendBy(state, sealed);
    } catch (error) {
      if (!(error instanceof CommitError) || error.code !== 'NOT_AUTHENTIC') throw error;
      // Damage, or a commit of another history. It is the latter if the store now shows another commit at the head as
      // well.
      if (head.sequence > 0) await this.#checkStored(head, await this.#stored.fetch(head.sequence, signal), error);
      await this.#files.saveEvidence(sequence, sealed);
      throw error;
    }
  }

  /** Throws CommitError `NOT_AUTHENTIC`, `BAD_LINK`. */
  #extendBy(state: ChainState, sealed: Uint8Array): Extension {
    const { head } = state;
    return extendChain(state, openCommit(this.#options.keys, sealed, head.sequence + 1, head.hash));
  }

  /** Persists first, then moves the state: whenever a crash comes, nothing was shown that is not trusted after it. */
  async #accept(state: ChainState, tailStart: ChainState, commits: readonly Commit[], copies: readonly CommitCopy[]): Promise<void> {
    requireReadable(state.log.features);
    this.#tail.beginAt(tailStart);
    await this.#stored.persist(copies.map(({ sequence }) => sequence));
    await this.#save(state, copies);
    this.#attempts.clear();
    this.#since.clear();
    for (const commit of commits) {
      this.#signs.note(commit);
      this.#logRecords(commit, state.log);
    }
    this.#state = state;
    this.#lastCheckpoint = commits.findLast((commit) => commit.checkpoint) ?? this.#lastCheckpoint;
  }

  #save(state: ChainState, copies: readonly CommitCopy[]): Promise<void> {
    return this.#files.save({ state, tailStart: this.#tail.start, lost: this.#lost }, copies);
  }

  /** A device that joins may read everything from then on, so its owner should learn of it. */
  #logRecords({ author, records, wallTimeMs }: Commit, { members }: LogState): void {
    if (author === this.#device.id) return;
    for (const record of records) {
      if (record.type === 'admission') {
        const { name, deviceIndex, role } = record.enrolment;
        const device = deviceLabel(deviceIndex, name);
        this.#options.logger.info('a new device takes part in the volume', { device, role, enrolled: isoTime(wallTimeMs) });
      } else if (record.type === 'removal') {
        const name = members[record.deviceIndex - 1]?.enrolment.name ?? '';
        this.#options.logger.info('a device was removed from the volume', { device: deviceLabel(record.deviceIndex, name) });
      }
    }
  }

  // --- Whether the store still shows this history

  /** Throws CommitError `ROLLBACK`, `OWN_COMMIT_MISSING`, `FORK`; StoreError. */
  async #checkHead(signal?: AbortSignal): Promise<void> {
    await this.#checkStored(this.head, await this.#stored.fetch(this.head.sequence, signal));
  }

  /** Checks that `sealed`, which the store shows under the number of this verified position, is the commit there. */
  async #checkStored({ sequence, hash }: LogPosition, sealed: Uint8Array | undefined, cause?: unknown): Promise<void> {
    if (!sealed) throw this.#gone({ sequence, hash }, cause);
    const found = hashBytes(sealed);
    if (equalBytes(found, hash)) return;
    await this.#files.saveEvidence(sequence, sealed);
    const evidence = { sequence, expectedHash: toHex(hash), foundHash: toHex(found) };
    throw new CommitError('FORK', `the store shows another commit ${sequence} than it did`, evidence, { cause });
  }

  #gone({ sequence, hash }: LogPosition, cause?: unknown): CommitError {
    const isOwn = this.#member()?.newest === sequence;
    const message = isOwn ? `commit ${sequence}, which this device wrote, is gone` : `commit ${sequence} is gone: the store went back`;
    return new CommitError(isOwn ? 'OWN_COMMIT_MISSING' : 'ROLLBACK', message, { sequence, expectedHash: toHex(hash) }, { cause });
  }

  /** Whether the store still shows all that this device has seen, and no hole. Throws CommitError, StoreError. */
  async #verifyStore(signal?: AbortSignal): Promise<void> {
    const gaps = this.#checkGaps({ ...startGaps, random: this.#options.random }, signal);
    // If both fail, a missing head is the more important finding.
    gaps.catch(() => {});
    await this.#checkHead(signal);
    await gaps;
    if (this.#freshness === 'offline') this.#freshness = 'proven';
  }

  /**
   * Where files arrive in any order, what stands behind a hole is waited for when something is put (`#checkAround`). A
   * device that is new there must not begin with half of a log.
   */
  async #checkGaps(search: GapSearch, signal?: AbortSignal, isNew = false): Promise<void> {
    try {
      await checkGaps(this.#stored, this.head.sequence, search, this.#options.logger, signal);
    } catch (error) {
      const isBehind = error instanceof CommitError && (error.evidence.sequence ?? 0) > this.head.sequence;
      if (!isBehind || !this.#keepsWork || isNew) throw error;
    }
  }

  /**
   * Looks beside an upload at what a put has to know: the result holds for two seconds. Throws CommitError when this is
   * an integrity stop; StoreError.
   */
  async checkAroundHead(signal?: AbortSignal): Promise<void> {
    try {
      await this.#checkAround(signal);
    } catch (error) {
      // The put looks again, and finds out what it means.
      if (!this.#isDoubt(error)) throw error;
    }
  }

  /**
   * Whether the head is still there and the next number is not a hole. Throws CommitError `MISSING`, `ROLLBACK`,
   * `OWN_COMMIT_MISSING`, `FORK`; StoreError.
   */
  async #checkAround(signal?: AbortSignal): Promise<void> {
    if (this.#freshness === 'offline') await this.#verifyStore(signal);
    const { head } = this;
    const { sequence } = head;
    const [hasHead, hasLater] = await Promise.all([
      this.#tail.includes(sequence) ? this.#tail.isStored(sequence, signal) : this.#stored.has(sequence, signal),
      this.#stored.has(sequence + 2, signal),
    ]);
    if (!hasHead) throw this.#gone(head);
    // If the next number is taken as well, another device has merely been faster.
    if (hasLater && !(await this.#stored.has(sequence + 1, signal))) {
      const hole = missingCommit(sequence + 1, sequence + 2);
      if (!this.#keepsWork) throw hole;
      this.#awaitGrace(sequence + 1, hole);
    }
    this.#checkedAround = { sequence, atMs: this.#options.clock.monotonicMs() };
  }

  // --- Lost commits

  /** Whether the tail may explain this error. */
  #isDoubt(error: unknown): boolean {
    const hasTail = this.#keepsWork || this.#tail.includes(this.head.sequence);
    return !this.#options.readOnly && hasTail && error instanceof CommitError && doubts.has(error.code);
  }

  /** Runs `work` again when the tail explains why it failed, and the log goes on. */
  async #afterDoubts<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    for (let left = doubtsMax; ; left--) {
      try {
        return await work();
      } catch (error) {
        if (left === 0 || !(await this.#isResolved(error, signal))) throw error;
      }
    }
  }

  /**
   * Whether the store has merely lost commits of the tail: they are in it again, or this device has lost the race for
   * their numbers afterwards and has stepped back.
   */
  async #isResolved(error: unknown, signal: AbortSignal | undefined): Promise<boolean> {
    if (!this.#isDoubt(error)) return false;
    const { head: start } = this.#tail.start;
    if (start.sequence > 0) await this.#checkStored(start, await this.#stored.fetch(start.sequence, signal), error);
    const extend = (state: ChainState, sealed: Uint8Array): Extension => this.#extendBy(state, sealed);
    // Their authors put them again at once.
    const awaitTurn = ({ commit, state }: Extension): void => {
      if (commit?.author !== this.#device.id) this.#awaitGrace(state.head.sequence, error);
    };
    const finding = await this.#tail.examine(this.head.sequence, extend, awaitTurn, signal);
    if (!finding) return false;
    const { putAgain, beforeLost } = finding;
    if (putAgain > 0) this.#options.logger.warn('commits were missing from the store and are in it again', { count: putAgain });
    if (beforeLost) return this.#keepsWork ? this.#meet(beforeLost, error, signal) : this.#stepBack(beforeLost, signal);
    return putAgain > 0 || (this.#keepsWork && this.#clearWay(error, signal));
  }

  /** Throws CommitError `UNSETTLED` as long as what is wrong with the number may pass. */
  #awaitGrace(sequence: number, cause: unknown, graceMs = this.#options.graceMs ?? 0): void {
    const now = this.#options.clock.monotonicMs();
    const since = this.#since.get(sequence) ?? now;
    this.#since.set(sequence, since);
    if (now - since < graceMs) throw new CommitError('UNSETTLED', `commit ${sequence} is not settled in the store`, { sequence }, { cause });
  }

  /** Something else stands in the number behind `before`, and whoever has seen a commit can do its work again. */
  async #meet(before: ChainState, cause: unknown, signal: AbortSignal | undefined): Promise<boolean> {
    const { graceMs = 0 } = this.#options;
    const first = before.head.sequence + 1;
    const instead = await this.#stored.fetch(first, signal);
    if (!instead) return true;
    if (!this.#fits(before, instead)) {
      this.#awaitGrace(first, cause);
      await this.#files.saveEvidence(first, instead);
      await this.#options.store.delete([this.#stored.keyOf(first)]);
      return true;
    }
    // What lost commits did must be pending before more are lost.
    if (this.#lost) throw new CommitError('UNSETTLED', `commit ${first} is another one again`, { sequence: first }, { cause });
    if (await this.#hasOthersBehind(before)) this.#awaitGrace(first, cause, Math.min(graceMs, followMs));
    await this.#leave(before, signal);
    return true;
  }

  /** Whether somebody else has written between `before` and the head. */
  async #hasOthersBehind(before: ChainState): Promise<boolean> {
    let state = before;
    while (state.head.sequence < this.head.sequence) {
      const copy = await this.#files.copies.read(state.head.sequence + 1);
      if (!copy) return true;
      const extension = this.#extendBy(state, copy);
      if (extension.commit?.author !== this.#device.id) return true;
      ({ state } = extension);
    }
    return false;
  }

  /** What stands behind the head and does not follow it is in the way of those that do. */
  async #clearWay(cause: unknown, signal: AbortSignal | undefined): Promise<boolean> {
    const sequence = this.head.sequence + 1;
    const found = await this.#stored.fetch(sequence, signal);
    if (!found || this.#follows(this.#state, found)) return false;
    this.#awaitGrace(sequence, cause);
    await this.#files.saveEvidence(sequence, found);
    await this.#options.store.delete([this.#stored.keyOf(sequence)]);
    this.#options.logger.warn('what does not follow the log was removed from its end', { sequence });
    return true;
  }

  /**
   * Goes back to the state before the first lost commit, provided that a commit stands in its number which may stand
   * there, and that nobody has built on the lost ones. What they did must be done again ({@link lostWork}).
   */
  async #stepBack(before: ChainState, signal: AbortSignal | undefined): Promise<boolean> {
    const first = before.head.sequence + 1;
    const [instead, behind] = await Promise.all([this.#stored.fetch(first, signal), this.#stored.fetch(this.head.sequence + 1, signal)]);
    if (!instead || !this.#fits(before, instead) || (behind && this.#fits(this.#state, behind))) return false;
    await this.#leave(before, signal);
    return true;
  }

  /** The log goes back to `before`. What the commits behind it did must be done again ({@link lostWork}). */
  async #leave(before: ChainState, signal: AbortSignal | undefined): Promise<void> {
    const { disk, stateDirectory, keys } = this.#options;
    const { formerIndex, landedSerial } = this.#device;
    // The former identity's admission is among what is lost.
    if (landedSerial > 0 && before.log.members.length < formerIndex)
      this.#device = await forgetLanded({ disk, stateDirectory, key: keys.device }, this.#device);
    const commits = await setAside(this.#files, before, this.head.sequence, (state, sealed) => this.#extendBy(state, sealed));
    this.#lost = { before: this.#lost?.before ?? before, commits: [...(this.#lost?.commits ?? []), ...commits] };
    if (this.#keepsWork) this.#tail.endAt(before);
    else this.#tail.beginAt(before);
    await this.#save(before, []);
    this.#attempts.clear();
    this.#since.clear();
    this.#state = before;
    this.#lastCheckpoint = undefined;
    await this.#loadCheckpoint();
    this.#options.logger.warn('the store has lost commits; what they did is done again', { first: before.head.sequence + 1, count: commits.length });
    await this.#removeDead(signal);
  }

  /** Whether it is a commit that counts. */
  #fits(state: ChainState, sealed: Uint8Array): boolean {
    return this.#tryExtend(state, sealed)?.commit !== undefined;
  }

  /** Whether it is sealed for this place, even if it does not count. */
  #follows(state: ChainState, sealed: Uint8Array): boolean {
    return this.#tryExtend(state, sealed) !== undefined;
  }

  #tryExtend(state: ChainState, sealed: Uint8Array): Extension | undefined {
    try {
      return this.#extendBy(state, sealed);
    } catch (error) {
      if (error instanceof CommitError) return undefined;
      throw error;
    }
  }

  /**
   * Removes lost commits that stand behind the numbers of others: nothing can follow them any more, and they would
   * block the log. The newest goes first, so that there is never a hole.
   */
  async #removeDead(signal?: AbortSignal): Promise<void> {
    for (const { sequence, hash } of this.#lost?.commits.toReversed() ?? []) {
      if (sequence <= this.head.sequence) continue;
      const found = await this.#stored.fetch(sequence, signal);
      if (found && equalBytes(hashBytes(found), hash)) await this.#options.store.delete([this.#stored.keyOf(sequence)]);
    }
  }

  /**
   * Commits whose work must be done again; `undefined` when there are none. Throws CommitError, StoreError, disk
   * errors.
   */
  async lostWork(): Promise<LostWork | undefined> {
    const { keys } = this.#options;
    return this.#lost && loadLostWork(this.#lost, { known: this.#known, files: this.#files, keys, device: this.#device });
  }

  get hasLostWork(): boolean {
    return this.#lost !== undefined;
  }

  /** What the lost commits did is safe elsewhere. Throws disk errors. */
  async forgetLostWork(): Promise<void> {
    const { commits = [] } = this.#lost ?? {};
    this.#lost = undefined;
    await this.#save(this.#state, []);
    if (!this.#keepsWork) await this.#files.lost.clear(commits);
  }

  // --- Writing

  /**
   * Appends a commit at head + 1. Returns the commit when it is in the log (trust persisted, head moved); `lost` when
   * another commit has that number: poll, rebase, try again. After a StoreError the outcome is unknown; if the commit
   * got in, the next poll returns it. `work` says what it does, so that it can be done again should the store lose it.
   * Throws CommitError `NOT_PERMITTED`, before anything is put, when it would not count.
   */
  async put(draft: CommitDraft, signal?: AbortSignal, work: readonly WorkGroup[] = [], records: readonly LogRecord[] = []): Promise<Commit | 'lost'> {
    // The log may have lost the enrolment.
    if (!this.#member()) return 'lost';
    if (!this.#keepsWork || work.length === 0) return this.#put(draft, records, work, signal);
    return this.#put(draft, [...records, { type: 'work', groups: work }], [], signal);
  }

  #emptyDraft(): CommitDraft {
    const wallTimeMs = this.#options.clock.now().sec * 1000;
    const counters = { nextInoCounter: 0, operationSerial: 0, filesDelta: 0, bytesDelta: 0 };
    return { wallTimeMs, ...counters, packs: [], checkpoint: undefined, mutations: [] };
  }

  async #put(
    draft: CommitDraft,
    records: readonly LogRecord[],
    work: readonly WorkGroup[],
    signal: AbortSignal | undefined,
  ): Promise<Commit | 'lost'> {
    const { keys, clock, program } = this.#options;
    const { obstacle } = this;
    if (obstacle !== undefined) throw new CommitError('NOT_PERMITTED', obstacle);
    const fields = nextCommit(this.#state, this.#device.id, program, draft, records);
    const encoded = encodeCommit(fields, keys.volumeId, (message) => this.#device.signer.sign(message));
    assert(encoded.byteLength <= commitPlainMax, 'a commit is bounded');
    const { sequence, previousHash } = fields;
    const sealed = keys.current.commit.seal(commitPlace(sequence, previousHash), padCommit(encoded));
    // Judged as every reader will judge it: what others would skip is never written.
    const opened = new OpenedCommit({ volumeId: keys.volumeId, sequence, hash: hashBytes(sealed), previousHash }, encoded);
    const extension = extendChain(this.#state, opened);
    if (extension.void) throw new CommitError('NOT_PERMITTED', `this device can write no commit: ${extension.void.reason}`, { sequence });
    const { state, commit } = extension;
    const checked = this.#checkedAround;
    const isChecked = checked?.sequence === this.head.sequence && clock.monotonicMs() - checked.atMs <= checkedAroundMs;
    if (this.#freshness === 'offline' || !isChecked) {
      try {
        await this.#checkAround(signal);
      } catch (error) {
        if (await this.#isResolved(error, signal)) return 'lost';
        throw error;
      }
    }
    // Before it is put: whatever happens, this device knows its own commits by their copies.
    // Also without work: it shows that this installation has written the commit.
    const sealedWork = sealWork(keys.device, commit.hash, work);
    await this.#files.saveCopy({ sequence, bytes: sealed, work: sealedWork });
    this.#attempts.add(toHex(commit.hash));
    if (!(await this.#stored.put(fields.sequence, sealed, signal))) return 'lost';
    await this.#accept(state, this.#tail.startFor(state), [commit], []);
    this.#tail.grew([{ state, bytes: sealed.byteLength + sealedWork.byteLength, isCheckpoint: commit.checkpoint !== undefined }]);
    this.#emptyPolls = 0;
    return commit;
  }

  /**
   * Removes the local copies of commits that no start needs any more, now that the tree holds those up to `covers`.
   * Throws disk errors.
   */
  async removeCopies(covers: Sequence): Promise<void> {
    // The one at `covers` stays, since the next one opens only with its hash, and so does the own tail.
    const { sequence } = this.#tail.start.head;
    await this.#files.removeCopiesBefore(Math.min(covers, sequence), this.#state.checkpoint?.sequence);
    if (!this.#lost) await this.#files.lost.removeBefore(sequence);
  }

  /** Wipes the secret keys. Nothing may be called afterwards. */
  async close(): Promise<void> {
    wipeDevice(this.#device);
  }
}

const notAdmitted = (): CommitError => new CommitError('NOT_ADMITTED', 'this keyslot opens the volume without the right to add a device to it');

async function ownDevice({
  disk,
  stateDirectory,
  keys,
  genesis,
  deviceName: name,
  random,
  ownerSeed,
}: CommitLogOptions): ReturnType<typeof openDevice> {
  const owner = ownerSeed && new Signer(ownerSeed);
  try {
    if (owner && !equalBytes(owner.publicKey, genesis.ownerKey)) throw new CommitError('FORK', 'the keyslot names another owner than the volume has');
    return await openDevice({ disk, stateDirectory, key: keys.device }, { name, random, volumeId: keys.volumeId, owner });
  } finally {
    owner?.wipe();
  }
}
