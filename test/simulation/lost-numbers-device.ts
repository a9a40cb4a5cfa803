/**
 * A device of the policy *lost numbers*: one name for each number, as in a store whose put-if-absent is real. A number
 * that turns out to hold somebody else's commit is a lost race, as long as only commits of its own stand there. Commits
 * of others are given up when each of their authors has gone on with the other history; otherwise the device stops, and
 * a person may let it rejoin.
 */
import type { TreeNode } from './commit-tree.js';
import { isCommit, type OperationId, type SimulatedCommit } from './simulated-commit.js';
import { type CrashPoint, type DeviceParts, graceTicks, operationsPerCommitMax, PutCounter, type SimulatedDevice } from './simulated-device.js';
import type { FileObject } from './synced-folders.js';
import { WithdrawnOperations } from './withdrawn-operations.js';

/** Planted mistakes, which the oracle must find. */
export type LostNumbersFault =
  /** Operations are forgotten when another device has committed on top of them. */
  | 'forgets-acknowledged'
  /** Any other history is followed, and what it lacks is not put again. */
  | 'follows-blindly';

/** How long it waits for the authors of what it would give up. */
const stopTicks = 3 * graceTicks;

const nameOf = (number: number): string => `log/${number}`;

export class LostNumbersDevice implements SimulatedDevice {
  readonly index: number;
  readonly #parts: DeviceParts;
  readonly #fault: LostNumbersFault | undefined;
  readonly #puts: PutCounter;
  readonly #withdrawn: WithdrawnOperations;
  /** The commit with the number n stands at n - 1. */
  #chain: SimulatedCommit[] = [];
  #operations: OperationId[] = [];
  readonly #written = new Set<number>();
  /** Everything that was ever in its chain. */
  readonly #accepted = new Set<SimulatedCommit>();
  #removes: number | undefined;
  /** What is not as it should be, and since when; by number. */
  readonly #since = new Map<number, number>();
  #stopped = false;

  constructor(parts: DeviceParts, fault?: LostNumbersFault) {
    this.index = parts.index;
    this.#parts = parts;
    this.#fault = fault;
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
    return this.#pending().length > 0 || this.#hasRemoval;
  }

  get isStopped(): boolean {
    return this.#stopped;
  }

  get isRemoved(): boolean {
    return this.history.some(({ removes }) => removes === this.index);
  }

  /** It knows no anchors. */
  get anchors(): readonly TreeNode[] {
    return [];
  }

  get known(): Iterable<SimulatedCommit> {
    return this.#accepted;
  }

  append(operation: OperationId): void {
    this.#operations.push(operation);
  }

  restart(): void {
    this.#since.clear();
  }

  remove(device: number): void {
    this.#removes = device;
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
    if (mayPut && mayCommit && !this.isRemoved && (this.hasPending || !this.#isAdmitted)) this.#commit(now, crash);
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
      this.#accepted.add(found);
      this.#since.clear();
      this.#withdrawn.update(new Set(), new Set(found.operations), () => false, now);
      if (this.#fault === 'forgets-acknowledged') this.#forgetAcknowledged();
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
    return rival.length > 0 ? rival : undefined;
  }

  /** Another history from `number` on: a lost race, a change of sides, or a stop. */
  #meet(number: number, rival: readonly SimulatedCommit[], now: number): boolean {
    const { tally } = this.#parts;
    const others = new Set(this.#chain.slice(number - 1).map(({ author }) => author));
    others.delete(this.index);
    if (this.#fault !== 'follows-blindly') for (const { author } of rival) others.delete(author);
    if (others.size === 0 || this.#fault === 'follows-blindly') {
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

  #switch(number: number, rival: readonly SimulatedCommit[], now: number): void {
    const { tally } = this.#parts;
    const before = this.#applied;
    const dropped = this.#chain.slice(number - 1);
    const isOverOthers = dropped.some(({ author, operations }) => author !== this.index && operations.length > 0);
    tally.add('flips');
    tally.note('commits dropped by flips', dropped.filter(({ operations }) => operations.length > 0).length);
    if (isOverOthers) tally.add('flips over commits of others');
    if (this.#fault === 'follows-blindly') {
      const lost = new Set(dropped.flatMap(({ operations }) => operations));
      this.#operations = this.#operations.filter((operation) => !lost.has(operation));
    }
    this.#chain = [...this.#chain.slice(0, number - 1), ...rival];
    for (const commit of rival) this.#accepted.add(commit);
    this.#since.clear();
    this.#withdrawn.update(before, this.#applied, () => false, now);
  }

  /** Puts the commit again that belongs at a number up to the head. False: it is too early to say. */
  #mend(number: number, now: number): boolean {
    const { folder, tally } = this.#parts;
    const commit = this.#chain[number - 1];
    const found = folder.get(nameOf(number));
    if (!commit || found === commit) return true;
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
    if (isCommit(found) && this.#written.has(found.id)) return true;
    if (found === 'part') this.#parts.tally.add('polls of a half-delivered commit');
    return this.#hasWaited(number, graceTicks * (1 + this.index / 4), now);
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

  #pending(): OperationId[] {
    const applied = this.#applied;
    return this.#operations.filter((operation) => !applied.has(operation));
  }

  get #applied(): ReadonlySet<OperationId> {
    return new Set(this.history.flatMap(({ operations }) => operations));
  }

  get #hasRemoval(): boolean {
    return this.#removes !== undefined && !this.history.some(({ removes }) => removes === this.#removes);
  }

  get #isAdmitted(): boolean {
    return this.#parts.founders.includes(this.index) || this.#chain.some(({ author, admits }) => admits && author === this.index);
  }

  #commit(now: number, crash: CrashPoint | undefined): void {
    const { newId, tally } = this.#parts;
    const operations = this.#pending().slice(0, operationsPerCommitMax);
    const id = newId();
    const commit: SimulatedCommit = {
      kind: 'commit',
      id,
      number: this.#chain.length + 1,
      previous: this.head?.id ?? 0,
      author: this.index,
      writtenAt: now,
      operations,
      carries: new Map(),
      packs: [],
      admits: !this.#isAdmitted,
      removes: this.#hasRemoval ? this.#removes : undefined,
      cut: undefined,
      opens: 0,
      closedRound: 0,
      anchor: 0,
      governance: 0,
    };
    if (crash === 'before-put') return;
    this.#written.add(id);
    this.#puts.put(operations);
    tally.add('commits');
    this.#put(commit);
    if (crash === 'after-put') return;
    this.#chain.push(commit);
    this.#accepted.add(commit);
    this.#since.clear();
  }

  #put(commit: SimulatedCommit): void {
    const { folder } = this.#parts;
    folder.change(nameOf(commit.number), commit);
  }
}
