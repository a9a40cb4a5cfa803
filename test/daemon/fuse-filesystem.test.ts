/** Requests whose answer depends on what other devices do meanwhile. The mounted drive is tested in test/mount. */
import t from 'tap';
import { FuseFilesystem } from '../../src/daemon/fuse-filesystem.js';
import { KernelCache } from '../../src/daemon/kernel-cache.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { type ConnectionInfo, type NodeId, type Notifier, type RequestContext, rootNodeId } from '../../src/fuse/operations.js';
import { rootIno } from '../../src/meta/key.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';

const deaf: Notifier = {
  invalidateInode: () => {},
  invalidateEntry: () => {},
  deleteEntry: () => {},
  expireEntries: () => {},
  pruneInodes: () => {},
  storeContent: () => {},
  drained: () => Promise.resolve(),
};

t.test('a write that waits for room goes to the copy when its file became one meanwhile', async (t) => {
  const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
  const device = await TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t) });
  t.teardown(() => device.close());
  await device.write('file', 'theirs');
  await device.write('copy', 'mine..');
  const cache = new KernelCache(device.filesystem);
  const daemon = new FuseFilesystem(device.filesystem, cache);
  daemon.init({ writebackCache: true, prune: true } as ConnectionInfo);
  cache.attach(deaf);
  const context = { uid: 0, gid: 0, umask: 0, signal: new AbortController().signal } as RequestContext;
  const { nodeId } = await daemon.lookup(context, rootNodeId, 'file');
  let makeRoom!: () => void;
  const room = new Promise<void>((resolve) => {
    makeRoom = resolve;
  });
  device.volume.writeRoom = () => room;
  const request = Buffer.from('MINE');
  const written = daemon.write(context, nodeId as NodeId, 0, request, false);
  request.fill('-');
  const [ino, copy] = [await device.ino('file'), await device.ino('copy')];
  const copies = [{ ino, copy, parent: rootIno, name: 'file', isLinked: false }];
  cache.changed({ inodes: new Set([ino]), contents: new Set([ino]), entries: [], copies });
  device.volume.writeRoom = () => undefined;
  makeRoom();
  await written;
  t.equal(await device.text('file'), 'theirs', 'what the other device wrote is as it was');
  t.equal(await device.text('copy'), 'MINE..', 'and what is written goes on in the copy');
});

t.test('a write is copied once, so that the driver may use its buffer for the next request', async (t) => {
  const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
  const device = await TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t) });
  t.teardown(() => device.close());
  await device.write('file', '');
  const ino = await device.ino('file');
  const daemon = new FuseFilesystem(device.filesystem, new KernelCache(device.filesystem));
  const context = { uid: 0, gid: 0, umask: 0, signal: new AbortController().signal } as RequestContext;
  const { nodeId } = await daemon.lookup(context, rootNodeId, 'file');
  const request = Buffer.from('what was written');
  await daemon.write(context, nodeId as NodeId, 0, request, false);
  request.fill('-');
  t.equal(await device.text('file'), 'what was written');

  const owned = Buffer.from('owned');
  await device.volume.writeContent(ino, 0, owned, undefined);
  const [piece] = await device.volume.readContent(ino, 0, owned.byteLength);
  t.equal(piece?.buffer, owned.buffer, 'below the daemon it is not copied again');
});
