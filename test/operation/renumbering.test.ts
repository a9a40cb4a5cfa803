/**
 * Tests that operations of a copied installation can be run beside those of the original: the tree that they give is
 * the same, and no number and no stamp of it is one that the original gives (doc/concurrency.md, "One identity, two
 * installations").
 */
import t from 'tap';
import { decodeInode, S_IFREG } from '../../src/meta/inode.js';
import { counterOf, decodeKey, type Ino, makeIno, rootIno } from '../../src/meta/key.js';
import { readInode, scanXattrs } from '../../src/operation/inode-view.js';
import { type Operation, OperationError } from '../../src/operation/operation.js';
import { execute, recordBase } from '../../src/operation/operation-execute.js';
import { hasOtherNumbers, Renumbering } from '../../src/operation/renumbering.js';
import { readFile } from '../suite/fake-content.js';
import { emptyVolume, type MemoryView, treeProblems } from '../suite/memory-view.js';
import { allEntries, RandomApplications } from '../suite/random-operation.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const [former, renewed] = [3, 17];
const time = { sec: 1, nsec: 0 };

/** Sometimes another operation in place of one that is drawn often. */
function varied(asked: Operation, applications: RandomApplications, random: SeededRandom): Operation {
  if (random.below(3) > 0) return asked;
  if (asked.type === 'rename' && asked.flags === 0) return { ...asked, flags: 4, whiteoutIno: applications.newIno() };
  if (asked.type === 'setattr' && asked.stamp) return { ...asked, type: 'fallocate', offset: 0, length: 50, mode: 3, stamp: asked.stamp };
  if (asked.type === 'setxattr') return { type: 'removexattr', ino: asked.ino, name: asked.name, time: asked.time };
  return asked;
}

/** Runs random operations as a volume does, and answers those that succeeded. */
function work(applications: RandomApplications, view: MemoryView, random: SeededRandom, count: number): Operation[] {
  const done: Operation[] = [];
  for (let step = 0; step < count; step++) {
    const asked = applications.next(view);
    if (!asked) continue;
    const operation = recordBase(view, varied(asked, applications, random));
    try {
      execute(view, operation, former);
      done.push(operation);
    } catch (error) {
      if (!(error instanceof OperationError)) throw error;
    }
  }
  return done;
}

/** What applications see, without numbers; `number` tells which names are those of one inode. */
function pictureOf(view: MemoryView, number: (ino: Ino) => number): unknown {
  const pictureOfInode = (ino: Ino): unknown => {
    const inode = readInode(view, ino);
    if (!inode) return undefined;
    const { stamp: _stamp, parent: _parent, inline, ...rest } = inode;
    const content = (rest.mode & 0o170000) === S_IFREG ? Buffer.from(readFile(view, ino)).toString('hex') : Buffer.from(inline).toString('hex');
    return { ...rest, content, xattrs: [...scanXattrs(view, ino)].map(([name, value]) => [name, Buffer.from(value).toString('hex')]) };
  };
  const entries = allEntries(view).map(({ path, ino }) => [path, number(ino), pictureOfInode(ino)] as const);
  return [pictureOfInode(rootIno), ...entries.toSorted(([a], [b]) => (a < b ? -1 : 1))];
}

/** Numbers of inodes and entries, and stamps, that `view` has and `base` has not. */
function newIn(view: MemoryView, base: MemoryView): Set<string> {
  const of = (one: MemoryView): Set<string> => {
    const found = new Set<string>();
    for (const [key, value] of one.entries()) {
      const decoded = decodeKey(key);
      if (decoded.type === 'inode') {
        const { stamp } = decodeInode(value);
        found.add(`number ${decoded.ino}`);
        if (stamp.counter > 0) found.add(`stamp ${stamp.deviceIndex} ${stamp.counter}`);
      } else if (decoded.type === 'numbered') found.add(`number ${decoded.number}`);
    }
    return found;
  };
  const known = of(base);
  return new Set([...of(view)].filter((one) => !known.has(one)));
}

t.test('operations under new numbers give the same tree, which shares no number with a copy that went on elsewhere', (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const rounds = Number(process.env['TEST_ROUNDS'] ?? 300);
  const seen = new Set<string>();
  for (let round = 0; round < rounds; round++) {
    const say = (what: string): string => `seed ${seed}, round ${round}: ${what}`;
    const base = emptyVolume();
    const applications = new RandomApplications(former, random);
    work(applications, base, random, random.below(30));
    const copy = applications.copy();
    const [here, there] = [base.copy(), base.copy()];
    const operations = work(applications, here, random, 5 + random.below(30));
    work(copy, there, random, 5 + random.below(30));
    const numbers = new Renumbering(former, renewed);
    const after = base.copy();
    for (const operation of operations) {
      seen.add(operation.type);
      execute(after, numbers.renumber(operation), renewed);
    }
    const same = (ino: Ino): number => (numbers.inodes.has(ino) ? counterOf(numbers.ino(ino)) : counterOf(ino));
    if (JSON.stringify(pictureOf(after, counterOf)) !== JSON.stringify(pictureOf(here, same))) t.fail(say('another tree'));
    const problems = treeProblems(after);
    if (problems.length > 0) t.fail(say(problems.join('; ')));
    const shared = [...newIn(after, base)].filter((one) => newIn(there, base).has(one));
    if (shared.length > 0) t.fail(say(`shares ${shared.join(', ')}`));
  }
  t.equal(seen.size, 13, `all types of operations: ${[...seen].join(' ')}`);
  t.pass(`seed ${seed}`);
  t.end();
});

t.test('what was there before keeps its numbers, also if it is named again', (t) => {
  const [mine, old, other] = [makeIno(former, 100), makeIno(former, 20), makeIno(5, 20)];
  const numbers = new Renumbering(former, renewed);
  const owner = { mode: S_IFREG, uid: 0, gid: 0, rdev: 0, target: undefined, xattrs: [], time };
  const renumber = (operation: Operation): Operation => numbers.renumber(operation);
  const create = { type: 'create', parent: rootIno, name: 'mine', ino: mine, ...owner } as const;
  t.match(renumber(create), { ino: makeIno(renewed, 100), parent: rootIno });
  t.match(renumber({ type: 'link', ino: old, parent: rootIno, name: 'b', number: makeIno(former, 101), time }), {
    ino: old,
    number: makeIno(renewed, 101),
  });
  // An inode of another device that this one brought back.
  t.match(renumber({ ...create, ino: other, number: makeIno(former, 102) }), { ino: other, number: makeIno(renewed, 102) });
  const stamp = { deviceIndex: former, counter: 9 };
  const earlier = { deviceIndex: former, counter: 3 };
  const write = { type: 'inline', content: new Uint8Array(1), size: 1, mtime: undefined, upTo: 0 } as const;
  t.match(renumber({ ...write, ino: old, stamp, baseStamp: earlier }), { stamp: { deviceIndex: renewed, counter: 9 }, baseStamp: earlier });
  t.match(renumber({ ...write, ino: mine, stamp: { ...stamp, counter: 10 }, baseStamp: { deviceIndex: former, counter: 0 } }), {
    ino: makeIno(renewed, 100),
    baseStamp: { deviceIndex: renewed, counter: 0 },
  });
  t.match(renumber({ ...write, ino: old, stamp: { ...stamp, counter: 11 }, baseStamp: { deviceIndex: former, counter: 0 } }), {
    baseStamp: { deviceIndex: former, counter: 0 },
  });
  t.match(renumber({ type: 'unlink', parent: rootIno, name: 'b', ino: old, baseStamp: stamp, time }), {
    baseStamp: { deviceIndex: renewed, counter: 9 },
  });
  t.end();
});

t.test('an operation shows whether a number in it has changed', (t) => {
  const numbers = new Renumbering(former, renewed);
  const [mine, old] = [makeIno(former, 100), makeIno(former, 20)];
  numbers.renumber({ type: 'link', ino: old, parent: rootIno, name: 'x', number: mine, time });
  const rmdir = { type: 'rmdir', parent: rootIno, name: 'd', ino: old, time } as const;
  const isOther = (operation: Operation): boolean => hasOtherNumbers(operation, numbers.renumber(operation));
  t.notOk(isOther(rmdir));
  t.ok(isOther({ ...rmdir, parent: mine }));
  t.ok(isOther({ ...rmdir, ino: mine }));
  t.end();
});
