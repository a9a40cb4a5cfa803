/**
 * Tests how commits of others become part of the state (src/volume/arrival.ts): at once, or below operations that are
 * run again.
 */
import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { encodeInode } from '../../src/meta/inode.js';
import { type Ino, inodeKey, makeIno, rootIno } from '../../src/meta/key.js';
import { readInode } from '../../src/operation/inode-view.js';
import type { Operation } from '../../src/operation/operation.js';
import { Arrival, type ArrivalOptions } from '../../src/volume/arrival.js';
import { FrontEnds } from '../../src/volume/front-ends.js';
import { type BaseReset, decodeJournalEntry, encodeBaseEntry } from '../../src/volume/journal-entry.js';
import type { PendingOperation } from '../../src/volume/pending-layers.js';
import type { ChangeListener } from '../../src/volume/volume-change.js';
import { commitOf, createFile, emptyState, hasName, makeCommit, otherDevice, ownDevice, rebaseContextOf, run } from '../suite/memory-state.js';

/** An arrival around a state in memory. `said` is what listener and journal were told, in order. */
function begin() {
  const state = emptyState();
  const said: string[] = [];
  const counters = { deviceIndex: ownDevice, nextIno: 100, serial: 0 };
  const own = { operationSerial: 0 };
  const scene = { dirty: [] as Ino[], seal: async () => {}, collected: () => true, collect: async () => {} };
  const frontEnds = new FrontEnds(silentLogger);
  const listener: ChangeListener = {
    collect: async () => {
      said.push('collect');
      await scene.collect();
      return true;
    },
    isCollected: () => scene.collected(),
    hold: () => said.push('hold'),
    changed: () => said.push('changed'),
    done: () => said.push('done'),
    isUsed: () => false,
  };
  frontEnds.listen({}, listener);
  const note = (bytes: Uint8Array): void => {
    const entry = decodeJournalEntry(bytes);
    said.push(entry.type === 'base' && entry.reset !== 'none' ? 'reset' : entry.type);
  };
  const options = {
    state,
    log: {
      deviceId: 'me',
      deviceIndex: ownDevice,
      mustEnrol: false,
      landedSerial: 0,
      members: [],
      own,
      isSettled: ({ serial }: PendingOperation) => serial <= own.operationSerial,
    },
    staging: { committed: () => {} },
    journal: { failure: undefined, append: note, appendBatch: (entries: readonly Uint8Array[]) => entries.forEach(note) },
    writer: { inos: () => scene.dirty.values(), sealAll: () => scene.seal() },
    counters,
    logger: silentLogger,
    readOnly: false,
    rebaseContext: () => rebaseContextOf(state, counters),
    frontEnds,
    baseEntry: (committedSerial: number, reset: BaseReset) =>
      encodeBaseEntry({
        sequence: 0,
        hash: new Uint8Array(32),
        covers: 0,
        root: undefined,
        committedSerial,
        deviceIndex: counters.deviceIndex,
        nextInoCounter: counters.nextIno,
        counter: counters.serial,
        reset,
        packs: [],
        landed: new Map(),
      }),
  };
  const create = (name: string): void => run(state, ++counters.serial, createFile(name, makeIno(ownDevice, ++counters.nextIno)));
  return { state, said, scene, own, counters, create, arrival: new Arrival(options as unknown as ArrivalOptions) };
}

const theirFile = makeIno(otherDevice, 5);
/** Another device creates a file in the root, so pending operations there must be run again. */
const near = commitOf(1, 'other', [createFile('theirs', theirFile)], true);
/** Another device changes an inode that nothing here depends on. */
const root = readInode(emptyState().view, rootIno);
const far = makeCommit(1, 'other', root ? [[inodeKey(theirFile), encodeInode(root)]] : []);

t.test('commits of others that touch no pending operation run nothing again', async (t) => {
  const { state, said, create, arrival } = begin();
  create('mine');
  arrival.add([far]);
  await arrival.takeIn();
  t.strictSame(said, ['collect', 'base', 'changed', 'done']);
  t.strictSame(
    state.operations.map(({ serial }) => serial),
    [1],
  );
  t.ok(readInode(state.view, theirFile));
});

t.test('operations in the same directory are run again and count in the journal only from its last entry on', async (t) => {
  const { state, said, create, arrival } = begin();
  create('one');
  create('two');
  arrival.add([near]);
  await arrival.takeIn();
  t.strictSame(said, ['collect', 'moved', 'moved', 'reset', 'changed', 'done']);
  t.strictSame(
    ['one', 'two', 'theirs'].map((name) => hasName(state, name)),
    [true, true, true],
  );
  t.strictSame(
    state.operations.map(({ serial }) => serial),
    [1, 2],
    'under their names, which a rebase does not change',
  );
});

t.test('operations are no longer pending when their commit comes back from the log', async (t) => {
  const { state, own, counters, create, arrival } = begin();
  const chown: Operation = { type: 'setattr', ino: rootIno, uid: 5, time: { sec: 9, nsec: 0 } };
  run(state, ++counters.serial, chown);
  create('not yet');
  own.operationSerial = 1;
  arrival.add([{ ...commitOf(1, 'me', [chown], true), operationSerial: 1, nextInoCounter: 500 }]);
  await arrival.takeIn();
  t.strictSame(
    state.operations.map(({ operation }) => operation.type),
    ['create'],
  );
  t.equal(readInode(state.view, rootIno)?.uid, 5);
  t.ok(hasName(state, 'not yet'));
});

t.test('counters continue after the values in an own commit even if a crash lost them', async (t) => {
  const { counters, arrival } = begin();
  arrival.add([{ ...makeCommit(1, 'me', []), operationSerial: 70, nextInoCounter: 500 }]);
  await arrival.takeIn();
  t.strictSame(counters, { deviceIndex: ownDevice, nextIno: 500, serial: 70 });
});

t.test('changes made while operations are run again are not lost', async (t) => {
  const { state, scene, create, arrival } = begin();
  create('before');
  let rounds = 0;
  scene.seal = async () => {
    if (rounds++ === 0) setImmediate(() => create('meanwhile'));
    await new Promise((resolve) => setImmediate(resolve));
  };
  arrival.add([near]);
  const taken = arrival.takeIn();
  create('at once');
  await taken;
  for (const name of ['before', 'at once', 'meanwhile', 'theirs']) t.ok(hasName(state, name), name);
});

t.test('a change of a file waits until the kernel has written it back, but not forever', async (t) => {
  for (const rounds of [2, Infinity]) {
    const { said, scene, arrival } = begin();
    let count = 0;
    scene.collect = async () => {
      count++;
    };
    scene.collected = () => count >= rounds;
    arrival.add([far]);
    await arrival.takeIn();
    t.equal(count, Math.min(rounds, 4));
    t.strictSame(said.slice(count), ['base', 'changed', 'done']);
  }
});

t.test('a writer that never pauses is held until a change of its file has been taken in', async (t) => {
  const { said, scene, create, arrival } = begin();
  create('mine');
  scene.dirty = [theirFile];
  let seals = 0;
  scene.seal = async () => {
    if (++seals === 2) scene.dirty = [];
  };
  arrival.add([near]);
  await arrival.takeIn();
  t.strictSame(said, ['collect', 'collect', 'hold', 'moved', 'reset', 'changed', 'done']);
});

t.test('commits that could not be taken in are retried later, and writers do not wait meanwhile', async (t) => {
  const { state, said, scene, create, arrival } = begin();
  create('mine');
  scene.seal = () => Promise.reject(new Error('the disk is full'));
  arrival.add([near]);
  await t.rejects(arrival.takeIn(), { message: 'the disk is full' });
  t.strictSame(said, ['collect', 'done']);
  t.notOk(hasName(state, 'theirs'));
  scene.seal = async () => {};
  await arrival.takeIn();
  t.ok(hasName(state, 'theirs'));
  await arrival.takeIn();
  t.equal(said.filter((what) => what === 'changed').length, 1, 'and only once');
});
