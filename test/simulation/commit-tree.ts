/**
 * The commits that a device has completely received, as the tree in which each follows the one before it, and the rule
 * by which every device chooses one of its branches. What it answers depends only on which commits it holds.
 *
 * *Rounds* bound how far back a choice can go. A device opens round r + 1 with its first commit after it has received
 * the commits that open round r of all members, which are the devices that the anchor admits. The *anchor* of a round
 * is the newest commit on which all of them stand; branches without it no longer count. Everybody who knows the
 * openings finds the same anchor, and whoever opens a later round stands on it, so anchors only ascend. An opening also
 * names the anchor of the round before, as its author found it. What all openings of a round agree on is *confirmed*:
 * only a device that opens a round twice could make others find different anchors, and no honest one has left what is
 * confirmed.
 */
import type { Cut, SimulatedCommit } from './simulated-commit.js';

export interface TreeNode {
  /** `undefined`: the genesis. */
  readonly commit: SimulatedCommit | undefined;
  readonly parent: TreeNode | undefined;
  readonly number: number;
  readonly id: number;
  /** The devices that are admitted up to here, as bits. */
  readonly members: number;
  /** The devices that are removed up to here, as bits. */
  readonly removed: number;
  readonly governance: number;
  /** The order in which this device received it. */
  readonly received: number;
  counts: boolean;
  /** Whether it stands on the anchor. */
  isInside: boolean;
  /** The devices that wrote between the anchor and here, as bits. */
  authors: number;
  /** The same of all commits on top of it and itself, and their count. */
  subtreeAuthors: number;
  subtreeCount: number;
}

/**
 * Which of two branches is chosen, besides that it stands on the anchor: the longer one (`length`); the one with more
 * authors since the anchor, then the longer one (`authors`); at each fork the side with more authors, then more commits
 * (`subtree`), or the one with the smaller hash (`hash`); the one with more records of admins, then the longer one
 * (`governance`). The smaller hash decides what is left. `first-seen` is a broken rule: devices can differ.
 */
export type ChoiceRule = 'length' | 'authors' | 'subtree' | 'hash' | 'governance' | 'first-seen';

/** `simple`: the newest commit of the chosen branch at or above which every member has written. */
export type AnchorRule = 'rounds' | 'simple' | 'none';

/** A commit that opens a round, and what its author held to be the anchor of the round before. */
interface Opening {
  readonly place: TreeNode;
  readonly claim: TreeNode;
}

export class CommitTree {
  readonly #self: number;
  readonly #choice: ChoiceRule;
  readonly #anchoring: AnchorRule;
  readonly #genesis: TreeNode;
  readonly #nodes = new Map<number, TreeNode>();
  /** Parents stand before their children. */
  readonly #order: TreeNode[];
  /** Received before the commit below them, by its id. */
  readonly #waiting = new Map<number, SimulatedCommit[]>();
  /** Devices that the owner has removed, wherever the certificate was seen. */
  readonly #removed = new Set<number>();
  readonly #cuts: Cut[] = [];
  /** The commits that count of a device that is cut off. */
  readonly #counted = new Map<number, ReadonlySet<number>>();
  /** The commits that open a round, by round and author. An honest author makes one. */
  readonly #openings = new Map<number, Map<number, TreeNode[]>>();
  /** The openings of a device that is cut off which still hold. */
  readonly #heard = new Map<number, ReadonlySet<number>>();
  #anchor: TreeNode;
  /** The newest anchor that this device has found by itself. It never goes back. */
  #confirmed: TreeNode;
  #closed = 0;

  /** The anchor of each closed round. */
  readonly #anchors: TreeNode[] = [];

  constructor(self: number, founders: readonly number[], choice: ChoiceRule, anchoring: AnchorRule) {
    this.#self = self;
    this.#choice = choice;
    this.#anchoring = anchoring;
    this.#genesis = {
      commit: undefined,
      parent: undefined,
      number: 0,
      id: 0,
      members: bitsOf(founders),
      removed: 0,
      governance: 0,
      received: 0,
      counts: true,
      isInside: true,
      authors: 0,
      subtreeAuthors: 0,
      subtreeCount: 0,
    };
    this.#nodes.set(0, this.#genesis);
    this.#order = [this.#genesis];
    this.#anchor = this.#genesis;
    this.#confirmed = this.#genesis;
  }

  /** No branch without it counts. */
  get anchor(): TreeNode {
    return this.#anchor;
  }

  /** The newest anchor that follows from the openings of all members. What lies below it can be forgotten. */
  get confirmed(): TreeNode {
    return this.#anchoring === 'rounds' ? this.#confirmed : this.#anchor;
  }

  /** The newest round that all members have opened. */
  get closedRound(): number {
    return this.#closed;
  }

  /** The anchor of a round that was closed; the genesis for those before the first one. */
  anchorOf(round: number): TreeNode {
    return this.#anchors[round] ?? this.#genesis;
  }

  /** Whether rounds wait for this device. */
  get isMember(): boolean {
    return (this.#anchor.members & (1 << this.#self)) !== 0;
  }

  get nodes(): readonly TreeNode[] {
    return this.#order;
  }

  node(id: number): TreeNode | undefined {
    return this.#nodes.get(id);
  }

  has(id: number): boolean {
    return this.#nodes.has(id);
  }

  get removedDevices(): ReadonlySet<number> {
    return this.#removed;
  }

  /** What members have said of removed devices. */
  get cuts(): readonly Cut[] {
    return this.#cuts.filter((cut) => this.#isEffective(cut));
  }

  /** Whether it is settled which commits of the device count. */
  isCutOff(device: number): boolean {
    return this.#counted.has(device);
  }

  /** Whether the device may say which commits of a removed one count. */
  mayCut(device: number, anchor: TreeNode, removed?: number): boolean {
    if (this.#removed.has(device)) return false;
    const isGone = (member: number): boolean => member === removed || this.#removed.has(member);
    return (anchor.members & (1 << device)) !== 0 || [...devicesOf(anchor.members)].every(isGone);
  }

  /** Takes a commit in; it stays aside while the commit below it is missing. */
  add(commit: SimulatedCommit): void {
    const parent = this.#nodes.get(commit.previous);
    if (!parent) {
      const others = this.#waiting.get(commit.previous);
      if (!others) this.#waiting.set(commit.previous, [commit]);
      else if (!others.includes(commit)) others.push(commit);
      return;
    }
    if (this.#nodes.has(commit.id)) return;
    const bit = 1 << commit.author;
    const node: TreeNode = {
      commit,
      parent,
      number: commit.number,
      id: commit.id,
      members: parent.members | (commit.admits ? bit : 0),
      removed: parent.removed | (commit.removes === undefined ? 0 : 1 << commit.removes),
      governance: parent.governance + commit.governance,
      received: this.#order.length,
      counts: true,
      isInside: false,
      authors: 0,
      subtreeAuthors: 0,
      subtreeCount: 0,
    };
    this.#nodes.set(commit.id, node);
    this.#order.push(node);
    node.counts = this.#judge(node);
    this.#noteRemoval(commit);
    if (commit.opens > 0) this.#noteOpening(node, commit);
    const children = this.#waiting.get(commit.id) ?? [];
    this.#waiting.delete(commit.id);
    for (const child of children) this.add(child);
  }

  /** A certificate and a cut hold wherever they stand. */
  #noteRemoval({ removes, cut }: SimulatedCommit): void {
    if (this.#choice === 'governance') return;
    const isNew = removes !== undefined && !this.#removed.has(removes);
    const isNewCut = cut !== undefined && !this.#cuts.includes(cut);
    if (!isNew && !isNewCut) return;
    if (removes !== undefined) this.#removed.add(removes);
    if (isNewCut) this.#cuts.push(cut);
    this.#counted.clear();
    this.#heard.clear();
    for (const one of this.#cuts) this.#applyCut(one);
    for (const node of this.#order) node.counts = this.#judge(node);
    if (this.#anchoring !== 'rounds') return;
    // Which members a round waits for may have changed.
    this.#anchor = this.#genesis;
    this.#closed = 0;
  }

  #isEffective({ device, by, anchor }: Cut): boolean {
    const base = this.#nodes.get(anchor);
    return base !== undefined && this.#removed.has(device) && this.mayCut(by, base);
  }

  #applyCut(cut: Cut): void {
    if (!this.#isEffective(cut)) return;
    const { device, anchor, counted, heard } = cut;
    const all = new Set(counted);
    for (let node = this.#nodes.get(anchor); node; node = node.parent) for (const id of writtenBy(node.commit, device)) all.add(id);
    restrict(this.#counted, device, all);
    restrict(this.#heard, device, heard);
  }

  #judge({ commit, parent }: TreeNode): boolean {
    if (!commit || !parent) return true;
    const bit = 1 << commit.author;
    if (!parent.counts || (parent.removed & bit) !== 0) return false;
    if ((parent.members & bit) === 0 && !commit.admits) return false;
    return [commit, ...commit.carries.values()].every((one) => this.isCounted(one));
  }

  /** Whether its author could write it, wherever it stands. */
  isCounted({ author, id }: SimulatedCommit): boolean {
    return this.#counted.get(author)?.has(id) ?? true;
  }

  #noteOpening(node: TreeNode, { opens, author }: SimulatedCommit): void {
    const openings = this.#openings.get(opens) ?? new Map<number, TreeNode[]>();
    this.#openings.set(opens, openings);
    const known = openings.get(author);
    if (known) known.push(node);
    else openings.set(author, [node]);
  }

  /** The openings that the device has made, of rounds that are closed. */
  heardOf(device: number): Set<number> {
    const rounds = [...this.#openings].filter(([round]) => round <= this.#closed);
    return new Set(rounds.flatMap(([, openings]) => openings.get(device) ?? []).map(({ id }) => id));
  }

  /**
   * Moves the anchor as far as the received commits allow. What is confirmed never goes back. The anchor can, when a
   * device has opened a round twice: such anchors lie on one line, since they are all below the openings of the others.
   */
  closeRounds(): void {
    if (this.#anchoring !== 'rounds') return;
    let settled = this.#genesis;
    for (let openings = this.#openingsOf(this.#closed + 1); openings; openings = this.#openingsOf(this.#closed + 1)) {
      this.#closed++;
      settled = openings.map(({ claim }) => claim).reduce(commonBelow);
      const meeting = openings.map(({ place }) => place).reduce(commonBelow);
      this.#anchor = isBelow(settled, meeting) ? meeting : settled;
      this.#anchors[this.#closed] = this.#anchor;
    }
    if (isBelow(this.#confirmed, settled)) this.#confirmed = settled;
    if (!this.isMember) this.#believe();
    if (isBelow(this.#anchor, this.#confirmed)) this.#anchor = this.#confirmed;
  }

  /**
   * A device that no round waits for may miss openings, which their authors clear away. It takes the anchors on the
   * word of those whose commits count, until it is a member.
   */
  #believe(): void {
    for (const { commit, counts } of this.#order) {
      if (!commit || !counts || commit.closedRound <= this.#closed) continue;
      const anchor = this.#nodes.get(commit.anchor);
      if (!anchor || !isBelow(this.#anchor, anchor)) continue;
      this.#closed = commit.closedRound;
      this.#anchor = anchor;
      this.#anchors[this.#closed] = anchor;
    }
  }

  /** The openings of a round; `undefined` while one is missing. */
  #openingsOf(round: number): Opening[] | undefined {
    const all = this.#openings.get(round);
    const found: Opening[] = [];
    for (const device of devicesOf(this.#anchor.members)) {
      const heard = this.#heard.get(device);
      const own = all?.get(device)?.filter(({ id }) => heard?.has(id) ?? true) ?? [];
      const [opening] = own.toSorted((one, other) => one.id - other.id);
      if (!opening && heard) continue;
      if (!opening) return undefined;
      // Either may stand on what a removed device wrote, which the author could not know yet.
      found.push({ place: counting(opening), claim: counting(this.#nodes.get(opening.commit?.anchor ?? 0) ?? this.#genesis) });
    }
    return found.length > 0 ? found : undefined;
  }

  /** The `simple` anchor. It depends on what this device had chosen before. */
  anchorBelow(head: TreeNode): void {
    if (this.#anchoring !== 'simple') return;
    let missing = head.members;
    for (const device of this.#removed) missing &= ~(1 << device);
    for (let node: TreeNode | undefined = head; node; node = node.parent) {
      if (node.commit) missing &= ~(1 << node.commit.author);
      if (missing !== 0) continue;
      if (isBelow(this.#anchor, node)) this.#anchor = node;
      return;
    }
  }

  /** The newest commit of the branch that everybody who holds these commits chooses. */
  best(): TreeNode {
    for (const node of this.#order) {
      const { commit, parent } = node;
      if (node === this.#anchor) {
        node.isInside = true;
        node.authors = 0;
      } else {
        node.isInside = parent !== undefined && parent.isInside && node.counts;
        node.authors = node.isInside && parent && commit ? parent.authors | (1 << commit.author) : 0;
      }
    }
    return this.#choice === 'subtree' || this.#choice === 'hash' ? this.#descend() : this.#longest();
  }

  #longest(): TreeNode {
    let best = this.#anchor;
    for (const node of this.#order) if (node.isInside && this.#isBetter(node, best)) best = node;
    return best;
  }

  #isBetter(a: TreeNode, b: TreeNode): boolean {
    if (this.#choice === 'governance' && a.governance !== b.governance) return a.governance > b.governance;
    if (this.#choice === 'authors') {
      const more = bitCount(a.authors) - bitCount(b.authors);
      if (more !== 0) return more > 0;
    }
    if (a.number !== b.number) return a.number > b.number;
    return this.#choice === 'first-seen' ? a.received < b.received : a.id < b.id;
  }

  /** Decides at each fork, from the anchor upwards. */
  #descend(): TreeNode {
    const children = new Map<TreeNode, TreeNode[]>();
    for (const node of this.#order) {
      node.subtreeAuthors = node.commit ? 1 << node.commit.author : 0;
      node.subtreeCount = 1;
    }
    for (const node of this.#order.toReversed()) {
      const { parent } = node;
      if (!node.isInside || node === this.#anchor || !parent) continue;
      parent.subtreeAuthors |= node.subtreeAuthors;
      parent.subtreeCount += node.subtreeCount;
      const others = children.get(parent);
      if (others) others.push(node);
      else children.set(parent, [node]);
    }
    let best = this.#anchor;
    for (let sides = children.get(best); sides; sides = children.get(best)) best = sides.reduce((a, b) => (this.#isHeavier(a, b) ? a : b));
    return best;
  }

  #isHeavier(a: TreeNode, b: TreeNode): boolean {
    if (this.#choice === 'subtree') {
      const more = bitCount(a.subtreeAuthors) - bitCount(b.subtreeAuthors) || a.subtreeCount - b.subtreeCount;
      if (more !== 0) return more > 0;
    }
    return a.id < b.id;
  }
}

/** The newest commit at or below `node` that counts. */
function counting(node: TreeNode): TreeNode {
  let at = node;
  while (!at.counts && at.parent) at = at.parent;
  return at;
}

/** The commits from the genesis up to `node`, without the genesis. */
export function pathTo(node: TreeNode): SimulatedCommit[] {
  const path: SimulatedCommit[] = [];
  for (let at: TreeNode | undefined = node; at?.commit; at = at.parent) path.push(at.commit);
  return path.toReversed();
}

/** Whether `upper` is `lower` or stands on it. */
export function isBelow(lower: TreeNode, upper: TreeNode): boolean {
  let node: TreeNode | undefined = upper;
  while (node && node.number > lower.number) node = node.parent;
  return node === lower;
}

/** The newest commit on which both stand. */
export function commonBelow(a: TreeNode, b: TreeNode): TreeNode {
  let [left, right]: [TreeNode, TreeNode] = [a, b];
  while (left !== right) {
    const [lower, upper]: [TreeNode, TreeNode] = left.number > right.number ? [right, left] : [left, right];
    if (!upper.parent) return upper;
    [left, right] = [lower, upper.parent];
  }
  return left;
}

const bitsOf = (devices: readonly number[]): number => devices.reduce((bits, device) => bits | (1 << device), 0);

function* devicesOf(bits: number): Generator<number, void> {
  for (let device = 0; bits >>> device !== 0; device++) if ((bits & (1 << device)) !== 0) yield device;
}

/** The commits of `device` that the commit is or carries. */
export function writtenBy(commit: SimulatedCommit | undefined, device: number): number[] {
  if (!commit) return [];
  return [commit, ...commit.carries.values()].flatMap(({ author, id }) => (author === device ? [id] : []));
}

/** Several cuts of one device all hold. */
function restrict(sets: Map<number, ReadonlySet<number>>, device: number, to: ReadonlySet<number>): void {
  const before = sets.get(device);
  sets.set(device, before ? new Set([...before].filter((id) => to.has(id))) : to);
}

function bitCount(bits: number): number {
  let count = 0;
  for (let left = bits; left !== 0; left &= left - 1) count++;
  return count;
}
