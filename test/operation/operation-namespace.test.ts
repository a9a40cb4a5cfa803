/**
 * Tests operations on names, attributes and extended attributes: results and errnos (src/operation/operation-*.ts).
 */
import t from 'tap';
import { S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../src/meta/inode.js';
import { type Ino, makeIno, orphanKey, rootIno } from '../../src/meta/key.js';
import { lookup, readInode, scanEntries, scanNames, scanXattrs } from '../../src/operation/inode-view.js';
import { type CreateOperation, type Operation, OperationError, type RenameOperation } from '../../src/operation/operation.js';
import { decodeOperation, encodeOperation } from '../../src/operation/operation-codec.js';
import { execute, recordBase } from '../../src/operation/operation-execute.js';
import { fakeExtent } from '../suite/fake-content.js';
import { emptyVolume, type MemoryView, treeProblems } from '../suite/memory-view.js';
import { RandomApplications } from '../suite/random-operation.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const time = { sec: 1_800_000_000, nsec: 7 };
const ino = (counter: number): Ino => makeIno(1, counter);

/** `done`, or the errno; a failure must have changed nothing. */
function attempt(view: MemoryView, operation: Operation): string {
  const before = view.fingerprint();
  try {
    execute(view, decodeOperation(encodeOperation(operation)), 1);
    return 'done';
  } catch (error) {
    if (!(error instanceof OperationError)) throw error;
    return view.fingerprint() === before ? error.code : `${error.code}, and changed something`;
  }
}

function create(parent: Ino, name: string | undefined, number: number, mode: number, more: Partial<CreateOperation> = {}): Operation {
  return { type: 'create', parent, name, ino: ino(number), mode, uid: 1, gid: 2, rdev: 0, target: undefined, xattrs: [], time, ...more };
}
const file = S_IFREG | 0o644;
const directory = S_IFDIR | 0o755;

function rename(view: MemoryView, from: readonly [Ino, string], to: readonly [Ino, string], flags = 0, more: Partial<RenameOperation> = {}): string {
  const source = lookup(view, ...from)?.ino ?? ino(999);
  const replacedIno = lookup(view, ...to)?.ino;
  const places = { parent: from[0], name: from[1], newParent: to[0], newName: to[1] };
  return attempt(view, { type: 'rename', ...places, flags, ino: source, replacedIno, whiteoutIno: undefined, time, ...more });
}
const unlink = (parent: Ino, name: string, of: Ino): Operation => ({ type: 'unlink', parent, name, ino: of, time });
const rmdir = (parent: Ino, name: string, of: Ino): Operation => ({ type: 'rmdir', parent, name, ino: of, time });
let links = 5000;
const link = (of: Ino, parent: Ino, name: string): Operation => ({ type: 'link', ino: of, parent, name, number: ino(links++), time });

void t.test('create makes a complete inode and updates its directory', (t) => {
  const view = emptyVolume();
  t.equal(attempt(view, create(rootIno, 'f', 10, file, { xattrs: [['user.a', Uint8Array.of(1)]] })), 'done');
  t.match(readInode(view, ino(10)), { mode: file, nlink: 1, uid: 1, gid: 2, size: 0, generation: 0, parent: rootIno, mtime: time, btime: time });
  t.same([...scanXattrs(view, ino(10))].length, 1);
  t.match(readInode(view, rootIno), { nlink: 2, mtime: time, ctime: time });
  t.equal(attempt(view, create(rootIno, 'd', 11, directory)), 'done');
  t.match(readInode(view, ino(11)), { nlink: 2, parent: rootIno });
  t.equal(readInode(view, rootIno)?.nlink, 3);
  t.equal(attempt(view, create(ino(11), 'l', 12, S_IFLNK | 0o777, { target: 'to' })), 'done');
  t.match(readInode(view, ino(12)), { size: 2, inline: Uint8Array.from(Buffer.from('to')) });
  t.same(
    [...scanEntries(view, rootIno)].map((entry) => entry.name),
    ['f', 'd'],
  );
  t.same(
    [...scanEntries(view, rootIno, ino(10))].map((entry) => entry.name),
    ['d'],
  );
  t.same(
    [...scanNames(view, rootIno)].map((entry) => entry.name),
    ['d', 'f'],
  );
  t.same(treeProblems(view), []);
  t.end();
});

void t.test('create refuses existing, long and invalid names, and parents that are not directories', (t) => {
  const view = emptyVolume();
  attempt(view, create(rootIno, 'f', 10, file));
  t.equal(attempt(view, create(rootIno, 'f', 11, file)), 'EEXIST');
  t.equal(attempt(view, create(rootIno, 'x'.repeat(256), 11, file)), 'ENAMETOOLONG');
  t.equal(attempt(view, create(rootIno, 'a/b', 11, file)), 'EINVAL');
  t.equal(attempt(view, create(rootIno, '', 11, file)), 'ENOENT');
  t.equal(attempt(view, create(ino(10), 'x', 11, file)), 'ENOTDIR');
  t.equal(attempt(view, create(ino(99), 'x', 11, file)), 'ESTALE');
  t.equal(attempt(view, create(rootIno, 'l', 11, S_IFLNK | 0o777, { target: 'x'.repeat(4096) })), 'ENAMETOOLONG');
  attempt(view, create(rootIno, 'd', 12, directory));
  attempt(view, rmdir(rootIno, 'd', ino(12)));
  t.equal(attempt(view, create(ino(12), 'x', 11, file)), 'ENOENT', 'in a removed directory');
  t.end();
});

void t.test('a file without a name is an orphan until it is linked or reclaimed', (t) => {
  const view = emptyVolume();
  attempt(view, create(rootIno, undefined, 10, file));
  t.equal(readInode(view, ino(10))?.nlink, 0);
  t.same([...(view.get(orphanKey(ino(10))) ?? [])], [1], 'held by device 1');
  t.equal(attempt(view, link(ino(10), rootIno, 'f')), 'done');
  t.same(treeProblems(view), []);
  t.equal(attempt(view, link(ino(10), rootIno, 'g')), 'done');
  t.equal(attempt(view, unlink(rootIno, 'f', ino(10))), 'done');
  t.equal(readInode(view, ino(10))?.nlink, 1);
  t.equal(attempt(view, { type: 'reclaim', ino: ino(10) }), 'done');
  t.equal(readInode(view, ino(10))?.nlink, 1, 'a file with a name is not reclaimed');
  const write = { type: 'write', ino: ino(10), size: 50, mtime: time, upTo: 0 } as const;
  const stamp = { deviceIndex: 1, counter: 1 };
  attempt(view, { ...write, pieces: [{ offset: 0, extent: fakeExtent(new SeededRandom(1), 50) }], stamp, baseStamp: stamp });
  attempt(view, unlink(rootIno, 'g', ino(10)));
  t.same(execute(view, { type: 'reclaim', ino: ino(10) }, 1), { files: -1, bytes: -50 });
  t.equal(view.fingerprint().split('\n').length, 1, 'only the root is left');
  t.end();
});

void t.test('link, unlink and rmdir fail with the errnos of the man pages', (t) => {
  const view = emptyVolume();
  attempt(view, create(rootIno, 'f', 10, file));
  attempt(view, create(rootIno, 'd', 11, directory));
  attempt(view, create(ino(11), 'g', 12, file));
  t.equal(attempt(view, link(ino(11), rootIno, 'x')), 'EPERM');
  t.equal(attempt(view, link(ino(10), rootIno, 'd')), 'EEXIST');
  t.equal(attempt(view, link(ino(99), rootIno, 'x')), 'ESTALE');
  t.equal(attempt(view, unlink(rootIno, 'd', ino(11))), 'EISDIR');
  t.equal(attempt(view, unlink(rootIno, 'f', ino(12))), 'ENOENT', 'something else has the name now');
  t.equal(attempt(view, unlink(rootIno, 'x', ino(12))), 'ENOENT');
  t.equal(attempt(view, rmdir(rootIno, 'f', ino(10))), 'ENOTDIR');
  t.equal(attempt(view, rmdir(rootIno, 'd', ino(11))), 'ENOTEMPTY');
  t.end();
});

void t.test('rename follows rename(2)', (t) => {
  const view = emptyVolume();
  attempt(view, create(rootIno, 'a', 10, directory));
  attempt(view, create(rootIno, 'b', 11, directory));
  attempt(view, create(ino(10), 'sub', 12, directory));
  attempt(view, create(rootIno, 'f', 13, file));
  attempt(view, create(rootIno, 'g', 14, file));
  t.equal(rename(view, [rootIno, 'a'], [ino(12), 'x']), 'EINVAL', 'into its own descendant');
  t.equal(rename(view, [rootIno, 'a'], [ino(10), 'x']), 'EINVAL', 'into itself');
  t.equal(rename(view, [rootIno, 'b'], [rootIno, 'a']), 'ENOTEMPTY');
  t.equal(rename(view, [ino(10), 'sub'], [rootIno, 'a']), 'ENOTEMPTY', 'over its own parent');
  t.equal(rename(view, [rootIno, 'b'], [rootIno, 'f']), 'ENOTDIR');
  t.equal(rename(view, [rootIno, 'f'], [rootIno, 'b']), 'EISDIR');
  t.equal(rename(view, [rootIno, 'x'], [rootIno, 'y']), 'ENOENT');
  t.equal(rename(view, [rootIno, 'f'], [rootIno, 'g'], 1), 'EEXIST');
  t.equal(rename(view, [rootIno, 'f'], [rootIno, 'y'], 2), 'ENOENT');
  t.equal(rename(view, [rootIno, 'f'], [rootIno, 'g'], 3), 'EINVAL');
  t.equal(rename(view, [rootIno, 'f'], [rootIno, 'g'], 0, { replacedIno: undefined }), 'EEXIST', 'only what was seen is replaced');
  t.equal(rename(view, [rootIno, 'a'], [ino(12), 'y'], 2), 'ENOENT');
  t.equal(rename(view, [ino(10), 'sub'], [rootIno, 'a'], 2), 'EINVAL', 'an exchange with its own parent');

  t.equal(rename(view, [ino(10), 'sub'], [ino(11), 'moved']), 'done');
  t.match(readInode(view, ino(12)), { parent: ino(11), ctime: time });
  t.equal(readInode(view, ino(10))?.nlink, 2);
  t.equal(readInode(view, ino(11))?.nlink, 3);
  t.equal(rename(view, [rootIno, 'f'], [rootIno, 'g']), 'done');
  t.equal(readInode(view, ino(14))?.nlink, 0);
  t.equal(rename(view, [rootIno, 'g'], [ino(11), 'moved'], 2), 'done', 'a file and a directory are exchanged');
  t.match(readInode(view, ino(12)), { parent: rootIno });
  t.equal(rename(view, [rootIno, 'a'], [rootIno, 'g']), 'done', 'over an empty directory');
  t.equal(readInode(view, ino(12))?.nlink, 0);
  t.same(treeProblems(view), []);

  attempt(view, link(ino(13), rootIno, 'same'));
  t.equal(rename(view, [ino(11), 'moved'], [rootIno, 'same']), 'done');
  t.equal(readInode(view, ino(13))?.nlink, 2, 'two names of one inode: nothing happens');
  t.equal(rename(view, [rootIno, 'same'], [rootIno, 'away'], 4, { whiteoutIno: ino(20) }), 'done');
  t.match(readInode(view, ino(20)), { mode: S_IFCHR, rdev: 0, nlink: 1 });
  t.equal(lookup(view, rootIno, 'same')?.ino, ino(20));
  t.same(treeProblems(view), []);
  t.end();
});

void t.test('a removed directory can be restored, but not inside itself', (t) => {
  const view = emptyVolume();
  attempt(view, create(rootIno, 'd', 10, directory));
  attempt(view, rmdir(rootIno, 'd', ino(10)));
  t.equal(attempt(view, link(ino(10), ino(10), 'x')), 'ENOENT');
  t.equal(attempt(view, link(ino(10), rootIno, 'again')), 'done');
  t.match(readInode(view, ino(10)), { nlink: 2, parent: rootIno });
  t.same(treeProblems(view), []);
  t.end();
});

void t.test('extended attributes are created, replaced and removed within their limits', (t) => {
  const view = emptyVolume();
  attempt(view, create(rootIno, 'f', 10, file));
  const set = (name: string, size: number, flags: number, mode?: number): string =>
    attempt(view, { type: 'setxattr', ino: ino(10), name, value: new Uint8Array(size), flags, mode, time });
  t.equal(set('user.a', 1, 2), 'ENODATA');
  t.equal(set('user.a', 1, 1), 'done');
  t.equal(set('user.a', 1, 1), 'EEXIST');
  t.equal(set('user.a', 65536, 2), 'done');
  t.equal(set('user.a', 65537, 0), 'E2BIG');
  t.equal(set('', 1, 0), 'EINVAL');
  t.equal(set('x'.repeat(256), 1, 0), 'EINVAL');
  t.equal(set('system.acl', 4, 0, 0o770), 'done');
  t.equal((readInode(view, ino(10))?.mode ?? 0) & ~S_IFMT, 0o770);
  let count = 0;
  while (set(`user.${'x'.repeat(240)}${count}`, 0, 0) === 'done') count++;
  t.equal(set('user.one-more-of-some-length'.repeat(9), 0, 0), 'E2BIG', 'the list is limited');
  t.equal(attempt(view, { type: 'removexattr', ino: ino(10), name: 'user.a', time }), 'done');
  t.equal(attempt(view, { type: 'removexattr', ino: ino(10), name: 'user.a', time }), 'ENODATA');
  t.same(treeProblems(view), []);
  t.end();
});

void t.test('random operations keep the tree valid and the totals right, and survive the journal', (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  for (let round = 0; round < 30; round++) {
    const view = emptyVolume();
    const applications = new RandomApplications(1, random);
    const totals = { files: 1, bytes: 0 };
    for (let step = 0; step < 80; step++) {
      const drawn = applications.next(view);
      if (!drawn) continue;
      const asked = recordBase(view, drawn);
      const operation = decodeOperation(encodeOperation(asked));
      const again = encodeOperation(operation);
      if (Buffer.compare(again, encodeOperation(asked)) !== 0) t.fail(`seed ${seed}: ${operation.type} does not survive`);
      const before = view.fingerprint();
      try {
        const delta = execute(view, operation, 1);
        totals.files += delta.files;
        totals.bytes += delta.bytes;
      } catch (error) {
        if (!(error instanceof OperationError)) throw error;
        if (view.fingerprint() !== before) t.fail(`seed ${seed}, round ${round}: ${operation.type} failed and changed something`);
      }
      const problems = treeProblems(view);
      if (problems.length > 0) t.fail(`seed ${seed}, round ${round}, ${operation.type}: ${problems.join('; ')}`);
    }
    const inodes = [...view.entries()].filter(([key]) => key[0] === 'I').map(([key]) => key);
    if (inodes.length !== totals.files) t.fail(`seed ${seed}, round ${round}: ${inodes.length} inodes, the deltas say ${totals.files}`);
  }
  t.pass(`seed ${seed}`);
  t.end();
});

void t.test('the codec refuses truncated entries, trailing bytes and unknown types', (t) => {
  const applications = new RandomApplications(1, new SeededRandom(5));
  const view = emptyVolume();
  const seen = new Set<string>();
  for (let step = 0; step < 600; step++) {
    const operation = applications.next(view);
    if (!operation) continue;
    attempt(view, operation);
    if (seen.has(operation.type)) continue;
    seen.add(operation.type);
    const bytes = encodeOperation(recordBase(view, operation));
    for (let length = 0; length < bytes.byteLength; length++)
      t.throws(() => decodeOperation(bytes.subarray(0, length)), `${operation.type} cut at ${length}`);
    t.throws(() => decodeOperation(Buffer.concat([bytes, Uint8Array.of(0)])), `${operation.type} with a byte too many`);
  }
  t.ok(seen.size >= 11, [...seen].join(' '));
  t.throws(() => decodeOperation(Uint8Array.of(99)));
  t.end();
});
