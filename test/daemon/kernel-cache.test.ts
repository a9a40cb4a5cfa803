/** Notifications to the kernel when the volume changes elsewhere, and the dirty data that it writes back before. */
import t from 'tap';
import { KernelCache } from '../../src/daemon/kernel-cache.js';
import type { ConnectionInfo, NodeId, Notifier } from '../../src/fuse/operations.js';
import { S_IFREG } from '../../src/meta/inode.js';
import { type Ino, makeIno, rootIno } from '../../src/meta/key.js';
import type { InodeAttributes } from '../../src/vfs/attributes.js';
import type { VolumeChange } from '../../src/volume/volume-change.js';

const [fileA, fileB, copyOfA] = [makeIno(2, 1), makeIno(2, 2), makeIno(2, 3)];
const node = (ino: Ino): NodeId => ino as number as NodeId;

/** A kernel that processes notifications when the test says so. */
class RecordingNotifier implements Notifier {
  readonly told: string[] = [];
  #waiters: (() => void)[] = [];
  isHolding = false;

  invalidateInode(nodeId: NodeId, offset: number, length: number): void {
    this.told.push(`inode ${nodeId} ${offset} ${length}`);
  }
  invalidateEntry(parent: NodeId, name: string): void {
    this.told.push(`entry ${parent}/${name}`);
  }
  deleteEntry(): void {}
  expireEntries(): void {
    this.told.push('expire');
  }
  pruneInodes(nodeIds: readonly NodeId[]): void {
    this.told.push(`prune ${nodeIds.join(' ')}`);
  }
  storeContent(nodeId: NodeId, offset: number, data: Uint8Array): void {
    this.told.push(`store ${nodeId} ${offset} ${Buffer.from(data).toString()}`);
  }
  drained(): Promise<void> {
    return this.isHolding ? new Promise((resolve) => this.#waiters.push(resolve)) : Promise.resolve();
  }
  drain(): void {
    this.isHolding = false;
    for (const resolve of this.#waiters.splice(0)) resolve();
  }
}

/** Every file is regular and holds the text, which may change in size. */
function createWorld({ writebackCache = true, prune = true, text = 'content' } = {}) {
  const world = { text };
  const time = { sec: 0, nsec: 0 };
  const attributesOf = (ino: Ino): InodeAttributes => ({
    ino,
    generation: 0,
    size: world.text.length,
    blocks: 8,
    atime: time,
    mtime: time,
    ctime: time,
    btime: time,
    mode: S_IFREG | 0o644,
    nlink: 1,
    uid: 0,
    gid: 0,
    rdev: 0,
    blksize: 4096,
  });
  const cache = new KernelCache({
    getattr: attributesOf,
    read: (_caller, _ino, offset, size) => [Buffer.from(world.text.slice(offset, offset + size))],
  });
  const notifier = new RecordingNotifier();
  cache.init({ writebackCache, prune } as ConnectionInfo);
  cache.attach(notifier);
  const refer = (ino: Ino, name: string): NodeId => {
    const { nodeId } = cache.entry(attributesOf(ino));
    cache.refer(nodeId, S_IFREG | 0o644, node(rootIno), name);
    return nodeId;
  };
  const changeOf = (change: Partial<VolumeChange>): VolumeChange => ({
    inodes: change.contents ?? new Set(),
    contents: new Set(),
    entries: [],
    copies: [],
    ...change,
  });
  return { world, cache, notifier, refer, changeOf };
}

const nextTurns = async (): Promise<void> => {
  for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
};

t.test('the kernel is notified only about inodes that it knows', async (t) => {
  const { cache, notifier, refer, changeOf } = createWorld();
  refer(fileA, 'a');
  cache.changed(
    changeOf({
      inodes: new Set([fileA, fileB]),
      entries: [
        { parent: rootIno, name: 'a' },
        { parent: fileB, name: 'b' },
      ],
    }),
  );
  t.strictSame(notifier.told, [`entry ${rootIno}/a`, `inode ${fileA} -1 0`]);
  t.equal(cache.forget(node(fileA), 1), fileA);
  cache.changed(changeOf({ contents: new Set([fileA]) }));
  t.equal(notifier.told.length, 2, 'nothing about an inode that it has forgotten');
});

t.test('the kernel drops a file whose content changed, and learns the new size if it keeps it', async (t) => {
  const { cache, notifier, refer, changeOf } = createWorld();
  refer(fileA, 'a');
  cache.changed(changeOf({ contents: new Set([fileA]) }));
  await nextTurns();
  t.strictSame(notifier.told, [`inode ${fileA} 0 0`, `prune ${fileA}`, `store ${fileA} 6 t`]);
  cache.clear();
});

t.test('a kernel that drops inodes by name only is told the names', async (t) => {
  const { cache, notifier, refer, changeOf } = createWorld({ prune: false });
  refer(fileA, 'a');
  refer(fileA, 'link');
  cache.renamed(fileA, node(rootIno), 'link', node(rootIno), 'new');
  cache.changed(changeOf({ contents: new Set([fileA]) }));
  t.strictSame(notifier.told, [`inode ${fileA} 0 0`, `entry ${rootIno}/a`, `entry ${rootIno}/new`]);
  cache.clear();
});

t.test('dirty data in the kernel is collected until the kernel reads the file again', async (t) => {
  const { cache, notifier, refer, changeOf } = createWorld();
  refer(fileA, 'a');
  const change = changeOf({ contents: new Set([fileA, fileB]) });
  notifier.isHolding = true;
  const collecting = cache.collect(change);
  t.strictSame(notifier.told, [`inode ${fileA} 0 0`]);
  notifier.drain();
  t.equal(await collecting, true);
  t.equal(cache.isCollected(change), true);
  cache.reading(node(fileB));
  t.equal(cache.isCollected(change), true, 'an inode that the kernel does not know is no concern');
  cache.reading(node(fileA));
  t.equal(cache.isCollected(change), false);
  t.equal(await cache.collect(change), true);
  t.equal(cache.isCollected(change), true, 'it can be collected again');
  const other = changeOf({ contents: new Set([fileA]) });
  t.equal(cache.isCollected(other), false, 'every change is collected by itself');
  cache.reading(node(fileA));
  t.equal(cache.isCollected(change), false);
  cache.done(change);
});

t.test('a kernel without a writeback cache has no dirty data', async (t) => {
  const { cache, notifier, refer, changeOf } = createWorld({ writebackCache: false });
  refer(fileA, 'a');
  const change = changeOf({ contents: new Set([fileA]) });
  t.equal(await cache.collect(change), true);
  cache.reading(node(fileA));
  t.equal(cache.isCollected(change), true);
  t.strictSame(notifier.told, []);
});

t.test('writes to a held file wait until it is released', async (t) => {
  const { cache, refer, changeOf } = createWorld();
  refer(fileA, 'a');
  refer(fileB, 'b');
  const change = changeOf({ contents: new Set([fileA]) });
  cache.hold(change);
  t.equal(cache.heldUntil(node(fileB)), undefined);
  const held = cache.heldUntil(node(fileA));
  t.ok(held);
  cache.done(changeOf({ contents: new Set([fileA]) }));
  t.equal(cache.heldUntil(node(fileA)), held, 'the end of another change does not end it');
  cache.done(change);
  await held;
  t.equal(cache.heldUntil(node(fileA)), undefined);
});

t.test('an application that has the file open keeps using the copy, and the name leads to another node', async (t) => {
  const { cache, notifier, refer, changeOf } = createWorld();
  const nodeId = refer(fileA, 'a');
  cache.changed(changeOf({ copies: [{ ino: fileA, copy: copyOfA, parent: rootIno, name: 'a', isLinked: false }] }));
  t.equal(cache.inoOf(nodeId), copyOfA);
  t.strictSame(notifier.told, [`entry ${rootIno}/a`]);
  const other = refer(fileA, 'a');
  t.not(other, nodeId);
  t.equal(cache.inoOf(other), fileA);
  cache.changed(changeOf({ copies: [{ ino: fileA, copy: fileB, parent: rootIno, name: 'a', isLinked: true }] }));
  t.equal(notifier.told.at(-1), 'expire', 'which of several names leads to the copy is not known');
});
