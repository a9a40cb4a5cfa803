/** A mount and a second front end on one volume. The test plays the kernel; test/mount uses the real one. */
import t, { type Test } from 'tap';
import { FuseFilesystem } from '../../src/daemon/fuse-filesystem.js';
import { KernelCache } from '../../src/daemon/kernel-cache.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { type ConnectionInfo, type NodeId, type Notifier, type RequestContext, rootNodeId } from '../../src/fuse/operations.js';
import { S_IFREG } from '../../src/meta/inode.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { Filesystem } from '../../src/vfs/filesystem.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestVolume, TestDevice } from '../suite/test-device.js';

const context = { uid: 0, gid: 0, umask: 0, signal: new AbortController().signal } as RequestContext;

/**
 * Keeps what applications write until it is told to invalidate the file, and then takes a turn of the event loop to
 * write it back.
 */
class FakeKernel implements Notifier {
  readonly told: string[] = [];
  readonly #dirty = new Map<NodeId, { offset: number; data: Buffer }[]>();
  #working: Promise<unknown> = Promise.resolve();
  daemon!: FuseFilesystem;

  write(nodeId: NodeId, offset: number, data: string): void {
    this.#dirty.set(nodeId, [...(this.#dirty.get(nodeId) ?? []), { offset, data: Buffer.from(data) }]);
  }

  invalidateInode(nodeId: NodeId, offset: number): void {
    this.told.push(`${offset < 0 ? 'attributes' : 'content'} ${nodeId}`);
    if (offset < 0) return;
    this.#working = this.#working.then(async () => {
      await new Promise(setImmediate);
      const pages = this.#dirty.get(nodeId) ?? [];
      this.#dirty.delete(nodeId);
      for (const { offset: at, data } of pages) await this.daemon.write(context, nodeId, at, data, false);
    });
  }
  invalidateEntry(parent: NodeId, name: string): void {
    this.told.push(`entry ${parent}/${name}`);
  }
  deleteEntry(): void {}
  expireEntries(): void {}
  pruneInodes(): void {}
  storeContent(): void {}
  async drained(): Promise<void> {
    await this.#working;
  }
}

async function createWorld(t: Test) {
  const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
  const device = await TestDevice.open(volume, { disk: systemDisk, stateDirectory: await scratchDirectory(t) });
  t.teardown(() => device.close());
  const mount = device.volume.frontEnd();
  const filesystem = new Filesystem(mount, { accessTimes: { policy: 'noatime' } });
  const cache = new KernelCache(filesystem);
  const daemon = new FuseFilesystem(filesystem, cache);
  const kernel = new FakeKernel();
  kernel.daemon = daemon;
  daemon.init({ writebackCache: true, prune: true } as ConnectionInfo);
  cache.attach(kernel);
  mount.onChange(cache);
  t.teardown(() => daemon.destroy());
  const lookup = async (name: string): Promise<NodeId> => (await daemon.lookup(context, rootNodeId, name)).nodeId as NodeId;
  const read = async (nodeId: NodeId): Promise<string> => Buffer.concat(await daemon.read(context, nodeId, 0, 100, false)).toString();
  /** The notifications to the kernel since the last call. */
  const told = (): string[] => kernel.told.splice(0);
  return { device, daemon, cache, kernel, lookup, read, told };
}

t.test('the kernel is notified at once of changes by another front end', async (t) => {
  const { device, lookup, read, told } = await createWorld(t);
  await device.write('file', 'content');
  t.ok(told().includes(`entry ${rootNodeId}/file`), 'a name that it may believe to be absent');
  const file = await lookup('file');
  await device.write('file', 'CONTENT');
  t.ok(told().includes(`content ${file}`));
  t.equal(await read(file), 'CONTENT');
  await device.truncate('file', 3);
  t.ok(told().includes(`content ${file}`));
  t.equal(await read(file), 'CON');
  await device.filesystem.setattr(file as number as never, { mode: S_IFREG | 0o600 });
  t.same(told(), [`attributes ${file}`], 'a new mode leaves the content in its cache');
  await device.rename('file', 'other');
  t.match(new Set(told()), new Set([`entry ${rootNodeId}/file`, `entry ${rootNodeId}/other`, `content ${rootNodeId}`]));
  await device.unlink('other');
  t.ok(told().includes(`entry ${rootNodeId}/other`));
});

t.test('the kernel is not notified of its own changes', async (t) => {
  const { daemon, device, lookup, told } = await createWorld(t);
  await daemon.mknod(context, rootNodeId, 'file', S_IFREG | 0o644, 0);
  const file = await lookup('file');
  await daemon.write(context, file, 0, Buffer.from('content'), false);
  await daemon.rename(context, rootNodeId, 'file', rootNodeId, 'other', 0);
  await daemon.setattr(context, file, { size: 3 });
  await daemon.unlink(context, rootNodeId, 'other');
  await device.volume.flush();
  t.same(told(), []);
});

t.test('dirty data of the kernel does not overwrite what another front end wrote later', async (t) => {
  const { device, kernel, lookup, read } = await createWorld(t);
  await device.write('file', '..........');
  const file = await lookup('file');
  kernel.write(file, 0, 'aaaa');
  kernel.write(file, 8, 'aaaa');
  await device.write('file', 'bb', 2);
  await kernel.drained();
  t.equal(await device.text('file'), 'aabb....aaaa', 'both are there, the later one on top');
  kernel.write(file, 0, 'cccccccccccccccc');
  await device.truncate('file', 4);
  await kernel.drained();
  t.equal(await device.text('file'), 'cccc', 'the file is as short as it was made');
  t.equal(await read(file), 'cccc');
});

t.test('content that the kernel reads again while it writes back is asked for once more', async (t) => {
  const { device, kernel, daemon, lookup } = await createWorld(t);
  await device.write('file', '....');
  const file = await lookup('file');
  let rounds = 0;
  const drained = kernel.drained.bind(kernel);
  kernel.drained = async () => {
    await drained();
    // An application reads the old content and changes part of it, just before the other write is done.
    if (rounds++ !== 0) return;
    await daemon.read(context, file, 0, 4, false);
    kernel.write(file, 0, 'a...');
  };
  await device.write('file', 'bb', 2);
  await drained();
  t.equal(await device.text('file'), 'a.bb');
});

t.test('a file that another front end removed stays for as long as the kernel uses it', async (t) => {
  const { device, daemon, lookup, read } = await createWorld(t);
  const filesBefore = device.volume.statistics().files;
  await device.write('file', 'content');
  const file = await lookup('file');
  await device.unlink('file');
  t.equal(await read(file), 'content');
  t.equal(device.volume.statistics().files, filesBefore + 1);
  daemon.forget(file, 1);
  await t.rejects(async () => read(file), { code: 'ESTALE' });
  t.equal(device.volume.statistics().files, filesBefore, 'the last one that lets go of it frees it');
});

t.test('each front end is notified of changes by the others and by other devices', async (t) => {
  const realm = await createTestVolume(new MemoryStore({ disk: systemDisk }));
  const open = async (): Promise<TestDevice> => {
    const device = await TestDevice.open(realm, { disk: systemDisk, stateDirectory: await scratchDirectory(t) });
    t.teardown(() => device.close());
    return device;
  };
  const [here, elsewhere] = [await open(), await open()];
  const heard: string[] = [];
  const listenerOf = (who: string) => ({
    collect: () => Promise.resolve(true),
    isCollected: () => true,
    hold() {},
    changed: ({ entries }: { readonly entries: readonly { readonly name: string }[] }) => {
      for (const { name } of entries) heard.push(`${who}: ${name}`);
    },
    done() {},
    isUsed: () => false,
  });
  const [one, two] = [here.volume.frontEnd(), here.volume.frontEnd()];
  one.onChange(listenerOf('one'));
  two.onChange(listenerOf('two'));
  await new TestDevice(one).mkdir('of one');
  await new TestDevice(two).mkdir('of two');
  await here.mkdir('of the program');
  t.same(heard.splice(0), ['two: of one', 'one: of two', 'one: of the program', 'two: of the program']);
  await elsewhere.mkdir('of another device');
  await elsewhere.volume.flush();
  await here.volume.refresh();
  t.same(heard, ['one: of another device', 'two: of another device']);
});
