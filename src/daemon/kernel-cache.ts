/**
 * The keeper of what the kernel caches of a mount: which inodes and names it knows, for how long it may keep them, and
 * what it must forget when the volume is changed elsewhere (doc/concurrency.md, "Kernel caches"). It also knows which
 * inode a node id stands for. What a request does is in `fuse-filesystem.ts`.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { ByteString } from '../base/brand.js';
import { isPromise } from '../base/maybe-promise.js';
import { type AttributeReply, type ConnectionInfo, type Entry, type NodeId, type Notifier, rootNodeId } from '../fuse/operations.js';
import { S_IFDIR, S_IFMT, S_IFREG } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import type { ConflictCopy } from '../operation/rebase-rules.js';
import type { InodeAttributes } from '../vfs/attributes.js';
import type { Filesystem } from '../vfs/filesystem.js';
import type { ChangeListener, VolumeChange } from '../volume/volume-change.js';
import { InodeNames } from './inode-names.js';
import { InodeReferences } from './inode-references.js';
import { NodeAliases } from './node-aliases.js';
import { StaleInodes } from './stale-inodes.js';

export interface CacheValidity {
  /** How long the kernel may keep names (also absent ones) and attributes without asking, in milliseconds. */
  readonly entryMs: number;
  readonly attributesMs: number;
}

/** For a driver that can invalidate. */
export const lastingValidity: CacheValidity = { entryMs: 86_400_000, attributesMs: 86_400_000 };
/** For one that cannot. */
export const briefValidity: CacheValidity = { entryMs: 1000, attributesMs: 1000 };

/** After a change, the kernel is told the new size of at most this many growing files that are in use. */
const growthsMax = 1000;
/**
 * A page can be locked by a read that waits for the store, or by a truncation that waits for room. Commits must not
 * wait for those.
 */
const collectTimeoutMs = 10_000;

/** Where the keeper looks up what the kernel should know. */
type Source = Pick<Filesystem, 'getattr' | 'read'>;

export class KernelCache implements ChangeListener {
  readonly #source: Source;
  readonly #validity: CacheValidity;
  readonly #references = new InodeReferences();
  readonly #aliases = new NodeAliases((nodeId) => this.#references.has(nodeId));
  /** For each change that is about to become visible: files that the kernel wrote back and has not read again since. */
  readonly #collected = new Map<VolumeChange, Set<NodeId>>();
  readonly #stale = new StaleInodes((nodeIds) => this.#dropInodes(nodeIds));
  /** Writes to these files wait. */
  #held:
    | { readonly change: VolumeChange; readonly nodeIds: ReadonlySet<NodeId>; readonly ended: Promise<void>; readonly end: () => void }
    | undefined;
  /** Only where inodes cannot be dropped by number. */
  #names: InodeNames | undefined;
  /**
   * The number of blocks that the kernel shows for files written since: it does not count them itself, and asks again
   * only after a close.
   */
  readonly #blocksKnown = new Map<NodeId, number | undefined>();
  #isWritebackCached = false;
  #notifier: Notifier | undefined;
  /** The reply for a name that does not exist. */
  readonly absent: Entry;

  constructor(source: Source, validity: CacheValidity = lastingValidity) {
    this.#source = source;
    this.#validity = validity;
    this.absent = { nodeId: 0, generation: 0, entryValidMs: validity.entryMs, attrValidMs: 0, attributes: undefined };
  }

  // The life of the connection.

  init(connection: ConnectionInfo): void {
    this.#isWritebackCached = connection.writebackCache;
    if (!connection.prune) this.#names = new InodeNames((parent, name) => this.#notifier?.invalidateEntry(parent, name));
  }

  /** The volume is mounted: from here on the kernel is told what changes elsewhere. */
  attach(notifier: Notifier): void {
    this.#notifier = notifier;
  }

  /** The connection is gone, and with it everything that the kernel kept. */
  clear(): void {
    this.#notifier = undefined;
    this.#references.clear();
    this.#stale.clear();
    this.#names?.clear();
    this.#aliases.clear();
    this.#blocksKnown.clear();
    this.#collected.clear();
    this.#letGo();
  }

  // What the kernel knows.

  inoOf(nodeId: NodeId): Ino {
    return this.#aliases.inoOf(nodeId);
  }

  nodeIdOf(ino: Ino): NodeId {
    return this.#aliases.nodeIdOf(ino);
  }

  /** The root is always known. The kernel needs no notice about an inode that it does not know. */
  isKnown(nodeId: NodeId): boolean {
    return nodeId === rootNodeId || this.#references.has(nodeId);
  }

  /** An entry as the kernel gets it. It counts as a lookup only once {@link refer} is called. */
  entry(attributes: InodeAttributes): Entry & { readonly nodeId: NodeId } {
    const { entryMs: entryValidMs, attributesMs: attrValidMs } = this.#validity;
    return { nodeId: this.nodeIdOf(attributes.ino), generation: attributes.generation, entryValidMs, attrValidMs, attributes };
  }

  attributes(attributes: InodeAttributes): AttributeReply {
    return { attrValidMs: this.#validity.attributesMs, attributes };
  }

  /** The kernel gets one more reference to the inode under this name (`''`: under none). */
  refer(nodeId: NodeId, mode: number, parent: NodeId, name: ByteString): void {
    this.#references.refer(nodeId);
    if (this.#names !== undefined && name !== '' && name !== '.' && name !== '..' && (mode & S_IFMT) !== S_IFDIR)
      this.#names.add(nodeId, parent, name);
  }

  /** The kernel gives `nlookup` references back. Answers the inode if no reference is left. */
  forget(nodeId: NodeId, nlookup: number): Ino | undefined {
    if (!this.#references.forget(nodeId, nlookup)) return undefined;
    this.#names?.forget(nodeId);
    this.#stale.forget(nodeId);
    this.#blocksKnown.delete(nodeId);
    const ino = this.inoOf(nodeId);
    this.#aliases.forget(nodeId);
    return ino;
  }

  removed(ino: Ino, parent: NodeId, name: ByteString): void {
    this.#names?.removed(this.nodeIdOf(ino), parent, name);
  }

  renamed(ino: Ino, parent: NodeId, name: ByteString, newParent: NodeId, newName: ByteString): void {
    this.#names?.renamed(this.nodeIdOf(ino), parent, name, newParent, newName);
  }

  // What requests do to the kernel's caches.

  /** The kernel reads content, and may keep it. */
  reading(nodeId: NodeId): void {
    if (this.#collected.size > 0) for (const nodeIds of this.#collected.values()) nodeIds.delete(nodeId);
  }

  /** A write to the file waits for this, and asks again afterwards: the node id can stand for another inode then. */
  heldUntil(nodeId: NodeId): Promise<void> | undefined {
    return this.#held?.nodeIds.has(nodeId) === true ? this.#held.ended : undefined;
  }

  writing(nodeId: NodeId): void {
    if (!this.#blocksKnown.has(nodeId)) this.#blocksKnown.set(nodeId, this.attributesAtHand(nodeId)?.blocks);
  }

  /** A descriptor is closed: the kernel asks for the attributes again. */
  closing(nodeId: NodeId): void {
    this.#blocksKnown.delete(nodeId);
  }

  /** The attributes, if they are in memory. */
  attributesAtHand(nodeId: NodeId): InodeAttributes | undefined {
    const found = this.#source.getattr(this.inoOf(nodeId));
    if (!isPromise(found)) return found;
    // If there is an error, the operation itself reports it.
    found.catch(() => {});
    return undefined;
  }

  /**
   * The file was synced, so its blocks are counted now: has the kernel ask for them if they differ from those that it
   * knows.
   */
  async synced(nodeId: NodeId): Promise<void> {
    if (this.#notifier === undefined || !this.#blocksKnown.has(nodeId)) return;
    const known = this.#blocksKnown.get(nodeId);
    if (known !== undefined && known === this.attributesAtHand(nodeId)?.blocks) return;
    this.#blocksKnown.delete(nodeId);
    await this.expireAttributes(nodeId);
  }

  /** Has the kernel ask for the attributes again. */
  async expireAttributes(nodeId: NodeId): Promise<void> {
    this.#notifier?.invalidateInode(nodeId, -1, 0);
    await this.#notifier?.drained();
  }

  /**
   * Has the kernel write back and drop the content from `offset` on (`length` 0: to the end). False: there is no kernel
   * to ask.
   */
  async writeBack(nodeId: NodeId, offset: number, length: number): Promise<boolean> {
    if (this.#notifier === undefined) return false;
    this.#notifier.invalidateInode(nodeId, offset, length);
    await this.#notifier.drained();
    return true;
  }

  // What changes elsewhere.

  isUsed(ino: Ino): boolean {
    return this.isKnown(this.nodeIdOf(ino));
  }

  async collect(change: VolumeChange): Promise<boolean> {
    const notifier = this.#notifier;
    if (notifier === undefined || !this.#isWritebackCached) return true;
    const collected = new Set<NodeId>();
    this.#collected.set(change, collected);
    for (const ino of change.contents) {
      const nodeId = this.nodeIdOf(ino);
      if (!this.isKnown(nodeId)) continue;
      collected.add(nodeId);
      notifier.invalidateInode(nodeId, 0, 0);
    }
    const over = new AbortController();
    const late = wait(collectTimeoutMs, false, { signal: over.signal, ref: false }).catch(() => false);
    const isDone = await Promise.race([notifier.drained().then(() => true), late]);
    over.abort();
    return isDone;
  }

  isCollected(change: VolumeChange): boolean {
    if (this.#notifier === undefined || !this.#isWritebackCached) return true;
    const collected = this.#collected.get(change);
    for (const ino of change.contents) {
      const nodeId = this.nodeIdOf(ino);
      if (this.isKnown(nodeId) && collected?.has(nodeId) !== true) return false;
    }
    return true;
  }

  hold(change: VolumeChange): void {
    const nodeIds = new Set<NodeId>();
    for (const ino of change.contents) nodeIds.add(this.nodeIdOf(ino));
    let end!: () => void;
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    this.#held = { change, nodeIds, ended, end };
  }

  done(change: VolumeChange): void {
    this.#collected.delete(change);
    if (this.#held?.change === change) this.#letGo();
  }

  #letGo(): void {
    this.#held?.end();
    this.#held = undefined;
  }

  changed(change: VolumeChange): void {
    const notifier = this.#notifier;
    if (notifier === undefined) return;
    for (const copy of change.copies) this.#follow(notifier, copy);
    for (const { parent, name } of change.entries) this.#invalidateEntry(notifier, parent, name);
    const changed: NodeId[] = [];
    for (const ino of change.inodes) {
      const nodeId = this.nodeIdOf(ino);
      if (!this.isKnown(nodeId)) continue;
      if (change.contents.has(ino)) {
        notifier.invalidateInode(nodeId, 0, 0);
        changed.push(nodeId);
      } else {
        notifier.invalidateInode(nodeId, -1, 0);
      }
    }
    if (changed.length === 0) return;
    this.#dropInodes(changed);
    if (!this.#isWritebackCached) return;
    // With a writeback cache the kernel takes a new size only with a new inode, so the old one has to go.
    this.#stale.add(changed);
    void this.#tellGrowth(notifier, changed);
  }

  /** The kernel keeps those that somebody uses. */
  #dropInodes(nodeIds: readonly NodeId[]): void {
    if (this.#names === undefined) this.#notifier?.pruneInodes(nodeIds);
    else for (const nodeId of nodeIds) this.#names.drop(nodeId);
  }

  /**
   * An application that has the file open keeps using the copy; whoever looks its name up from now on finds what the
   * other device wrote.
   */
  #follow(notifier: Notifier, { ino, copy, parent, name, isLinked }: ConflictCopy): void {
    const nodeId = this.nodeIdOf(ino);
    if (!this.isKnown(nodeId)) return;
    this.#aliases.follow(ino, copy);
    if (this.#names !== undefined) this.#names.drop(nodeId);
    else if (isLinked || parent === undefined) notifier.expireEntries();
    else this.#invalidateEntry(notifier, parent, name);
  }

  #invalidateEntry(notifier: Notifier, parent: Ino, name: ByteString): void {
    const nodeId = this.nodeIdOf(parent);
    if (this.isKnown(nodeId)) notifier.invalidateEntry(nodeId, name);
  }

  /**
   * Files that are in use were not dropped, and the kernel still believes in their old sizes. It learns that a file
   * grew when it is handed the last byte. There is no way to tell it that a file became shorter: its users read zeros
   * there until nobody has it open and it is dropped (doc/semantics.md, "Other devices").
   */
  async #tellGrowth(notifier: Notifier, changed: readonly NodeId[]): Promise<void> {
    await notifier.drained();
    // The kernel reports what it let go of in FORGETs. They have arrived by now and are read in the next turns.
    for (let turn = 0; turn < 3; turn++) await new Promise(setImmediate);
    let told = 0;
    for (const nodeId of changed) {
      if (this.#notifier === undefined || told >= growthsMax) return;
      if (!this.#references.has(nodeId)) continue;
      try {
        const { mode, size } = await this.#source.getattr(this.inoOf(nodeId));
        if ((mode & S_IFMT) !== S_IFREG || size === 0) continue;
        const { signal } = new AbortController();
        const [last] = await this.#source.read({ uid: 0, gid: 0, umask: 0, signal }, this.inoOf(nodeId), size - 1, 1, true);
        // After a later change, which is told by itself, this byte may lie beyond the end.
        if (last?.byteLength !== 1 || this.attributesAtHand(nodeId)?.size !== size) continue;
        notifier.storeContent(nodeId, size - 1, last);
        told++;
      } catch {
        // The file is gone, or its content is out of reach: whoever reads it gets the errno that says why.
      }
    }
  }
}
