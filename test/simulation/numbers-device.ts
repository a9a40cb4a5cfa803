/**
 * A device of a log with one name for each number, as in a store whose put-if-absent is real. A number that turns out
 * to hold another commit is a race that was lost later than usual: the device goes back to the newest common commit,
 * takes the history that the folder shows, and does again what only the old one had. Policies differ in whose work that
 * is, and in what becomes of removals.
 */
import { authorOfOperation, isCommit, type OperationId, type SimulatedCommit } from './simulated-commit.js';
import { type CrashPoint, type DeviceParts, graceTicks, operationsPerCommitMax, PutCounter, type SimulatedDevice } from './simulated-device.js';
import type { FileObject } from './synced-folders.js';
import { WithdrawnOperations } from './withdrawn-operations.js';

/** Planted mistakes, which the oracle must find. */
export type NumbersFault =
  /** Operations are forgotten when another device has committed on top of them. */
  | 'forgets-acknowledged'
  /** Any other history is followed, and what it lacks is not put again. */
  | 'follows-blindly'
  /** What was carried is put again although the new history has it. */
  | 'repeats'
  /** What was carried is put again in another order. */
  | 'reverses'
  /** A history without a removal that is known here is followed. */
  | 'forgets-removals'
  /** Files that disappear are not put again. */
  | 'never-mends';

export interface NumbersOptions {
  /**
   * Which operations a device does again when it changes to another history: all that the old one had; or its own, and
   * then it leaves commits of others only when each of their authors has gone on with the other history, and stops
   * otherwise.
   */
  readonly carries: 'own' | 'all';
  /** A history without a removal that is known here is not followed. It is overwritten, or the device stops. */
  readonly removals: 'put-back' | 'stop';
  readonly fault?: NumbersFault | undefined;
}

/** How long it waits for the authors of what it would give up. */
const stopTicks = 3 * graceTicks;

/** The devices that the commits remove. */
function removedBy(commits: readonly SimulatedCommit[]): Set<number> {
  return new Set(commits.flatMap(({ removes }) => removes ?? []));
}

const nameOf = (number: number): string => `log/${number}`;

export class NumbersDevice implements SimulatedDevice {
  readonly index: number;
  readonly #parts: DeviceParts;
  readonly #options: NumbersOptions;
  readonly #puts: PutCounter;
  readonly #withdrawn: WithdrawnOperations;
  /** The commit with the number n stands at n - 1. */
  #chain: SimulatedCommit[] = [];
  #operations: OperationId[] = [];
  readonly #written = new Set<number>();
  /** Everything that was ever in its chain. */
  readonly #accepted = new Set<SimulatedCommit>();
  /** Operations of histories that it has given up, in their order. */
  #queue: OperationId[] = [];
  /** In which commit its author had put an operation, as far as this device has read. */
  readonly #sources = new Map<OperationId, SimulatedCommit>();
  #removes: number | undefined;
  /** What is not as it should be, and since when; by number. */
  readonly #since = new Map<number, number>();
  #stopped = false;

  constructor(parts: DeviceParts, options: NumbersOptions) {
    this.index = parts.index;
    this.#parts = parts;
    this.#options = options;
    this.#puts = new PutCounter(parts.tally);
    this.#withdrawn = new WithdrawnOperations(parts.index, parts.tally);
  }

  get head(): SimulatedCommit | undefined {
    return this.#chain.at(-1);
  }

  get history(): readonly SimulatedCommit[] {
    const removed = new Set<number>();
    return this.#chain.filter(({ author, removes }) => {
      const counts = !removed.has(author);
      if (counts && removes !== undefined) removed.add(removes);
      return counts;
    });
  }

  get hasPending(): boolean {
    return this.#missing().length > 0 || this.#hasRemoval;
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  get isRemoved(): boolean {
    return this.history.some(({ removes }) => removes === this.index);
  }

  get known(): Iterable<SimulatedCommit> {
    const history = new Set(this.history);
    const removed = new Set(this.history.map(({ removes }) => removes));
    return [...this.#accepted].filter((commit) => history.has(commit) || !removed.has(commit.author));
  }

  append(operation: OperationId): void {
    this.#operations.push(operation);
  }

  restart(): void {
    this.#since.clear();
  }

  remove(device: number): void {
    this.#removes = device;
    // The removal goes into the log at once, in whatever order the rest follows.
    if (this.#options.carries === 'all' && !this.#stopped) this.#commit(undefined);
  }

  rejoin(now: number): void {
    if (!this.#stopped) return;
    this.#stopped = false;
    this.#since.clear();
    for (const number of this.#differences()) {
      const rival = this.#rivalAt(number);
      if (rival) this.#switch(number, rival, now);
      if (rival) return;
    }
  }

  step(now: number, mayCommit: boolean, crash?: CrashPoint): void {
    if (this.#stopped) return;
    const mayPut = this.#follow(now);
    if (mayPut && mayCommit && !this.isRemoved && (this.hasPending || !this.#isAdmitted)) this.#commit(crash);
  }

  // --- Following

  /** Whether a commit may be put at the next number. */
  #follow(now: number): boolean {
    for (const number of this.#differences()) {
      const rival = this.#rivalAt(number);
      if (rival) return this.#meet(number, rival, now);
      if (!this.#mend(number, now)) return false;
    }
    for (;;) {
      const number = this.#chain.length + 1;
      const found = this.#parts.folder.get(nameOf(number));
      if (found === undefined) return true;
      if (!isCommit(found) || !this.#follows(found)) return this.#isOver(number, found, now);
      this.#chain.push(found);
      this.#noteAccepted(found);
      this.#since.clear();
      this.#withdrawn.update(new Set(), new Set(found.operations), () => false, now);
      if (this.#options.fault === 'forgets-acknowledged') this.#forgetAcknowledged();
    }
  }

  #follows(commit: SimulatedCommit): boolean {
    return commit.number === this.#chain.length + 1 && commit.previous === (this.head?.id ?? 0);
  }

  /** The numbers up to the head at which the folder does not show this device's commit. */
  *#differences(): Generator<number, void> {
    for (const [index, commit] of this.#chain.entries()) if (this.#parts.folder.get(nameOf(index + 1)) !== commit) yield index + 1;
  }

  /** The commits that the folder shows from `number` on, if they follow what this device has before it. */
  #rivalAt(number: number): SimulatedCommit[] | undefined {
    const rival: SimulatedCommit[] = [];
    let previous = this.#chain[number - 2]?.id ?? 0;
    for (let at = number; ; at++) {
      const found = this.#parts.folder.get(nameOf(at));
      if (!isCommit(found) || found.number !== at || found.previous !== previous) break;
      rival.push(found);
      previous = found.id;
    }
    const removed = removedBy(this.#chain.slice(0, number - 1));
    return rival.some(({ author }) => !removed.has(author)) ? rival : undefined;
  }

  /** Another history from `number` on: a lost race, a change of sides, or a stop. */
  #meet(number: number, rival: readonly SimulatedCommit[], now: number): boolean {
    const { tally } = this.#parts;
    if (this.#options.carries === 'all') return this.#consider(number, rival, now);
    const others = new Set(this.#chain.slice(number - 1).map(({ author }) => author));
    others.delete(this.index);
    if (this.#options.fault !== 'follows-blindly') for (const { author } of rival) others.delete(author);
    if (others.size === 0 || this.#options.fault === 'follows-blindly') {
      tally.add('lost numbers');
      this.#switch(number, rival, now);
      return false;
    }
    if (this.#hasWaited(number, stopTicks, now)) {
      this.#stopped = true;
      tally.add('stops');
    }
    return false;
  }

  /** The whole branch can be carried, but what says who may take part must stay. */
  #consider(number: number, rival: readonly SimulatedCommit[], now: number): boolean {
    const dropped = this.#chain.slice(number - 1);
    const there = removedBy(rival);
    const isUndone = [...removedBy(dropped)].some((device) => !there.has(device));
    if (isUndone && this.#options.fault !== 'forgets-removals') return this.#putBack(number, rival, now);
    const isOverOthers = dropped.some(({ author }) => author !== this.index);
    if (isOverOthers && !this.#hasWaited(number, graceTicks, now)) return false;
    this.#switch(number, rival, now);
    return true;
  }

  /** The history here has a removal that the other one lacks. */
  #putBack(number: number, rival: readonly SimulatedCommit[], now: number): boolean {
    const dropped = this.#chain.slice(number - 1);
    const here = removedBy(dropped);
    // Neither history has both, so only a person can say.
    if (this.#options.removals === 'stop' || [...removedBy(rival)].some((device) => !here.has(device))) {
      if (this.#hasWaited(number, stopTicks, now)) {
        this.#stopped = true;
        this.#parts.tally.add('stops');
      }
      return false;
    }
    if (!this.#hasWaited(number, graceTicks * (1 + this.index / 4), now)) return false;
    for (const commit of dropped) this.#put(commit);
    this.#parts.tally.add('histories put back');
    return false;
  }

  #switch(number: number, rival: readonly SimulatedCommit[], now: number): void {
    const { tally } = this.#parts;
    const before = this.#shown;
    const dropped = this.#chain.slice(number - 1);
    const isOverOthers = dropped.some(({ author, operations }) => author !== this.index && operations.length > 0);
    tally.add('flips');
    tally.note('commits dropped by flips', dropped.filter(({ operations }) => operations.length > 0).length);
    if (isOverOthers) tally.add('flips over commits of others');
    if (this.#options.fault === 'follows-blindly') {
      const lost = new Set(dropped.flatMap(({ operations }) => operations));
      this.#operations = this.#operations.filter((operation) => !lost.has(operation));
    }
    this.#chain = [...this.#chain.slice(0, number - 1), ...rival];
    for (const commit of rival) this.#noteAccepted(commit);
    this.#since.clear();
    if (this.#options.carries === 'all' && this.#options.fault !== 'follows-blindly') this.#carry(dropped);
    this.#withdrawn.update(before, this.#shown, (device) => removedBy(this.#chain).has(device), now);
  }

  #carry(dropped: readonly SimulatedCommit[]): void {
    const operations = dropped.flatMap((commit) => commit.operations);
    this.#queue = [...new Set([...(this.#options.fault === 'reverses' ? operations.toReversed() : operations), ...this.#queue])];
  }

  /** Puts the commit again that belongs at a number up to the head. False: it is too early to say. */
  #mend(number: number, now: number): boolean {
    const { folder, tally } = this.#parts;
    const commit = this.#chain[number - 1];
    const found = folder.get(nameOf(number));
    if (!commit || found === commit) return true;
    if (this.#options.fault === 'never-mends') return false;
    const isOwnPast = isCommit(found) && this.#written.has(found.id);
    const isOwn = this.#written.has(commit.id);
    const isNow = found === undefined ? isOwn : isOwnPast;
    if (!isNow && !this.#hasWaited(number, graceTicks * (1 + this.index / 4), now)) return false;
    tally.add('commits put again byte for byte');
    this.#put(commit);
    return true;
  }

  /** What stands behind the head is no commit that follows it: true once this device may put its own there. */
  #isOver(number: number, found: FileObject | 'part', now: number): boolean {
    const { folder, tally } = this.#parts;
    if (isCommit(found) && this.#written.has(found.id)) return true;
    if (found === 'part') tally.add('polls of a half-delivered commit');
    if (!this.#hasWaited(number, graceTicks * (1 + this.index / 4), now)) return false;
    // Its other half may never come, and then the file that belongs there does not either.
    folder.change(nameOf(number), undefined);
    tally.add('files in the way removed');
    return true;
  }

  #hasWaited(number: number, ticks: number, now: number): boolean {
    const since = this.#since.get(number);
    if (since === undefined) this.#since.set(number, now);
    return since !== undefined && now - since >= ticks;
  }

  #forgetAcknowledged(): void {
    const last = this.#chain.findLastIndex(({ author }) => author !== this.index);
    const acknowledged = new Set(this.#chain.slice(0, last).flatMap(({ operations }) => operations));
    this.#operations = this.#operations.filter((operation) => !acknowledged.has(operation));
  }

  // --- Writing

  /** What it puts next. */
  #next(): OperationId[] {
    const operations = this.#options.fault === 'repeats' && this.#queue.length > 0 ? this.#queue.splice(0) : this.#missing();
    return operations.slice(0, operationsPerCommitMax);
  }

  #missing(): OperationId[] {
    const applied = this.#applied;
    return [...new Set([...this.#queued(applied), ...this.#operations])].filter((operation) => !applied.has(operation));
  }

  /** What waits of others. */
  #queued(applied: ReadonlySet<OperationId>): OperationId[] {
    if (this.#queue.length === 0) return [];
    const removed = removedBy(this.#chain);
    return this.#queue.filter((operation) => !applied.has(operation) && !removed.has(this.#sourceOf(operation).author));
  }

  get #applied(): ReadonlySet<OperationId> {
    return new Set(this.history.flatMap(({ operations }) => operations));
  }

  /** What applications see of others. */
  get #shown(): ReadonlySet<OperationId> {
    const applied = this.#applied;
    return new Set([...applied, ...this.#queued(applied)]);
  }

  #sourceOf(operation: OperationId): SimulatedCommit {
    const source = this.#sources.get(operation);
    if (!source) throw new RangeError('what is carried was in a commit');
    return source;
  }

  get #hasRemoval(): boolean {
    return this.#removes !== undefined && !this.history.some(({ removes }) => removes === this.#removes);
  }

  get #isAdmitted(): boolean {
    return this.#parts.founders.includes(this.index) || this.#chain.some(({ author, admits }) => admits && author === this.index);
  }

  #commit(crash: CrashPoint | undefined): void {
    const { newId, tally } = this.#parts;
    const operations = this.#next();
    const id = newId();
    const commit: SimulatedCommit = {
      kind: 'commit',
      id,
      number: this.#chain.length + 1,
      previous: this.head?.id ?? 0,
      author: this.index,
      operations,
      carries: new Map(operations.filter((one) => authorOfOperation(one) !== this.index).map((one) => [one, this.#sourceOf(one)])),
      admits: !this.#isAdmitted,
      removes: this.#hasRemoval ? this.#removes : undefined,
    };
    if (crash === 'before-put') return;
    this.#written.add(id);
    this.#puts.put(operations);
    tally.add('commits');
    this.#put(commit);
    if (crash === 'after-put') return;
    this.#chain.push(commit);
    this.#noteAccepted(commit);
    this.#since.clear();
  }

  #noteAccepted(commit: SimulatedCommit): void {
    this.#accepted.add(commit);
    for (const operation of commit.operations) {
      if (!this.#sources.has(operation)) this.#sources.set(operation, commit.carries.get(operation) ?? commit);
    }
  }

  #put(commit: SimulatedCommit): void {
    const { folder } = this.#parts;
    folder.change(nameOf(commit.number), commit);
  }
}
