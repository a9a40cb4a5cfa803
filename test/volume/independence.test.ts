/**
 * Tests when pending operations need not be run again on commits of others (src/volume/independence.ts), by running
 * them again.
 */
import t from 'tap';
import { ByteReader } from '../../src/base/bytes.js';
import type { Commit } from '../../src/commit/commit.js';
import type { Sequence } from '../../src/commit/sequence.js';
import { S_IFDIR, S_IFREG } from '../../src/meta/inode.js';
import { firstCounter, type Ino, makeIno, orphanKey, rootIno } from '../../src/meta/key.js';
import { type Operation, OperationError } from '../../src/operation/operation.js';
import { execute, recordBase } from '../../src/operation/operation-execute.js';
import { type Conflict, executeRebased, RebaseState } from '../../src/operation/rebase-rules.js';
import { areIndependent } from '../../src/volume/independence.js';
import { changesOf } from '../../src/volume/volume-change.js';
import type { VolumeState } from '../../src/volume/volume-state.js';
import { emptyState } from '../suite/memory-state.js';
import { RandomApplications } from '../suite/random-operation.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

/** A device frees only its own orphans. */
function isOwnOrphan(state: VolumeState, ino: Ino, deviceIndex: number): boolean {
  const holder = state.view.get(orphanKey(ino));
  return holder !== undefined && new ByteReader(holder).varint() === deviceIndex;
}

/** Runs `count` random operations as a volume does. */
function work(state: VolumeState, applications: RandomApplications, count: number): void {
  for (let index = 0; index < count; index++) {
    const operation = applications.next(state.view);
    if (!operation || (operation.type === 'reclaim' && !isOwnOrphan(state, operation.ino, applications.deviceIndex))) continue;
    const complete = recordBase(state.view, operation);
    const transaction = state.transaction();
    try {
      const delta = execute(transaction, complete, applications.deviceIndex);
      if (transaction.changes.count > 0) state.apply({ serial: state.operationCount + 1, operation: complete }, transaction.changes, delta);
    } catch (error) {
      if (!(error instanceof OperationError)) throw error;
    }
  }
}

/** Its operations become a commit, in its own state and in those of others. */
function commit(state: VolumeState, sequence: number): Commit {
  state.freeze();
  const { flight } = state;
  const { mutations = [], delta = { files: 0, bytes: 0 } } = flight ?? {};
  if (flight) state.land(sequence as Sequence, flight, []);
  else state.thaw();
  return { sequence: sequence as Sequence, packs: [], mutations, filesDelta: delta.files, bytesDelta: delta.bytes } as unknown as Commit;
}

interface Outcome {
  readonly operations: readonly Operation[];
  readonly mutations: unknown;
  readonly totals: unknown;
}

/** The result of running all operations again; throws if there is a conflict. */
function rebased(state: VolumeState, commits: readonly Commit[], deviceIndex: number): Outcome {
  const run = state.rebaseOnto(commits);
  const conflicts: Conflict[] = [];
  const allocateIno = (): never => {
    throw new Error('nothing new is made');
  };
  const context = { deviceIndex, deviceName: 'pc', oldView: state.view, allocateIno, state: new RebaseState(), conflicts };
  for (const { serial, operation } of state.operations) {
    const transaction = run.transaction();
    const { effective, delta } = executeRebased(transaction, operation, context);
    run.add(
      false,
      effective.map((one) => ({ serial, operation: one })),
      transaction.changes,
      delta,
    );
  }
  if (conflicts.length > 0) throw new Error(`conflicts: ${conflicts.map(({ code }) => code).join()}`);
  return outcomeOf(run.pending);
}

function outcomeOf({ operations, overlays, totals }: ReturnType<VolumeState['rebaseOnto']>['pending']): Outcome {
  return { operations: operations.map(({ operation }) => operation), mutations: overlays.flatMap((changes) => [...changes.entries()]), totals };
}

const rounds = Number(process.env['TEST_ROUNDS'] ?? 3000);
const seed = testSeed();

t.test(`operations found independent have the same result when run again (TEST_SEED=${seed})`, (t) => {
  let independent = 0;
  for (let round = 0; round < rounds; round++) {
    const random = new SeededRandom(seed + round * 7919);
    const [first, second] = [emptyState(), emptyState()];
    work(first, new RandomApplications(0, random), 5 + random.below(60));
    second.advance([commit(first, 1)]);
    work(first, new RandomApplications(1, random), 1 + random.below(3));
    work(second, new RandomApplications(2, random), 1 + random.below(4));
    const theirs = commit(first, 2);
    if (second.operationCount === 0 || !areIndependent(second, [theirs], changesOf([theirs]))) continue;
    independent++;
    const again = rebased(second, [theirs], 2);
    second.advance([theirs]);
    second.freeze();
    const { flight } = second;
    const operations = second.operations.map(({ operation }) => operation);
    const mine = { operations, mutations: flight?.mutations, totals: flight?.delta };
    if (JSON.stringify(mine) === JSON.stringify(again)) continue;
    t.same(mine, again, `round ${round}`);
    break;
  }
  t.ok(independent > rounds / 50, `${independent} of ${rounds} were independent`);
  t.comment(`${independent} of ${rounds} were independent`);
  t.end();
});

t.test('two moves that would close a cycle, or a clone of a changed file, are not independent', (t) => {
  const time = { sec: 1, nsec: 0 };
  const inoOf = (counter: number): Ino => makeIno(0, firstCounter + counter);
  const owner = { uid: 0, gid: 0, rdev: 0, target: undefined, xattrs: [], time };
  const create = (parent: Ino, name: string, ino: Ino, mode: number): Operation => ({ type: 'create', parent, name, ino, mode, ...owner });
  const move = (ino: Ino, parent: Ino, name: string, newParent: Ino): Operation => {
    return { type: 'rename', ino, parent, name, newParent, newName: name, flags: 0, replacedIno: undefined, whiteoutIno: undefined, time };
  };
  const apply = (state: VolumeState, deviceIndex: number, ...operations: Operation[]): void => {
    for (const operation of operations) {
      const complete = recordBase(state.view, operation);
      const transaction = state.transaction();
      const delta = execute(transaction, complete, deviceIndex);
      state.apply({ serial: state.operationCount + 1, operation: complete }, transaction.changes, delta);
    }
  };
  const [left, moved, below, right] = [inoOf(2), inoOf(3), inoOf(4), inoOf(5)];
  const [above, target, file, copy] = [inoOf(6), inoOf(7), inoOf(8), inoOf(9)];
  const baseStamp = { deviceIndex: 0, counter: 0 };
  const ask = (theirs: Operation, mine: Operation): boolean => {
    const [first, second] = [emptyState(), emptyState()];
    apply(
      first,
      0,
      create(rootIno, 'left', left, S_IFDIR),
      create(left, 'moved', moved, S_IFDIR),
      create(moved, 'below', below, S_IFDIR),
      create(rootIno, 'right', right, S_IFDIR),
      create(right, 'above', above, S_IFDIR),
      create(above, 'target', target, S_IFDIR),
      create(left, 'file', file, S_IFREG),
      create(right, 'copy', copy, S_IFREG),
      { type: 'inline', ino: file, content: Buffer.from('content'), size: 7, mtime: time, stamp: { deviceIndex: 0, counter: 1 }, baseStamp, upTo: 0 },
    );
    second.advance([commit(first, 1)]);
    apply(first, 1, theirs);
    apply(second, 2, mine);
    const commits = [commit(first, 2)];
    return areIndependent(second, commits, changesOf(commits));
  };
  const size = { type: 'setattr', ino: file, size: 10, time } as const;
  const clone = { type: 'clone', fromOffset: 0, toOffset: 0, length: 10, time } as const;
  const theirStamp = { deviceIndex: 1, counter: 1 };
  const myStamp = { deviceIndex: 2, counter: 1 };
  t.equal(ask({ ...size, stamp: theirStamp }, move(moved, left, 'moved', target)), true, 'nothing in common');
  t.equal(ask(move(above, right, 'above', below), move(moved, left, 'moved', target)), false, 'a circle');
  t.equal(
    ask(create(above, 'new', inoOf(11), S_IFDIR), move(moved, left, 'moved', target)),
    true,
    'a directory that they created is above none of ours',
  );
  t.equal(ask(move(below, moved, 'below', left), move(moved, left, 'moved', target)), false, 'both moved the same directory');
  t.equal(ask(move(above, right, 'above', left), move(moved, left, 'moved', target)), false, 'above where it went');
  t.equal(ask(move(moved, left, 'moved', rootIno), move(target, above, 'target', right)), true, 'unrelated directories');
  t.equal(ask(move(above, right, 'above', below), move(file, left, 'file', target)), true, 'moving a file closes no cycle');
  t.equal(ask({ ...size, stamp: theirStamp }, { ...clone, from: file, to: copy, stamp: myStamp }), false, 'the source of a copy');
  t.equal(ask({ ...size, stamp: theirStamp }, { ...size, stamp: myStamp }), false, 'the same file');
  t.equal(ask({ ...size, stamp: theirStamp }, { ...size, ino: copy, stamp: myStamp }), true, 'another file');
  t.equal(ask({ ...size, ino: copy, stamp: theirStamp }, { ...size, stamp: myStamp }), true);
  t.equal(ask({ ...size, stamp: theirStamp }, create(left, 'other', inoOf(10), S_IFREG)), true, 'a neighbour of the file');
  const removal: Operation = { type: 'rmdir', parent: above, name: 'target', ino: target, time };
  t.equal(ask(removal, { ...create(target, '', inoOf(10), S_IFREG), name: undefined } as Operation), false, 'the directory of a file without a name');
  t.equal(ask(create(left, 'theirs', inoOf(11), S_IFREG), create(left, 'mine', inoOf(10), S_IFREG)), false, 'one directory');
  t.end();
});
