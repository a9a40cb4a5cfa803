/**
 * Tests the layers of an open volume (src/volume/volume-state.ts): what each transition moves, and what it leaves
 * unchanged.
 */
import t from 'tap';
import type { Sequence } from '../../src/commit/sequence.js';
import { makeIno, type TreeKey } from '../../src/meta/key.js';
import { Overlay } from '../../src/operation/overlay.js';
import type { PageReference } from '../../src/pack/page-reference.js';
import type { VolumeState } from '../../src/volume/volume-state.js';
import { createFile, emptyState, makeCommit, otherDevice } from '../suite/memory-state.js';

const keyOf = (name: string): TreeKey => `Z${name}` as TreeKey;

/** An operation that sets one key; `null` deletes it. */
function set(state: VolumeState, serial: number, name: string, value: string | null): void {
  const changes = new Overlay();
  changes.set(keyOf(name), value === null ? null : Buffer.from(value));
  state.apply({ serial, operation: createFile(name, makeIno(1, serial)) }, changes, { files: 1, bytes: 10 });
}

const get = (state: VolumeState, name: string): string | undefined => {
  const value = state.view.get(keyOf(name));
  return value && Buffer.from(value).toString();
};
const serials = (state: VolumeState): number[] => state.operations.map(({ serial }) => serial);
const land = (state: VolumeState, sequence: number): void => {
  const { flight } = state;
  if (flight) state.land(sequence as Sequence, flight, []);
};
const foreign = (sequence: number, name: string, value: string) =>
  makeCommit(sequence, 'other', [[keyOf(name), Buffer.from(value)]], { files: 5, bytes: 50 });

t.test('the newest layer that mentions a key wins, and a deletion counts as a mention', async (t) => {
  const state = emptyState();
  set(state, 1, 'a', 'committed');
  state.freeze();
  land(state, 1);
  set(state, 2, 'a', 'flying');
  state.freeze();
  t.equal(get(state, 'a'), 'flying');
  set(state, 3, 'a', null);
  t.equal(get(state, 'a'), undefined);
  t.equal(Buffer.from(state.committedValue(keyOf('a')) ?? []).toString(), 'committed', 'it is not committed yet');
  t.ok(state.mentions(keyOf('a')));
});

t.test('a commit contains the operations pending when it began; later ones stay for the next', async (t) => {
  const state = emptyState();
  set(state, 1, 'a', 'first');
  set(state, 2, 'b', 'first');
  state.freeze();
  set(state, 3, 'b', 'second');
  t.equal(state.flight?.serial, 2);
  t.strictSame(
    state.flight?.mutations.map(([key]) => key),
    [keyOf('a'), keyOf('b')],
  );
  land(state, 1);
  t.strictSame(serials(state), [3]);
  t.equal(get(state, 'b'), 'second');
  t.strictSame(state.statistics, { files: 4, bytes: 30 }, 'and nothing is counted twice');
});

t.test('after a failed put everything is pending in order', async (t) => {
  const state = emptyState();
  set(state, 1, 'a', 'first');
  state.freeze();
  set(state, 2, 'a', 'second');
  state.thaw();
  t.strictSame(serials(state), [1, 2]);
  t.equal(get(state, 'a'), 'second');
  t.strictSame(state.statistics, { files: 3, bytes: 20 });
  state.freeze();
  t.equal(state.flight?.serial, 2, 'the next commit holds both');
});

t.test('commits of others are added below flying and pending operations', async (t) => {
  const state = emptyState();
  set(state, 1, 'a', 'mine');
  state.freeze();
  set(state, 2, 'b', 'mine');
  state.advance([foreign(1, 'a', 'theirs'), foreign(2, 'c', 'theirs')]);
  t.strictSame([get(state, 'a'), get(state, 'b'), get(state, 'c')], ['mine', 'mine', 'theirs']);
  t.strictSame(state.statistics, { files: 13, bytes: 120 });
  state.thaw();
});

t.test('a fold contains exactly what was committed when it began', async (t) => {
  const state = emptyState();
  state.advance([foreign(1, 'a', 'old'), foreign(2, 'b', 'old')]);
  const { changes, totals } = state.beginFold();
  state.advance([foreign(3, 'b', 'new')]);
  t.strictSame([...changes.entries()].length, 2);
  t.strictSame(totals, { files: 11, bytes: 100 }, 'its checkpoint counts what it folds');
  t.strictSame([get(state, 'a'), get(state, 'b')], ['old', 'new']);
  state.endFold(undefined, 2 as Sequence);
  t.strictSame([get(state, 'a'), get(state, 'b')], [undefined, 'new'], 'the rest is in the tree now, which is empty here');
  t.equal(state.committed.count, 1);
});

t.test('a failed fold restores its changes below those committed since', async (t) => {
  const state = emptyState();
  state.advance([foreign(1, 'a', 'old'), foreign(2, 'b', 'old')]);
  state.beginFold();
  state.advance([foreign(3, 'b', 'new')]);
  state.abandonFold();
  t.strictSame([get(state, 'a'), get(state, 'b')], ['old', 'new']);
  t.equal(state.beginFold().changes.count, 2, 'the next fold takes all of it');
});

t.test("another device's checkpoint replaces the commits it covers, but not during a fold", async (t) => {
  const root = { pack: 'pack' } as unknown as PageReference;
  const checkpoint = { root, covers: 1 as Sequence, files: 100, bytes: 1000 };
  for (const folds of [false, true]) {
    const state = emptyState();
    state.advance([foreign(1, 'a', 'covered'), foreign(2, 'b', 'after it')]);
    if (folds) state.beginFold();
    state.advance([{ ...makeCommit(3, 'other', []), checkpoint }]);
    t.equal(state.root, folds ? undefined : root);
    t.equal(get(state, 'a'), folds ? 'covered' : undefined);
    t.equal(get(state, 'b'), 'after it');
    t.equal(state.statistics.files, folds ? 11 : 105, 'it counts everything, and the commits after it are added');
  }
});

t.test('a rebase is invisible until it ends, and flying operations still fly afterwards', async (t) => {
  const state = emptyState();
  set(state, 1, 'same', 'mine');
  state.freeze();
  set(state, 2, 'moved', 'mine');
  const rebase = state.rebaseOnto([foreign(1, 'moved', 'theirs'), foreign(2, 'new', 'theirs')]);
  const [flown, waited] = [new Overlay(), new Overlay()];
  flown.set(keyOf('same'), Buffer.from('mine'));
  waited.set(keyOf('moved as well'), Buffer.from('mine'));
  rebase.add(true, [{ serial: 11, operation: createFile('same', makeIno(otherDevice, 1)) }], flown, { files: 1, bytes: 10 });
  rebase.add(false, [{ serial: 12, operation: createFile('moved', makeIno(otherDevice, 2)) }], waited, { files: 1, bytes: 10 });
  t.strictSame([get(state, 'moved'), get(state, 'new'), serials(state)], ['mine', undefined, [1, 2]]);
  t.strictSame([...rebase.changed()].toSorted(), [keyOf('moved'), keyOf('moved as well')], 'only keys with another value are changed');
  state.finishRebase(rebase);
  t.strictSame([get(state, 'moved'), get(state, 'new'), serials(state)], ['theirs', 'theirs', [11, 12]]);
  t.equal(state.flight?.serial, 11);
});
