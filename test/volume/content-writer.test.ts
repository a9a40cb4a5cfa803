/**
 * Tests the way of written content to packs (src/volume/content-writer.ts): what is sealed, what stays dirty, and who
 * waits.
 */
import t from 'tap';
import type { Plaintext } from '../../src/base/brand.js';
import { decodeInode, type Inode, inlineMax, S_IFREG } from '../../src/meta/inode.js';
import { inodeKey, makeIno, rootIno } from '../../src/meta/key.js';
import type { InlineOperation, Operation, WriteOperation } from '../../src/operation/operation.js';
import { OperationError } from '../../src/operation/operation.js';
import { type ContentLimits, ContentWriter, defaultContentLimits } from '../../src/volume/content-writer.js';
import { emptyVolume } from '../suite/memory-view.js';
import { StepClock } from '../suite/step-clock.js';

const ino = makeIno(1, 7);
const chunkSize = 1 << 16;
const blank = decodeInode(emptyVolume().get(inodeKey(rootIno)) ?? new Uint8Array(0));
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A volume with one file around the writer. Sealing waits while `gate` is set. */
function begin(limits: Partial<ContentLimits> = {}) {
  const clock = new StepClock();
  const scene = {
    inode: { ...blank, mode: S_IFREG | 0o644 } as Inode | undefined,
    applied: [] as (WriteOperation | InlineOperation)[],
    journalled: [] as string[],
    runs: [] as number[][],
    gate: undefined as Promise<void> | undefined,
    failure: undefined as Error | undefined,
    dirtied: 0,
    writer: undefined as unknown as ContentWriter,
  };
  let stamps = 0;
  scene.writer = new ContentWriter(
    {
      inodeOf: () => scene.inode,
      apply: (operation: Operation) => {
        if (scene.failure) throw scene.failure;
        if (operation.type === 'write' || operation.type === 'inline') scene.applied.push(operation);
        scene.writer.applied(operation);
      },
      nextStamp: () => ({ deviceIndex: 1, counter: ++stamps }),
      appendRun: async (chunks: readonly Plaintext[]) => {
        await scene.gate;
        if (scene.failure) throw scene.failure;
        scene.runs.push(chunks.map(({ byteLength }) => byteLength));
        return { pack: 'pack' as never, packOffset: 0, chunks: [] };
      },
      runRoom: () => 1000,
      journalDirty: (_ino, { offset, bytes }) => scene.journalled.push(`${offset}+${bytes.byteLength}`),
      sealedAhead: () => {},
      becameDirty: () => scene.dirtied++,
    },
    { ...defaultContentLimits, chunkSize, dirtyBytesMax: 1e9, ...limits },
    clock,
  );
  const write = (offset: number, length: number) =>
    scene.writer.write(ino, scene.inode ?? blank, offset, new Uint8Array(length).fill(length), undefined);
  return { scene, writer: scene.writer, write };
}

/** Holds sealing until the returned function is called. */
function close(scene: ReturnType<typeof begin>['scene']): () => void {
  let open!: () => void;
  scene.gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  return open;
}

t.test('data written while its file is being sealed stays dirty and is sealed next', async (t) => {
  const { scene, writer, write } = begin();
  await write(0, 10_000);
  const open = close(scene);
  const sealed = writer.seal(ino);
  await turn();
  t.ok(writer.sealing(ino), 'truncations wait meanwhile');
  await write(5000, 100);
  open();
  await sealed;
  t.equal(writer.get(ino)?.bytes, 100);
  t.equal(writer.bytes, 100);
  await writer.seal(ino);
  t.equal(writer.get(ino), undefined);
  const [first, second] = scene.applied;
  t.strictSame(second?.baseStamp, first?.stamp, 'no other device changed the content in between');
  t.ok((second?.upTo ?? 0) > (first?.upTo ?? 0));
});

t.test('data stays dirty if sealing fails, and is sealed the next time', async (t) => {
  const { scene, writer, write } = begin();
  await write(0, 10_000);
  scene.failure = new Error('the disk is full');
  await t.rejects(writer.sealAll(), { message: 'the disk is full' });
  t.equal(writer.bytes, 10_000);
  t.notOk(writer.sealing(ino));
  scene.failure = undefined;
  await writer.sealAll();
  t.strictSame([writer.bytes, writer.fileCount, scene.applied.length], [0, 0, 1]);
});

t.test('small content is stored in the inode, larger content in chunks on the chunk grid', async (t) => {
  const small = begin();
  await small.write(3, inlineMax - 3);
  await small.writer.sealAll();
  t.equal(small.scene.applied[0]?.type, 'inline');
  t.strictSame(small.scene.runs, []);
  const large = begin();
  await large.write(chunkSize - 100, chunkSize + 150);
  await large.writer.sealAll();
  t.equal(large.scene.applied[0]?.type, 'write');
  t.strictSame(large.scene.runs, [[100, chunkSize, 50]]);
});

t.test('a file that is still being written is sealed in whole chunks only', async (t) => {
  const { scene, writer, write } = begin({ sealBytes: 2 * chunkSize });
  await write(100, 3 * chunkSize);
  await turn();
  t.strictSame(scene.runs, [[chunkSize, chunkSize]]);
  t.equal(writer.bytes, chunkSize, 'its ends may still be filled');
});

t.test('a writer waits while too much is dirty and continues when enough is sealed', async (t) => {
  const { scene, writer, write } = begin({ dirtyBytesMax: 10_000 });
  t.equal(write(0, 10_000), undefined);
  const open = close(scene);
  let done = false;
  const waiting = Promise.resolve(write(20_000, 5000)).then(() => {
    done = true;
  });
  await turn();
  t.notOk(done);
  open();
  await waiting;
  t.ok(writer.bytes <= 10_000);
});

t.test('a waiting writer gets an error when sealing fails, and its data is kept', async (t) => {
  const { scene, writer, write } = begin({ dirtyBytesMax: 10_000 });
  scene.failure = new Error('the disk is full');
  await t.rejects(Promise.resolve(write(0, 20_000)), { message: 'the disk is full' });
  t.equal(writer.bytes, 20_000);
});

t.test('a closed file is journalled once, or sealed if it is too large', async (t) => {
  const { scene, writer, write } = begin({ journalBytesMax: 1000 });
  await write(0, 600);
  await writer.persist(ino);
  await write(5000, 300);
  await writer.persist(ino);
  t.strictSame(scene.journalled, ['0+600', '5000+300']);
  t.equal(scene.applied.length, 0);
  await write(9000, 20_000);
  await writer.persist(ino);
  t.equal(scene.applied.length, 1);
  t.equal(writer.bytes, 0);
});

t.test('removing a file while its content is being sealed causes no error', async (t) => {
  const { scene, writer, write } = begin();
  await write(0, 10_000);
  const open = close(scene);
  const sealed = writer.seal(ino);
  await turn();
  scene.inode = undefined;
  scene.failure = new OperationError('ESTALE', 'the file is gone');
  open();
  await sealed;
  t.strictSame([writer.bytes, writer.fileCount], [0, 0]);
});

t.test('the time of a write is journalled with its data, but not while the file is being sealed', async (t) => {
  const { scene, writer, write } = begin();
  const time = { sec: 5, nsec: 0 };
  await write(0, 10_000);
  t.ok(writer.noteTime(ino, time));
  t.notOk(writer.noteTime(ino, time), 'the journal has it already');
  await write(0, 10_000);
  const open = close(scene);
  const sealed = writer.seal(ino);
  await turn();
  await write(0, 10);
  t.notOk(writer.noteTime(ino, { sec: 6, nsec: 0 }));
  open();
  await sealed;
  t.strictSame(scene.applied[0]?.mtime, time);
});
