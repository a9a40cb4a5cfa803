/**
 * Tests the conflict rules (src/operation/rebase-rules.ts, doc/conflicts.md): each by itself, then devices at random.
 */
import t, { type Test } from 'tap';
import { PageFault } from '../../src/base/page-fault.js';
import { isRegular, S_IFDIR, S_IFMT, S_IFREG } from '../../src/meta/inode.js';
import { type Ino, makeIno, rootIno } from '../../src/meta/key.js';
import { conflictName } from '../../src/operation/conflict-name.js';
import { lookup, readInode } from '../../src/operation/inode-view.js';
import { type Operation, OperationError } from '../../src/operation/operation.js';
import { execute, recordBase } from '../../src/operation/operation-execute.js';
import { type Conflict, executeRebased, RebaseState } from '../../src/operation/rebase-rules.js';
import { readFile } from '../suite/fake-content.js';
import { emptyVolume, MemoryView, treeProblems } from '../suite/memory-view.js';
import { allEntries, RandomApplications } from '../suite/random-operation.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const time = { sec: 1_704_067_200, nsec: 0 };

/** A device with operations that are not in the log yet. */
class Device {
  readonly view: MemoryView;
  readonly index: number;
  operations: Operation[] = [];
  #inos = 0;
  #stamps = 0;

  constructor(base: MemoryView, index: number) {
    this.view = base.copy();
    this.index = index;
  }

  /** Runs an operation as a volume does; false if it failed. */
  apply(operation: Operation): boolean {
    const complete = recordBase(this.view, operation);
    try {
      execute(this.view, complete, this.index);
    } catch (error) {
      if (error instanceof OperationError) return false;
      throw error;
    }
    this.operations.push(complete);
    return true;
  }

  create(path: string, mode = S_IFREG | 0o644): Ino {
    const { parent, name } = this.place(path);
    const ino = makeIno(this.index, 1000 + ++this.#inos);
    const ok = this.apply({ type: 'create', parent, name, ino, mode, uid: 0, gid: 0, rdev: 0, target: undefined, xattrs: [], time });
    if (!ok) throw new Error(`cannot create ${path}`);
    return ino;
  }

  mkdir(path: string): Ino {
    return this.create(path, S_IFDIR | 0o755);
  }

  put(path: string, text: string): Ino {
    const ino = this.inoOf(path) ?? this.create(path);
    const content = Buffer.from(text);
    const stamps = {
      stamp: { deviceIndex: this.index, counter: 1000 + ++this.#stamps },
      baseStamp: readInode(this.view, ino)?.stamp ?? { deviceIndex: 0, counter: 0 },
    };
    this.apply({ type: 'inline', ino, content, size: content.byteLength, mtime: time, ...stamps, upTo: 0 });
    return ino;
  }

  remove(path: string): void {
    const { parent, name } = this.place(path);
    const entry = lookup(this.view, parent, name);
    if (!entry || !this.apply({ type: entry.type === S_IFDIR ? 'rmdir' : 'unlink', parent, name, ino: entry.ino, time }))
      throw new Error(`cannot remove ${path}`);
  }

  reclaim(ino: Ino): void {
    this.apply({ type: 'reclaim', ino });
  }

  move(from: string, to: string, flags = 0): void {
    const source = this.place(from);
    const target = this.place(to);
    const ino = lookup(this.view, source.parent, source.name)?.ino as Ino;
    const replacedIno = lookup(this.view, target.parent, target.name)?.ino;
    const places = { ...source, newParent: target.parent, newName: target.name };
    if (!this.apply({ type: 'rename', ...places, flags, ino, replacedIno, whiteoutIno: undefined, time })) throw new Error(`cannot move ${from}`);
  }

  link(from: string, to: string): void {
    const number = makeIno(this.index, 1000 + ++this.#inos);
    if (!this.apply({ type: 'link', ino: this.inoOf(from) as Ino, ...this.place(to), number, time })) throw new Error(`cannot link ${from}`);
  }

  inoOf(path: string): Ino | undefined {
    return allEntries(this.view).find((entry) => entry.path === path)?.ino;
  }

  place(path: string): { parent: Ino; name: string } {
    const cut = path.lastIndexOf('/');
    return { parent: cut === 0 ? rootIno : (this.inoOf(path.slice(0, cut)) as Ino), name: path.slice(cut + 1) };
  }
}

interface Rebased {
  readonly view: MemoryView;
  readonly effective: Operation[];
  readonly conflicts: Conflict[];
}

/** Runs the device's operations on `base`. `faults`: how likely a read is a page fault. */
function rebase(
  device: { view: MemoryView; index: number; operations: readonly Operation[] },
  base: MemoryView,
  faults?: SeededRandom,
  inosFrom = 2 ** 30,
): Rebased {
  const state = new RebaseState();
  const conflicts: Conflict[] = [];
  let inos = 0;
  const oldView = device.view.copy();
  const context = {
    deviceIndex: device.index,
    deviceName: 'laptop',
    oldView,
    allocateIno: () => makeIno(device.index, inosFrom + ++inos),
    state,
    conflicts,
  };
  const effective: Operation[] = [];
  let view = base.copy();
  for (const operation of device.operations) {
    for (let attempt = 0; ; attempt++) {
      const transaction = view.copy();
      // Faults become rarer and rarer, so that long operations succeed.
      const rarity = 10 * 2 ** Math.min(attempt, 12);
      if (faults) transaction.faults = oldView.faults = () => faults.below(rarity) === 0;
      try {
        const result = executeRebased(transaction, operation, context);
        effective.push(...result.effective);
        transaction.faults = () => false;
        view = transaction;
        break;
      } catch (error) {
        if (!(error instanceof PageFault)) throw error;
      }
    }
  }
  return { view, effective, conflicts };
}

const paths = (view: MemoryView): string[] =>
  allEntries(view)
    .map((entry) => entry.path)
    .toSorted();
const text = (view: MemoryView, path: string): string => {
  const ino = allEntries(view).find((entry) => entry.path === path)?.ino;
  return ino === undefined ? `no ${path}` : Buffer.from(readFile(view, ino)).toString();
};
const codes = (rebased: Rebased): string[] => rebased.conflicts.map((conflict) => conflict.code);

/** Two devices start from the result of `prepare`; `theirs` is in the log first, `mine` is rebased onto it. */
function meet(t: Test, prepare: (device: Device) => void, theirs: (device: Device) => void, mine: (device: Device) => void): Rebased {
  const common = new Device(emptyVolume(), 0);
  prepare(common);
  const first = new Device(common.view, 1);
  theirs(first);
  const second = new Device(common.view, 2);
  mine(second);
  const rebased = rebase(second, first.view);
  t.same(treeProblems(rebased.view), []);
  const replayed = first.view.copy();
  for (const operation of rebased.effective) execute(replayed, operation, 2);
  t.equal(replayed.fingerprint(), rebased.view.fingerprint(), 'the executed operations give the same tree without the rules');
  return rebased;
}

const nothing = (): void => {};
const mark = '(conflict laptop 2024-01-01)';

void t.test('operations on different files all take effect unchanged', (t) => {
  const rebased = meet(
    t,
    (c) => c.put('/old', 'old'),
    (a) => a.put('/a', 'A'),
    (b) => {
      b.mkdir('/dir');
      b.put('/dir/b', 'B');
      b.move('/old', '/dir/old');
    },
  );
  t.same(paths(rebased.view), ['/a', '/dir', '/dir/b', '/dir/old']);
  t.same(rebased.conflicts, []);
  t.end();
});

void t.test('names keep their places in listings when they are made, linked, renamed and exchanged again', (t) => {
  let view: MemoryView | undefined;
  const rebased = meet(
    t,
    (c) => ['/old', '/replaced', '/left', '/right'].map((path) => c.put(path, path)),
    (a) => a.put('/theirs', 'theirs'),
    (b) => {
      b.mkdir('/dir');
      b.move('/old', '/dir/old');
      b.link('/left', '/dir/linked');
      b.put('/new', 'new');
      b.move('/new', '/replaced');
      b.move('/left', '/right', 2);
      ({ view } = b);
    },
  );
  const numbers = (of: MemoryView, among: readonly string[]): (readonly [string, number | undefined])[] =>
    allEntries(of)
      .filter(({ path }) => among.includes(path))
      .map(({ path, parent, name }) => [path, lookup(of, parent, name)?.number] as const);
  const mine = paths(view as MemoryView);
  t.equal(mine.length, 6);
  t.strictSame(numbers(rebased.view, mine), numbers(view as MemoryView, mine));
  t.end();
});

void t.test('a file that comes back does not take the place of the one that replaced it', (t) => {
  for (const isFreed of [false, true]) {
    const replace = (device: Device): void => {
      const ino = device.inoOf('/f') as Ino;
      device.put('/draft', 'theirs');
      device.move('/draft', '/f');
      if (isFreed) device.reclaim(ino);
    };
    const rebased = meet(
      t,
      (c) => c.put('/f', 'old'),
      replace,
      (b) => b.put('/f', 'mine'),
    );
    t.strictSame(paths(rebased.view), [`/f`, `/f ${mark}`], `freed: ${isFreed}`);
    t.equal(text(rebased.view, '/f'), 'theirs');
    t.equal(text(rebased.view, `/f ${mark}`), 'mine');
  }
  t.end();
});

void t.test('the later of two files with one name gets a conflict name, and later operations on it follow', (t) => {
  const rebased = meet(
    t,
    nothing,
    (a) => a.put('/n.txt', 'theirs'),
    (b) => b.put('/n.txt', 'mine'),
  );
  t.equal(text(rebased.view, '/n.txt'), 'theirs');
  t.equal(text(rebased.view, `/n ${mark}.txt`), 'mine');
  t.same(codes(rebased), ['renamed']);

  const moved = meet(
    t,
    nothing,
    (a) => a.put('/n.txt', 'theirs'),
    (b) => {
      b.put('/n.txt', 'mine');
      b.move('/n.txt', '/m.txt');
      b.put('/gone', 'x');
      b.remove('/gone');
    },
  );
  t.same(paths(moved.view), ['/m.txt', '/n.txt']);
  t.equal(text(moved.view, '/m.txt'), 'mine');
  t.end();
});

void t.test('two directories with one name are merged', (t) => {
  const rebased = meet(
    t,
    nothing,
    (a) => {
      a.mkdir('/d');
      a.put('/d/a', 'A');
      a.put('/d/same', 'A');
    },
    (b) => {
      b.mkdir('/d');
      b.put('/d/b', 'B');
      b.put('/d/same', 'B');
      b.mkdir('/d/sub');
      b.put('/d/sub/c', 'C');
    },
  );
  t.same(paths(rebased.view), ['/d', '/d/a', '/d/b', '/d/same', `/d/same ${mark}`, '/d/sub', '/d/sub/c']);
  t.same(codes(rebased), ['merged', 'renamed']);
  t.end();
});

void t.test('renaming my new directory does not rename theirs of the same name', (t) => {
  const rebased = meet(
    t,
    nothing,
    (a) => {
      a.mkdir('/New');
      a.put('/New/a', 'A');
    },
    (b) => {
      b.mkdir('/New');
      b.move('/New', '/mine');
      b.put('/mine/b', 'B');
    },
  );
  t.same(paths(rebased.view), ['/New', '/New/a', '/mine', '/mine/b']);
  t.end();
});

void t.test('a file changed on both devices is kept twice', (t) => {
  const rebased = meet(
    t,
    (c) => c.put('/f', 'base'),
    (a) => a.put('/f', 'theirs'),
    (b) => {
      b.put('/f', 'draft');
      b.put('/f', 'mine');
    },
  );
  t.same(paths(rebased.view), ['/f', `/f ${mark}`]);
  t.equal(text(rebased.view, '/f'), 'theirs');
  t.equal(text(rebased.view, `/f ${mark}`), 'mine');
  t.same(codes(rebased), ['copied']);
  t.end();
});

void t.test('a file replaced on both devices is kept twice', (t) => {
  const save = (device: Device, content: string): void => {
    device.put('/.tmp', content);
    device.move('/.tmp', '/doc.txt');
  };
  const rebased = meet(
    t,
    (c) => c.put('/doc.txt', 'base'),
    (a) => save(a, 'theirs'),
    (b) => save(b, 'mine'),
  );
  t.equal(text(rebased.view, '/doc.txt'), 'theirs');
  t.equal(text(rebased.view, `/doc ${mark}.txt`), 'mine');
  const edited = meet(
    t,
    (c) => c.put('/doc.txt', 'base'),
    (a) => a.put('/doc.txt', 'theirs'),
    (b) => save(b, 'mine'),
  );
  t.equal(text(edited.view, '/doc.txt'), 'theirs');
  t.equal(text(edited.view, `/doc ${mark}.txt`), 'mine');
  t.end();
});

void t.test('edit beats delete, whichever came first', (t) => {
  const kept = meet(
    t,
    (c) => c.put('/f', 'base'),
    (a) => a.put('/f', 'theirs'),
    (b) => b.remove('/f'),
  );
  t.equal(text(kept.view, '/f'), 'theirs');
  t.same(codes(kept), ['kept']);
  for (const gone of [false, true]) {
    const restored = meet(
      t,
      (c) => c.put('/f', 'base'),
      (a) => {
        const ino = a.inoOf('/f') as Ino;
        a.remove('/f');
        if (gone) a.reclaim(ino);
      },
      (b) => b.put('/f', 'mine'),
    );
    t.equal(text(restored.view, '/f'), 'mine', gone ? 'reclaimed' : 'an orphan');
    t.same(codes(restored), ['restored']);
  }
  const both = meet(
    t,
    (c) => c.put('/f', 'base'),
    (a) => a.remove('/f'),
    (b) => b.remove('/f'),
  );
  t.same(paths(both.view), []);
  t.same(both.conflicts, []);
  t.end();
});

void t.test('a directory removed elsewhere is created again for files I put into it', (t) => {
  for (const gone of [false, true]) {
    const rebased = meet(
      t,
      (c) => {
        c.mkdir('/d');
        c.mkdir('/d/e');
      },
      (a) => {
        const inos = [a.inoOf('/d/e') as Ino, a.inoOf('/d') as Ino];
        a.remove('/d/e');
        a.remove('/d');
        if (gone) for (const ino of inos) a.reclaim(ino);
      },
      (b) => b.put('/d/e/f', 'mine'),
    );
    t.same(paths(rebased.view), ['/d', '/d/e', '/d/e/f']);
    t.same(codes(rebased), ['restored', 'restored']);
  }
  const again = meet(
    t,
    (c) => c.mkdir('/d'),
    (a) => {
      a.remove('/d');
      a.mkdir('/d');
      a.put('/d/a', 'A');
    },
    (b) => b.put('/d/f', 'mine'),
  );
  t.same(paths(again.view), ['/d', '/d/a', '/d/f']);
  const passing = meet(
    t,
    (c) => c.mkdir('/d'),
    (a) => a.remove('/d'),
    (b) => {
      b.put('/d/f', 'mine');
      b.move('/d/f', '/f');
      b.remove('/d');
    },
  );
  t.same(paths(passing.view), ['/f', '/lost+found']);
  t.end();
});

void t.test('a directory that was filled elsewhere is not removed', (t) => {
  const rebased = meet(
    t,
    (c) => c.mkdir('/d'),
    (a) => a.put('/d/f', 'A'),
    (b) => b.remove('/d'),
  );
  t.same(paths(rebased.view), ['/d', '/d/f']);
  t.same(codes(rebased), ['kept']);
  t.end();
});

void t.test('the first of two moves of a file wins', (t) => {
  const rebased = meet(
    t,
    (c) => c.put('/f', 'base'),
    (a) => a.move('/f', '/theirs'),
    (b) => {
      b.move('/f', '/mine');
      b.put('/mine', 'edited');
    },
  );
  t.same(paths(rebased.view), ['/theirs']);
  t.equal(text(rebased.view, '/theirs'), 'edited');
  t.same(codes(rebased), ['dropped']);
  t.end();
});

void t.test('the later of two moves that would form a cycle is dropped', (t) => {
  const rebased = meet(
    t,
    (c) => {
      c.mkdir('/a');
      c.mkdir('/b');
    },
    (a) => a.move('/a', '/b/a'),
    (b) => b.move('/b', '/a/b'),
  );
  t.same(paths(rebased.view), ['/b', '/b/a']);
  t.same(codes(rebased), ['dropped']);
  t.end();
});

void t.test('the later of two chmods wins, and one on a removed file is dropped', (t) => {
  const mode = (device: Device, bits: number): void => {
    device.apply({ type: 'setattr', ino: device.inoOf('/f') as Ino, mode: bits, time });
  };
  const rebased = meet(
    t,
    (c) => c.put('/f', 'base'),
    (a) => mode(a, 0o600),
    (b) => mode(b, 0o640),
  );
  t.equal(readInode(rebased.view, allEntries(rebased.view)[0]!.ino)?.mode, S_IFREG | 0o640);
  const gone = meet(
    t,
    (c) => c.put('/f', 'base'),
    (a) => {
      const ino = a.inoOf('/f') as Ino;
      a.remove('/f');
      a.reclaim(ino);
    },
    (b) => mode(b, 0o640),
  );
  t.same(paths(gone.view), []);
  t.end();
});

void t.test('a copy of a file that they changed keeps the bytes I copied', (t) => {
  const rebased = meet(
    t,
    (c) => c.put('/from', 'base'),
    (a) => a.put('/from', 'theirs'),
    (b) => {
      const to = b.create('/to');
      const stamp = { deviceIndex: 2, counter: 1 };
      b.apply({ type: 'clone', from: b.inoOf('/from') as Ino, fromOffset: 0, to, toOffset: 0, length: 100, stamp, time });
    },
  );
  t.equal(text(rebased.view, '/to'), 'base');
  t.equal(text(rebased.view, '/from'), 'theirs');
  t.end();
});

void t.test('only the device that holds an orphan frees it', (t) => {
  let ino: Ino | undefined;
  const rebased = meet(
    t,
    (c) => {
      ino = c.put('/f', 'base');
    },
    (a) => a.remove('/f'),
    (b) => {
      b.remove('/f');
      b.reclaim(ino as Ino);
    },
  );
  t.ok(readInode(rebased.view, ino as Ino), 'it may still be open on the other device');
  t.end();
});

void t.test('content written during a rebase follows its file into the conflict copy', (t) => {
  const common = new Device(emptyVolume(), 0);
  const ino = common.put('/f', 'base');
  const first = new Device(common.view, 1);
  first.put('/f', 'theirs');
  const second = new Device(common.view, 2);
  second.put('/f', 'early');
  const view = first.view.copy();
  const state = new RebaseState();
  const conflicts: Conflict[] = [];
  const context = { deviceIndex: 2, deviceName: 'laptop', oldView: second.view, allocateIno: () => makeIno(2, 7), state, conflicts };
  executeRebased(view, second.operations[0]!, context);
  t.match(
    conflicts,
    [{ code: 'copied', copy: { ino, copy: makeIno(2, 7), name: 'f', isLinked: false } }],
    'applications that have it open can follow',
  );
  t.equal(text(view, `/f ${mark}`), 'early');
  second.put('/f', 'late');
  executeRebased(view, second.operations[1]!, context);
  t.equal(text(view, `/f ${mark}`), 'late');
  t.equal(text(view, '/f'), 'theirs');
  t.end();
});

void t.test('a conflict name keeps the extension, fits into 255 bytes and cuts no character', (t) => {
  const day = { sec: 1_704_067_200, nsec: 0 };
  t.equal(conflictName('a.tar', 'x/y', day, false, 1), 'a (conflict x_y 2024-01-01).tar');
  t.equal(conflictName('v1.2', 'pc', day, true, 1), 'v1.2 (conflict pc 2024-01-01)');
  t.equal(conflictName('.profile', 'pc', day, false, 2), '.profile (conflict pc 2024-01-01 2)');
  const hostile = `..\u202e\u009b31m\n/${'é'.repeat(60)}`;
  const made = Buffer.from(conflictName('a.txt', hostile, day, false, 1), 'latin1').toString('utf8');
  t.equal(made, `a (conflict __31m__${'é'.repeat(20)} 2024-01-01).txt`, 'a hostile name of a device is harmless and short');
  for (let length = 70; length <= 127; length++) {
    const name = Buffer.from('x'.repeat(length % 2) + 'é'.repeat(length))
      .toString('latin1')
      .slice(0, 250 + (length % 2));
    const made = conflictName(name, 'pc', day, false, 1);
    t.ok(made.length <= 255);
    const decoder = new TextDecoder('utf-8', { fatal: true });
    t.doesNotThrow(() => decoder.decode(Buffer.from(made, 'latin1')));
  }
  t.end();
});

/** The content of every file that has a name, as text, by the stamp of its writer. */
function liveContents(view: MemoryView): Map<string, { readonly content: string; readonly ino: Ino }> {
  const found = new Map<string, { content: string; ino: Ino }>();
  for (const { ino } of allEntries(view)) {
    const inode = readInode(view, ino);
    if (inode && isRegular(inode))
      found.set(`${ino}:${inode.stamp.deviceIndex}.${inode.stamp.counter}`, { content: Buffer.from(readFile(view, ino)).toString('hex'), ino });
  }
  return found;
}

/** Content that `device` wrote since `base` and that still has a name there must have a name in `result`. */
function lostContents(base: MemoryView, device: MemoryView, result: MemoryView): string[] {
  const before = liveContents(base);
  const after = new Set([...liveContents(result).values()].map((file) => file.content));
  const lost: string[] = [];
  for (const [version, { content }] of liveContents(device)) if (!before.has(version) && !after.has(content)) lost.push(version);
  return lost;
}

/** Files, links and the like that have a name in both views, or are new in one, must have a name in `result`. */
function lostInodes(base: MemoryView, theirs: MemoryView, mine: MemoryView, result: MemoryView): Ino[] {
  const inosOf = (view: MemoryView): Set<Ino> => new Set(allEntries(view).map((entry) => entry.ino));
  const [before, first, second, after] = [base, theirs, mine, result].map(inosOf);
  // A directory may have been merged into another one of its name.
  const isDir = (ino: Ino): boolean => [theirs, mine].some((view) => ((readInode(view, ino)?.mode ?? 0) & S_IFMT) === S_IFDIR);
  const wanted = [...first!, ...second!].filter((ino) => !before!.has(ino) || (first!.has(ino) && second!.has(ino)));
  return wanted.filter((ino) => !after!.has(ino) && !isDir(ino));
}

function runAtRandom(applications: RandomApplications, device: Device, count: number): void {
  for (let step = 0; step < count; step++) {
    const operation = applications.next(device.view);
    if (operation) device.apply(operation);
  }
}

void t.test('random work of three devices loses no content, keeps the tree valid and merges deterministically', (t) => {
  const seed = testSeed();
  const random = new SeededRandom(seed);
  const rounds = Number(process.env['TEST_ROUNDS'] ?? 300);
  for (let round = 0; round < rounds; round++) {
    const say = (what: string): string => `seed ${seed}, round ${round}: ${what}`;
    const common = new Device(emptyVolume(), 0);
    runAtRandom(new RandomApplications(0, random), common, 5 + random.below(25));
    const base = common.view;
    const first = new Device(base, 1);
    runAtRandom(new RandomApplications(1, random), first, 1 + random.below(15));
    const second = new Device(base, 2);
    runAtRandom(new RandomApplications(2, random), second, 1 + random.below(15));
    for (const device of [common, first, second]) {
      const problems = treeProblems(device.view);
      if (problems.length > 0) t.fail(say(`device ${device.index}: ${problems.join('; ')}`));
    }

    const check = (
      device: { view: MemoryView; index: number; operations: readonly Operation[] },
      onto: MemoryView,
      from: MemoryView,
      inosFrom: number,
    ): Rebased => {
      const rebased = rebase(device, onto, undefined, inosFrom);
      const problems = treeProblems(rebased.view);
      if (problems.length > 0) t.fail(say(problems.join('; ')));
      const mine = lostContents(from, device.view, rebased.view);
      if (mine.length > 0) t.fail(say(`device ${device.index} loses its own ${mine.join(' ')}`));
      const theirs = lostContents(from, onto, rebased.view);
      if (theirs.length > 0) t.fail(say(`device ${device.index} overwrites ${theirs.join(' ')}`));
      const inodes = lostInodes(from, onto, device.view, rebased.view);
      if (inodes.length > 0) t.fail(say(`device ${device.index} loses ${inodes.join(' ')}`));
      if (rebase(device, onto, new SeededRandom(round), inosFrom).view.fingerprint() !== rebased.view.fingerprint())
        t.fail(say('page faults change the outcome'));
      const replayed = onto.copy();
      for (const operation of rebased.effective) execute(replayed, operation, device.index);
      if (replayed.fingerprint() !== rebased.view.fingerprint()) t.fail(say('the effective operations give another tree'));
      return rebased;
    };
    const once = check(second, first.view, base, 2 ** 30);

    // A third device wins the next race too: the results of the first rebase are rebased again.
    const third = new Device(first.view, 3);
    runAtRandom(new RandomApplications(3, random), third, 1 + random.below(10));
    check({ view: once.view, index: 2, operations: once.effective }, third.view, first.view, 2 ** 31);
  }
  t.pass(`seed ${seed}`);
  t.end();
});
