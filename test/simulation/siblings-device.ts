/**
 * A device of the policy *siblings*: the name of a commit ends with its hash, so no two devices ever write one name and
 * nothing is overwritten. Every device holds all commits as a tree, chooses a branch by the one rule of
 * `commit-tree.ts`, and puts its own operations that the branch lacks on top of it.
 *
 * What lies on the device's disk survives a restart: the tree, its operations, its own commits (kept before they are
 * put). The place in the feed and the lists of what is incomplete or lost are made again.
 */
import { type AnchorRule, type ChoiceRule, CommitTree, commonBelow, isBelow, pathTo, type TreeNode, writtenBy } from './commit-tree.js';
import { OperationSources } from './operation-sources.js';
import { authorOfOperation, type Cut, isCommit, type OperationId, type SimulatedCommit } from './simulated-commit.js';
import { type CrashPoint, type DeviceParts, graceTicks, operationsPerCommitMax, PutCounter, type SimulatedDevice } from './simulated-device.js';
import { WithdrawnOperations } from './withdrawn-operations.js';

/** Planted mistakes, which the oracle must find. */
export type SiblingsFault =
  /** What was in a commit is not put again when its branch is dropped. */
  | 'drops-its-own'
  /** Operations are forgotten when another device has committed on top of them. */
  | 'forgets-acknowledged'
  /** What a flip dropped is put again without a look at what the new branch has. */
  | 'repeats'
  /** Files that disappear are not put again. */
  | 'never-mends';

/**
 * Whether a device also puts operations of others again: `no`; `late`, when their authors have not done so for a while;
 * or `at-once`, what its own branch had when it gives that up, in the order of the branch, and everything else late.
 */
export type Carrying = 'no' | 'late' | 'at-once';

export interface SiblingsOptions {
  readonly choice: ChoiceRule;
  readonly anchoring: AnchorRule;
  readonly carrying: Carrying;
  readonly fault?: SiblingsFault | undefined;
}

/** A device that has nothing to write opens a round at most so often. */
const openingTicks = 15;
/** So many rounds back, commits of branches that lost are kept. */
const roundsNeeded = 2;

const idOf = (name: string): number => Number(name.split('-')[1]);
const nameOf = ({ number, id }: SimulatedCommit): string => `log/${number}-${id}`;

export class SiblingsDevice implements SimulatedDevice {
  readonly index: number;
  readonly tree: CommitTree;
  /** Every anchor that it has had. */
  readonly anchors: TreeNode[] = [];
  readonly #parts: DeviceParts;
  readonly #options: SiblingsOptions;
  readonly #puts: PutCounter;
  #head: TreeNode;
  /** The operations on the way to the head, and the statements about removed devices. */
  #applied = new Set<OperationId>();
  #cutsHere = new Set<Cut | undefined>();
  #operations: OperationId[] = [];
  /** Devices that a person has removed here. */
  readonly #removals: number[] = [];
  /** What it has to say about removed devices. */
  readonly #cuts = new Map<number, Cut>();
  /** Operations below an anchor. */
  readonly #settled = new Set<OperationId>();
  /** Its own commits that are in the folder, or should be. */
  readonly #written = new Set<number>();
  #openedRound = 0;
  #clearedRound = 0;
  #committedAt = 0;
  /** The tree has changed since a branch was chosen. */
  #isStale = false;
  #cursor = 0;
  readonly #incomplete = new Set<string>();
  /** Names whose files are gone, damaged or not whole, and since when. */
  readonly #lost = new Map<string, number>();
  /** Operations of branches that it has given up, in their order. */
  #queue: OperationId[] = [];
  readonly #sources: OperationSources;
  /** For two of the planted faults. */
  readonly #everPut = new Set<OperationId>();
  readonly #repeated: OperationId[] = [];
  readonly #withdrawn: WithdrawnOperations;

  constructor(parts: DeviceParts, options: SiblingsOptions) {
    this.index = parts.index;
    this.#parts = parts;
    this.#options = options;
    this.#puts = new PutCounter(parts.tally);
    this.#withdrawn = new WithdrawnOperations(parts.index, parts.tally);
    this.tree = new CommitTree(parts.index, parts.founders, options.choice, options.anchoring);
    this.#head = this.tree.anchor;
    this.#sources = new OperationSources((commit) => this.tree.isCounted(commit));
  }

  /** How long it leaves to others what others should do; not all devices lose patience at once. */
  get #patienceTicks(): number {
    return graceTicks * (1 + this.index / 4);
  }

  get head(): SimulatedCommit | undefined {
    return this.#head.commit;
  }

  get history(): readonly SimulatedCommit[] {
    return pathTo(this.#head);
  }

  get hasPending(): boolean {
    return this.#pending().length > 0 || this.#toRemove() !== undefined || this.#toCut() !== undefined;
  }

  get isStopped(): boolean {
    return false;
  }

  get isRemoved(): boolean {
    return this.tree.removedDevices.has(this.index) || (this.#head.removed & (1 << this.index)) !== 0;
  }

  get known(): Iterable<SimulatedCommit> {
    return this.tree.nodes.flatMap(({ commit }) => (commit && this.tree.isCounted(commit) ? [commit] : []));
  }

  append(operation: OperationId): void {
    this.#operations.push(operation);
  }

  restart(): void {
    this.#cursor = 0;
    this.#incomplete.clear();
    this.#lost.clear();
    for (const { commit } of this.tree.nodes) if (commit && this.#written.has(commit.id)) this.#lost.set(nameOf(commit), 0);
  }

  rejoin(): void {
    // It never stops.
  }

  remove(device: number): void {
    this.#removals.push(device);
    this.#cutOff(device);
  }

  step(now: number, mayCommit: boolean, crash?: CrashPoint): void {
    this.#receive(now);
    this.#follow(now);
    this.#mend(now);
    if (this.tree.isMember && this.tree.closedRound > this.#clearedRound) this.#clear();
    if (mayCommit && !this.isRemoved && this.#hasWork(now)) this.#commit(now, crash);
  }

  // --- Reading

  #receive(now: number): void {
    const { folder } = this.#parts;
    for (const name of this.#incomplete) this.#look(name, now);
    for (; this.#cursor < folder.feed.length; this.#cursor++) {
      const name = folder.feed[this.#cursor];
      if (name?.startsWith('log/') === true) this.#look(name, now);
    }
  }

  /** Takes the commit in if it and its packs are there. */
  #look(name: string, now: number): void {
    const { folder, tally } = this.#parts;
    const found = folder.get(name);
    if (!isCommit(found) || nameOf(found) !== name) {
      if (!this.#lost.has(name)) this.#lost.set(name, now);
      return;
    }
    if (this.tree.has(found.id)) return;
    if (found.packs.some((pack) => typeof folder.get(pack) !== 'object')) {
      if (!this.#incomplete.has(name)) tally.add('commits before their packs');
      this.#incomplete.add(name);
      return;
    }
    this.#incomplete.delete(name);
    this.tree.add(found);
    this.#isStale = true;
    for (const device of this.tree.removedDevices) this.#cutOff(device);
  }

  #follow(now: number): void {
    if (!this.#isStale) return;
    this.#isStale = false;
    this.tree.closeRounds();
    const best = this.tree.best();
    if (best !== this.#head) this.#move(best, now);
    this.tree.anchorBelow(this.#head);
    if (this.anchors.at(-1) !== this.tree.confirmed) this.#noteAnchor();
    if (this.#options.carrying !== 'no') this.#sources.update(this.tree.nodes, (operation) => this.#isHere(operation), now);
  }

  /** What an anchor holds is never put again, so it is forgotten. */
  #noteAnchor(): void {
    const { tree, anchors } = this;
    const before = anchors.at(-1);
    const settled = new Set(
      pathTo(tree.confirmed)
        .slice(before?.number)
        .flatMap(({ operations }) => operations),
    );
    this.#operations = this.#operations.filter((operation) => !settled.has(operation));
    for (const operation of settled) this.#settled.add(operation);
    anchors.push(tree.confirmed);
  }

  #move(best: TreeNode, now: number): void {
    const { fault } = this.#options;
    const before = this.#shown();
    const isFlip = !isBelow(this.#head, best);
    if (isFlip) this.#noteFlip(best);
    if (isFlip && this.#options.carrying === 'at-once') {
      const dropped = pathTo(this.#head).slice(commonBelow(this.#head, best).number);
      this.#queue = [...new Set([...dropped.flatMap(({ operations }) => operations), ...this.#queue])];
    }
    this.#head = best;
    const path = pathTo(best);
    this.#applied = new Set(path.flatMap(({ operations }) => operations));
    this.#cutsHere = new Set(path.map(({ cut }) => cut));
    this.#queue = this.#queue.filter((operation) => !this.#applied.has(operation));
    this.#withdrawn.update(before, this.#shown(), (device) => this.tree.removedDevices.has(device), now);
    if (fault === 'forgets-acknowledged') this.#forgetAcknowledged();
  }

  /** Whether the branch has the operation, or it is this device's own. */
  #isHere(operation: OperationId): boolean {
    return this.#applied.has(operation) || authorOfOperation(operation) === this.index;
  }

  /** What applications on this device see. */
  #shown(): Set<OperationId> {
    return new Set([...this.#applied, ...this.#queued()]);
  }

  /** Operations of branches that it has given up, and that may still count. */
  #queued(): OperationId[] {
    return this.#queue.filter((operation) => authorOfOperation(operation) === this.index || this.#sources.of(operation));
  }

  #noteFlip(best: TreeNode): void {
    const { tally } = this.#parts;
    const fork = commonBelow(this.#head, best);
    let [depth, others] = [0, 0];
    for (let node = this.#head; node !== fork && node.parent && node.commit; node = node.parent) {
      if (node.commit.operations.length > 0) depth++;
      if (node.commit.author !== this.index && node.commit.operations.length > 0) others++;
      if (this.#options.fault === 'repeats') this.#repeated.push(...node.commit.operations.filter((one) => authorOfOperation(one) === this.index));
    }
    tally.add('flips');
    tally.note('commits dropped by flips', depth);
    if (others > 0) tally.add('flips over commits of others');
  }

  #forgetAcknowledged(): void {
    const acknowledged = new Set<OperationId>();
    let isBelowOther = false;
    for (let node = this.#head; node.commit && node.parent; node = node.parent) {
      if (isBelowOther && node.commit.author === this.index) for (const operation of node.commit.operations) acknowledged.add(operation);
      isBelowOther ||= node.commit.author !== this.index;
    }
    this.#operations = this.#operations.filter((operation) => !acknowledged.has(operation));
  }

  // --- Writing

  #pending(): OperationId[] {
    const { fault } = this.#options;
    const missing = this.#operations.filter((operation) => !this.#applied.has(operation));
    if (fault === 'drops-its-own') return missing.filter((operation) => !this.#everPut.has(operation));
    if (fault === 'repeats') return [...new Set([...this.#repeated, ...missing])];
    return this.#options.carrying === 'at-once' ? [...new Set([...this.#queued(), ...missing])] : missing;
  }

  /** A device that was removed, and is not yet in this branch. */
  #toRemove(): number | undefined {
    return [...this.#removals, ...this.tree.removedDevices].find((device) => (this.#head.removed & (1 << device)) === 0);
  }

  /**
   * Says which commits of a removed device count, at the moment in which this device learns of the removal: those on
   * which it stands, or has stood with a commit of its own.
   */
  #cutOff(device: number): void {
    const { tree, index } = this;
    tree.closeRounds();
    if (device === index || this.#cuts.has(device) || tree.isCutOff(device) || !tree.mayCut(index, tree.confirmed, device)) return;
    const bases = [this.#head, ...tree.nodes.filter(({ id }) => this.#written.has(id))];
    const counted = new Set(bases.flatMap((base) => pathTo(base)).flatMap((commit) => writtenBy(commit, device)));
    this.#cuts.set(device, { device, by: index, anchor: tree.confirmed.id, counted, heard: tree.heardOf(device) });
  }

  /** A statement about a removed device that this branch lacks. The commit that had it may be gone one day. */
  #toCut(): Cut | undefined {
    const { tree } = this;
    const missing = [...this.#cuts.values()].filter(({ device }) => !tree.isCutOff(device));
    return [...tree.cuts, ...missing].find((cut) => !this.#cutsHere.has(cut));
  }

  /** Operations of others that have waited so long that their authors will hardly put them again. */
  #toCarry(now: number): OperationId[] {
    return this.#sources.strandedFor(this.#patienceTicks, now);
  }

  #hasWork(now: number): boolean {
    const isAdmitted = (this.#head.members & (1 << this.index)) !== 0;
    return this.hasPending || !isAdmitted || this.#toCarry(now).length > 0 || this.#shouldOpen(now);
  }

  /** Whether there is something for the others to know that this device has received. */
  #shouldOpen(now: number): boolean {
    if (this.#options.anchoring !== 'rounds' || now - this.#committedAt < openingTicks) return false;
    if (this.tree.closedRound + 1 <= this.#openedRound) return false;
    for (let node = this.#head; node !== this.tree.anchor && node.parent && node.commit; node = node.parent) {
      if (node.commit.operations.length > 0 || node.commit.admits || node.commit.removes !== undefined) return true;
    }
    return false;
  }

  #commit(now: number, crash: CrashPoint | undefined): void {
    const { newId, tally } = this.#parts;
    const operations = [...new Set([...this.#pending(), ...this.#toCarry(now)])].slice(0, operationsPerCommitMax);
    const carries = new Map<OperationId, SimulatedCommit>();
    for (const operation of operations) {
      const source = authorOfOperation(operation) === this.index ? undefined : this.#sources.of(operation);
      if (source) carries.set(operation, source);
    }
    const round = this.tree.closedRound + 1;
    const opens = this.#options.anchoring === 'rounds' && round > this.#openedRound ? round : 0;
    const id = newId();
    const removes = this.#toRemove();
    const commit: SimulatedCommit = {
      kind: 'commit',
      id,
      number: this.#head.number + 1,
      previous: this.#head.id,
      author: this.index,
      writtenAt: now,
      operations,
      carries,
      packs: operations.length > 1 ? [`pack/${id}`] : [],
      admits: (this.#head.members & (1 << this.index)) === 0,
      removes,
      cut: this.#toCut(),
      opens,
      closedRound: this.tree.closedRound,
      anchor: this.tree.anchor.id,
      governance: removes === undefined ? 0 : 1,
    };
    for (const operation of operations) this.#everPut.add(operation);
    tally.add('operations carried for others', carries.size);
    this.#repeated.splice(0);
    this.#openedRound = Math.max(this.#openedRound, opens);
    this.#committedAt = now;
    this.#written.add(id);
    this.#puts.put(operations);
    tally.add('commits');
    if (operations.length === 0) tally.add('commits without operations');
    // On this device's disk before it is in the folder, so that it can be put again byte for byte.
    this.tree.add(commit);
    this.#isStale = true;
    this.#follow(now);
    if (crash === 'before-put') return;
    this.#putFiles(commit);
  }

  #putFiles(commit: SimulatedCommit): void {
    const { folder, newId } = this.#parts;
    for (const pack of commit.packs) folder.putIfAbsent(pack, { kind: 'pack', id: newId() });
    folder.putIfAbsent(nameOf(commit), commit);
  }

  /** Puts again, byte for byte, what is gone: its own commits at once, those of others when they do not. */
  #mend(now: number): void {
    const { folder, tally } = this.#parts;
    if (this.#options.fault === 'never-mends') return;
    for (const [name, since] of this.#lost) {
      const commit = this.tree.node(idOf(name))?.commit;
      const found = folder.get(name);
      // It may be received later, or needed again when another branch is chosen.
      if (!commit || nameOf(commit) !== name || !this.#isNeeded(commit)) continue;
      if (found === commit) this.#lost.delete(name);
      if (found === commit) continue;
      const isDue = now - since >= this.#patienceTicks;
      if (found === 'part' ? !isDue : !isDue && !this.#written.has(commit.id)) continue;
      tally.add('commits put again byte for byte');
      if (found !== undefined) folder.change(name, undefined);
      this.#putFiles(commit);
    }
  }

  /** Whether somebody may still need the commit. A member is one round behind at most. */
  #isNeeded({ id, number }: SimulatedCommit): boolean {
    const node = this.tree.node(id);
    const { closedRound } = this.tree;
    return (node !== undefined && isBelow(node, this.#head)) || number > this.tree.anchorOf(closedRound - roundsNeeded).number;
  }

  /** Deletes its own commits that lost, once what they held is below an anchor and nobody needs them. */
  #clear(): void {
    const { folder, tally } = this.#parts;
    this.#clearedRound = this.tree.closedRound;
    const settled = this.tree.anchorOf(this.tree.closedRound - roundsNeeded - 1);
    for (const id of this.#written) {
      const node = this.tree.node(id);
      if (!node?.commit || node.number > settled.number || isBelow(node, settled)) continue;
      if (!node.commit.operations.every((operation) => this.#settled.has(operation))) continue;
      this.#written.delete(id);
      folder.change(nameOf(node.commit), undefined);
      tally.add('commits cleared away');
    }
  }
}
