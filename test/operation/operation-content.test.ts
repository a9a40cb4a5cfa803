/**
 * Tests operations on content against a model that holds every byte (src/operation/operation-content.ts,
 * operation-attribute.ts).
 */
import t from 'tap';
import type { Extent } from '../../src/meta/extent.js';
import { inlineMax, S_IFREG } from '../../src/meta/inode.js';
import { type Ino, makeIno, rootIno } from '../../src/meta/key.js';
import { readInode, scanExtents } from '../../src/operation/inode-view.js';
import { fileSizeMax, type Operation, OperationError } from '../../src/operation/operation.js';
import { decodeOperation, encodeOperation } from '../../src/operation/operation-codec.js';
import { execute } from '../../src/operation/operation-execute.js';
import { contentOf, fakeExtent, readFile } from '../suite/fake-content.js';
import { emptyVolume, type MemoryView, treeProblems } from '../suite/memory-view.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const time = { sec: 1_700_000_100, nsec: 5 };
const a = makeIno(1, 1);
const b = makeIno(1, 2);
let counter = 0;
const stamp = (): { deviceIndex: number; counter: number } => ({ deviceIndex: 1, counter: ++counter });
const zeroStamp = { deviceIndex: 1, counter: 0 };

function create(view: MemoryView, ino: Ino, name: string, mode = S_IFREG | 0o644): void {
  execute(view, { type: 'create', parent: rootIno, name, ino, mode, uid: 0, gid: 0, rdev: 0, target: undefined, xattrs: [], time }, 1);
}

function volumeWithFiles(): MemoryView {
  const view = emptyVolume();
  create(view, a, 'a');
  create(view, b, 'b');
  return view;
}

const write = (ino: Ino, offset: number, extent: Extent): Operation => ({
  type: 'write',
  ino,
  pieces: [{ offset, extent }],
  size: offset + extent.length,
  mtime: time,
  stamp: stamp(),
  baseStamp: zeroStamp,
  upTo: 0,
});
const inline = (ino: Ino, content: Uint8Array, size: number): Operation => ({
  type: 'inline',
  ino,
  content,
  size,
  mtime: time,
  stamp: stamp(),
  baseStamp: zeroStamp,
  upTo: 0,
});
const fallocate = (ino: Ino, offset: number, length: number, mode: number): Operation => ({
  type: 'fallocate',
  ino,
  offset,
  length,
  mode,
  stamp: stamp(),
  time,
});
const clone = (from: Ino, fromOffset: number, to: Ino, toOffset: number, length: number): Operation => ({
  type: 'clone',
  from,
  fromOffset,
  to,
  toOffset,
  length,
  stamp: stamp(),
  time,
});
const truncate = (ino: Ino, size: number): Operation => ({ type: 'setattr', ino, size, stamp: stamp(), time });

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof OperationError) return error.code;
    throw error;
  }
  return 'done';
}

/** The size afterwards, or the errno. */
function attempt(view: MemoryView, operation: Operation): number | string {
  const code = codeOf(() => execute(view, operation, 1));
  const ino = operation.type === 'clone' ? operation.to : 'ino' in operation ? operation.ino : undefined;
  return code === 'done' && ino !== undefined ? (readInode(view, ino)?.size ?? -1) : code;
}

void t.test('a write cuts what it covers and keeps both sides', (t) => {
  const view = volumeWithFiles();
  const random = new SeededRandom(1);
  const first = fakeExtent(random, 1000);
  const second = fakeExtent(random, 100);
  execute(view, write(a, 0, first), 1);
  execute(view, write(a, 450, second), 1);
  const expected = contentOf(first);
  expected.set(contentOf(second), 450);
  t.same(readFile(view, a), expected);
  t.equal([...scanExtents(view, a, 0, 1000)].length, 3);
  t.equal([...scanExtents(view, a, 449, 451)].length, 2);
  t.same(treeProblems(view), []);
  t.end();
});

void t.test('writing extents drops inline content, and writing inline content drops extents', (t) => {
  const view = volumeWithFiles();
  execute(view, inline(a, Buffer.from('small'), 10), 1);
  t.equal(Buffer.from(readFile(view, a)).toString(), 'small\0\0\0\0\0');
  const extent = fakeExtent(new SeededRandom(2), 50);
  t.same(execute(view, write(a, 0, extent), 1), { files: 0, bytes: 45 });
  t.same(readFile(view, a), contentOf(extent));
  t.same(execute(view, inline(a, Buffer.from('tiny'), 4), 1), { files: 0, bytes: -46 });
  t.equal(Buffer.from(readFile(view, a)).toString(), 'tiny');
  t.same(treeProblems(view), []);
  t.end();
});

void t.test('truncated data does not come back when the file grows', (t) => {
  const view = volumeWithFiles();
  execute(view, write(a, 0, fakeExtent(new SeededRandom(3), 5000)), 1);
  execute(view, truncate(a, 10), 1);
  execute(view, truncate(a, 5000), 1);
  t.ok(
    readFile(view, a)
      .subarray(10)
      .every((byte) => byte === 0),
  );
  t.equal(readInode(view, a)?.allocated, 10);
  execute(view, inline(b, Buffer.from('abcdef'), 6), 1);
  execute(view, truncate(b, 2), 1);
  execute(view, truncate(b, 6), 1);
  t.equal(Buffer.from(readFile(view, b)).toString(), 'ab\0\0\0\0');
  t.end();
});

void t.test('times and stamps follow content changes', (t) => {
  const view = volumeWithFiles();
  const later = { sec: time.sec + 1, nsec: 0 };
  execute(view, { type: 'setattr', ino: a, size: 7, stamp: { deviceIndex: 3, counter: 9 }, time: later }, 1);
  t.match(readInode(view, a), { mtime: later, ctime: later, stamp: { deviceIndex: 3, counter: 9 } });
  execute(view, { type: 'setattr', ino: a, atime: time, time: undefined }, 1);
  t.match(readInode(view, a), { atime: time, ctime: later });
  execute(view, { type: 'setattr', ino: a, mode: 0o4755, uid: 5, gid: 6, flags: 0x10, time }, 1);
  t.match(readInode(view, a), { mode: S_IFREG | 0o4755, uid: 5, gid: 6, flags: 0x10, ctime: time, mtime: later });
  t.end();
});

void t.test('fallocate reserves only holes, punching makes holes, and neither changes other bytes', (t) => {
  const view = volumeWithFiles();
  const extent = fakeExtent(new SeededRandom(4), 100);
  execute(view, write(a, 100, extent), 1);
  t.equal(attempt(view, fallocate(a, 0, 300, 1)), 200);
  t.equal(readInode(view, a)?.allocated, 4096, 'the whole block');
  t.equal(attempt(view, fallocate(a, 0, 300, 0)), 300);
  t.same(readFile(view, a).subarray(100, 200), contentOf(extent));
  t.equal(attempt(view, fallocate(a, 150, 100, 3)), 300);
  t.equal(readInode(view, a)?.allocated, 4096, 'part of a block is not given back');
  t.equal(attempt(view, fallocate(a, 0, 120, 16)), 300);
  t.same(readFile(view, a).subarray(120, 150), contentOf(extent).subarray(20, 50));
  t.same(treeProblems(view), []);
  t.end();
});

void t.test('content operations fail with the errnos of the man pages', (t) => {
  const view = volumeWithFiles();
  const directory = makeIno(1, 3);
  const fifo = makeIno(1, 4);
  create(view, directory, 'd', 0o40755);
  create(view, fifo, 'f', 0o10644);
  execute(view, write(a, 0, fakeExtent(new SeededRandom(5), 8192)), 1);
  execute(view, inline(b, Buffer.from('inline'), 6), 1);
  const before = view.fingerprint();
  t.equal(attempt(view, truncate(directory, 0)), 'EISDIR');
  t.equal(attempt(view, truncate(fifo, 0)), 'EINVAL');
  t.equal(attempt(view, truncate(a, -1)), 'EINVAL');
  t.equal(attempt(view, truncate(a, 2 ** 60)), 'EFBIG');
  t.equal(attempt(view, truncate(makeIno(9, 9), 0)), 'ESTALE');
  t.equal(attempt(view, fallocate(a, 0, 0, 0)), 'EINVAL');
  t.equal(attempt(view, fallocate(a, fileSizeMax, 1, 0)), 'EFBIG');
  t.equal(attempt(view, fallocate(a, 0, 1, 2)), 'EOPNOTSUPP');
  t.equal(attempt(view, fallocate(a, 1, 4096, 8)), 'EINVAL');
  t.equal(attempt(view, fallocate(a, 4096, 4096, 8)), 'EINVAL');
  t.equal(attempt(view, fallocate(a, 8192, 4096, 32)), 'EINVAL');
  t.equal(attempt(view, fallocate(b, 0, 4096, 32)), 'EOPNOTSUPP');
  t.equal(attempt(view, clone(a, 0, a, 10, 20)), 'EINVAL');
  t.equal(attempt(view, clone(b, 1, a, 0, 2)), 'EOPNOTSUPP');
  t.equal(attempt(view, clone(a, 0, b, 3, 10)), 'EOPNOTSUPP');
  t.equal(attempt(view, clone(a, 0, directory, 0, 10)), 'EISDIR');
  t.equal(attempt(view, inline(a, new Uint8Array(inlineMax + 1), 0)), 'EINVAL');
  t.equal(view.fingerprint(), before, 'a refused operation has changed nothing');
  t.end();
});

void t.test('a file of the largest size can be truncated, punched and read at its end', (t) => {
  const view = volumeWithFiles();
  const extent = fakeExtent(new SeededRandom(6), 10);
  execute(view, write(a, fileSizeMax - 10, extent), 1);
  t.equal([...scanExtents(view, a, fileSizeMax - 1, fileSizeMax)].length, 1);
  t.equal(attempt(view, fallocate(a, fileSizeMax - 5, 5, 3)), fileSizeMax);
  t.equal(readInode(view, a)?.allocated, 10);
  t.equal(attempt(view, truncate(a, 0)), 0);
  t.same(treeProblems(view), []);
  t.end();
});

/** The effect of the operation on bytes; `undefined` where the model does not know (errors). */
function applyToModel(model: Uint8Array, operation: Operation, source: Uint8Array): Uint8Array {
  const resized = (size: number): Uint8Array => {
    const next = new Uint8Array(size);
    next.set(model.subarray(0, size));
    return next;
  };
  switch (operation.type) {
    case 'write': {
      const [{ offset, extent }] = operation.pieces as [(typeof operation.pieces)[number]];
      const next = resized(Math.max(model.byteLength, operation.size));
      if (extent.kind === 'data') next.set(contentOf(extent), offset);
      return next;
    }
    case 'inline': {
      const next = new Uint8Array(operation.size);
      next.set(operation.content);
      return next;
    }
    case 'setattr':
      return resized(operation.size ?? model.byteLength);
    case 'clone': {
      const part = source.slice(operation.fromOffset, operation.fromOffset + operation.length);
      if (part.byteLength === 0) return model;
      const next = resized(Math.max(model.byteLength, operation.toOffset + part.byteLength));
      next.set(part, operation.toOffset);
      return next;
    }
    case 'fallocate': {
      const { offset, length, mode } = operation;
      if (mode === 8) return Uint8Array.from([...model.subarray(0, offset), ...model.subarray(offset + length)]);
      if (mode === 32) return Uint8Array.from([...model.subarray(0, offset), ...new Uint8Array(length), ...model.subarray(offset)]);
      const next = (mode & 1) !== 0 ? model.slice() : resized(Math.max(model.byteLength, offset + length));
      if ((mode & 18) !== 0) next.fill(0, offset, offset + length);
      return next;
    }
    default:
      return model;
  }
}

void t.test('random operations on content give the same bytes as a model', (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  for (let round = 0; round < 40; round++) {
    const view = volumeWithFiles();
    const models = new Map([
      [a, new Uint8Array(0)],
      [b, new Uint8Array(0)],
    ]);
    let bytes = 0;
    for (let step = 0; step < 60; step++) {
      const ino = random.below(2) === 0 ? a : b;
      const other = ino === a ? b : a;
      const model = models.get(ino) as Uint8Array;
      const offset = random.below(3) === 0 ? random.below(5) * 4096 : random.below(20_000);
      const length = random.below(3) === 0 ? (1 + random.below(3)) * 4096 : 1 + random.below(9000);
      const isInline = (readInode(view, ino)?.inline.byteLength ?? 0) > 0;
      let operation: Operation;
      switch (random.below(8)) {
        case 0:
        case 1:
          // The writer's part of the contract: inline content is in the pieces. Here it is overwritten as a whole.
          operation = isInline ? write(ino, 0, fakeExtent(random, 2048 + length)) : write(ino, offset, fakeExtent(random, length));
          break;
        case 2: {
          const content = random.bytes(random.below(inlineMax + 1));
          operation = inline(ino, content, content.byteLength + random.below(2) * random.below(5000));
          break;
        }
        case 3:
          operation = truncate(ino, random.below(4) === 0 ? 0 : offset);
          break;
        case 4:
        case 5:
          operation = fallocate(ino, offset, length, [0, 1, 3, 3, 16, 17, 8, 32][random.below(8)]!);
          break;
        case 6: {
          const whole = random.below(2) === 0;
          operation = whole ? clone(other, 0, ino, 0, 1e9) : clone(other, random.below(20_000), ino, offset, length);
          break;
        }
        default:
          operation = clone(ino, random.below(5000), ino, 5000 + offset, Math.min(length, 5000));
      }
      operation = decodeOperation(encodeOperation(operation));
      const before = view.fingerprint();
      let failed = false;
      try {
        bytes += execute(view, operation, 1).bytes;
      } catch (error) {
        if (!(error instanceof OperationError)) throw error;
        failed = true;
      }
      const message = `seed ${seed}, round ${round}, step ${step}, ${operation.type}`;
      if (failed) {
        if (view.fingerprint() !== before) t.fail(`${message}: failed and changed something`);
        continue;
      }
      const source = operation.type === 'clone' ? (models.get(operation.from) as Uint8Array) : model;
      models.set(ino, applyToModel(model, operation, source) as Uint8Array<ArrayBuffer>);
      for (const [file, expected] of models) {
        if (Buffer.compare(readFile(view, file), expected) !== 0) t.fail(`${message}: ${file} differs from the model`);
      }
      const problems = treeProblems(view);
      if (problems.length > 0) t.fail(`${message}: ${problems.join('; ')}`);
      const allocated = (readInode(view, a)?.allocated ?? 0) + (readInode(view, b)?.allocated ?? 0);
      if (allocated !== bytes) t.fail(`${message}: the deltas add up to ${bytes}, the files to ${allocated}`);
    }
  }
  t.pass(`seed ${seed}`);
  t.end();
});
