/** The simulated sync client does what it is said to do: otherwise the policies would be compared in fair weather. */
import t from 'tap';
import { SeededRandom } from '../model/seeded-random.js';
import { type ConflictRule, type FileObject, SyncedFolders } from './synced-folders.js';
import { Tally } from './tally.js';

function twoFolders(conflicts: ConflictRule, pieces = 0) {
  const sync = new SyncedFolders({ folders: 2, conflicts, pieces, random: new SeededRandom(1), tally: new Tally() });
  const [a, b] = sync.folders;
  if (!a || !b) throw new RangeError('there are two folders');
  return { sync, a, b };
}

const pack = (id: number): FileObject => ({ kind: 'pack', id });
const [first, second] = [pack(1), pack(2)];

void t.test('a file arrives, changes and disappears, also through a link that was cut', async (t) => {
  const { sync, a, b } = twoFolders('newest');
  sync.setLink(0, 1, false);
  a.putIfAbsent('x', first);
  sync.finish();
  t.equal(b.get('x'), undefined);
  sync.setLink(0, 1, true);
  sync.finish();
  t.equal(b.get('x'), first);
  b.change('x', second);
  sync.finish();
  t.equal(a.get('x'), second);
  a.change('x', undefined);
  sync.finish();
  t.equal(b.get('x'), undefined);
  t.same([...b.names('')], []);
});

void t.test('a file that arrives in pieces is there, cannot be read, and cannot be put', async (t) => {
  const { sync, a, b } = twoFolders('newest', 1);
  a.putIfAbsent('x', first);
  while (b.get('x') === undefined) sync.run(1);
  t.equal(b.get('x'), 'part');
  t.notOk(b.putIfAbsent('x', second));
  sync.finish();
  t.equal(b.get('x'), first);
});

void t.test('put-if-absent holds within one folder only', async (t) => {
  const { sync, a, b } = twoFolders('newest');
  t.ok(a.putIfAbsent('x', first));
  t.notOk(a.putIfAbsent('x', second));
  t.ok(b.putIfAbsent('x', second));
  sync.finish();
  t.equal(a.get('x'), b.get('x'));
});

void t.test('of two versions, the newest stays and the other one is renamed', async (t) => {
  const { sync, a, b } = twoFolders('newest');
  sync.now = 1;
  b.putIfAbsent('x', second);
  sync.now = 2;
  a.putIfAbsent('x', first);
  sync.finish();
  for (const folder of [a, b]) {
    t.equal(folder.get('x'), first);
    t.same(
      [...folder.names('x.')].map((name) => folder.get(name)),
      [second],
    );
  }
});

void t.test('of two versions, one stays and the other one is renamed or deleted, whatever their times', async (t) => {
  const kept = new Set<unknown>();
  for (const conflicts of ['random', 'drop'] as const) {
    for (let id = 10; id < 20; id++) {
      const { sync, a, b } = twoFolders(conflicts);
      const other = pack(id);
      a.putIfAbsent('x', first);
      sync.now = 1;
      b.putIfAbsent('x', other);
      sync.finish();
      t.equal(a.get('x'), b.get('x'));
      kept.add(a.get('x') === first);
      t.equal([...a.names('')].length, conflicts === 'drop' ? 1 : 2);
      t.same([...a.names('')].toSorted(), [...b.names('')].toSorted());
    }
  }
  t.equal(kept.size, 2, 'now one, now the other');
});

void t.test('a change wins over a deletion', async (t) => {
  const { sync, a, b } = twoFolders('drop');
  a.putIfAbsent('x', first);
  sync.finish();
  a.change('x', undefined);
  b.change('x', second);
  sync.finish();
  t.equal(a.get('x'), second);
  t.equal(b.get('x'), second);
});
