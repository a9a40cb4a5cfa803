/**
 * Tests what the journal means after a power failure took the content of an operation, even if a rebase had repeated it
 * under another serial (doc/concurrency.md, "Replay").
 */
import t from 'tap';
import type { Plaintext } from '../../src/base/brand.js';
import type { JournalEntry } from '../../src/journal/journal.js';
import { S_IFREG } from '../../src/meta/inode.js';
import { counterOf, firstCounter, type Ino, makeIno, rootIno } from '../../src/meta/key.js';
import { type BaseReset, encodeBaseEntry, encodeDirtyEntry, encodeMovedEntry, encodeOperationEntry } from '../../src/volume/journal-entry.js';
import type { Remembered } from '../../src/volume/replay.js';
import { readJournal, replayContent, replayOperations, withoutLost } from '../../src/volume/replay.js';
import { createFile, emptyState, otherDevice, ownDevice } from '../suite/memory-state.js';

type Operation = Remembered['operations'][number]['operation'];
type Remembrance = Remembered['operations'][number];

const ino = makeIno(1, 5);
const write = (pack: string): Operation =>
  ({ type: 'write', ino, pieces: [{ offset: 0, extent: { kind: 'data', length: 3000, skip: 0, pack, packOffset: 0, chunks: [] } }] }) as never;
const mkdir = { type: 'create' } as never as Operation;
const at = (position: number, serial: number, operation: Operation): Remembrance => ({ position, serial, operation });

t.test('data that a lost operation had sealed is dirty again', (t) => {
  const operations = [at(2, 7, mkdir), at(3, 8, write('lost'))];
  const left = withoutLost({ operations, writes: [at(3, 8, write('lost'))], lost: [] }, 8, 6);
  t.same(left, { operations: operations.slice(0, 1), writes: [], lost: [{ from: 3, to: 6 }] });
  t.end();
});

t.test('data is dirty again even if a rebase repeated the lost operation under another serial', (t) => {
  const writes = [at(3, 8, write('lost'))];
  // The repetition: one record whose entries all have the same position.
  const operations = [at(9, 20, mkdir), at(9, 21, write('lost'))];
  const left = withoutLost({ operations, writes, lost: [] }, 21);
  t.same(left.operations, operations.slice(0, 1));
  t.same(left.lost, [{ from: 3, to: Number.POSITIVE_INFINITY }], 'from its first place on');
  t.same(withoutLost({ operations, writes, lost: [] }, 22), { operations, writes, lost: [] }, 'nothing is removed if nothing was lost');
  t.end();
});

/** A journal that holds these records. */
function journalOf(...records: readonly (() => Iterable<Uint8Array>)[]): Parameters<typeof readJournal>[0] {
  return {
    async *entries(): AsyncGenerator<JournalEntry, void> {
      for (const [index, record] of records.entries()) for (const entry of record()) yield { entry: entry as Plaintext, position: index + 1 };
    },
  };
}

const unlink = (name: string): Operation => ({ type: 'unlink', parent: rootIno, name, ino, time: { sec: 1, nsec: 0 } });
const base = (committedSerial: number, reset: BaseReset = 'none'): Uint8Array =>
  encodeBaseEntry({
    sequence: 1,
    hash: new Uint8Array(32),
    covers: 0,
    root: undefined,
    committedSerial,
    deviceIndex: ownDevice,
    nextInoCounter: 2,
    counter: 9,
    reset,
    packs: [],
    landed: new Map(),
  });
const operation = (serial: number): Uint8Array => encodeOperationEntry(serial, unlink(`${serial}`));
const moved = (serial: number, isFirst: boolean): Uint8Array => encodeMovedEntry({ serial, operation: unlink(`${serial}`) }, isFirst);
const serialsOf = async (...records: readonly Uint8Array[][]): Promise<number[]> => {
  const { operations } = await readJournal(journalOf(...records.map((record) => () => record)));
  return operations.map(({ serial }) => serial);
};

t.test('the results of a rebase count from its base entry on, however many records hold them', async (t) => {
  const before = [[base(0)], [operation(1), operation(2)]];
  t.same(await serialsOf(...before), [1, 2]);
  t.same(await serialsOf(...before, [moved(3, true)], [moved(4, false)]), [1, 2], 'a crash ended it');
  t.same(await serialsOf(...before, [moved(3, true)], [moved(4, false), base(0, 'rebase')], [operation(5)]), [3, 4, 5]);
  t.same(await serialsOf(...before, [moved(3, true)], [moved(5, true), base(0, 'rebase')]), [5], 'of a rebase that was restarted');
  t.same(await serialsOf(...before, [moved(3, true), base(0, 'rebase')], [base(0, 'rebase')]), [], 'none of them is left after another rebase');
  t.same(await serialsOf(...before, [base(0, 'rebase'), operation(3)], [operation(4)]), [3, 4], 'all in one record, as earlier versions wrote it');
});

t.test('dirty data is restored in journal order, one entry at a time', async (t) => {
  const dirty = (version: number): readonly Uint8Array[] =>
    encodeDirtyEntry({ ino, version, offset: 0, mtime: undefined, bytes: new Uint8Array(100_000).fill(version) });
  const journal = journalOf(
    () => [base(0)],
    () => [Buffer.concat(dirty(1)), operation(1), Buffer.concat(dirty(2))],
    () => [Buffer.concat(dirty(3))],
    () => [base(0, 'rebase'), operation(2)],
    () => [Buffer.concat(dirty(4))],
  );
  t.ok(JSON.stringify(await readJournal(journal)).length < 2000);
  const seen: string[] = [];
  const target = {
    restore: (entry: { readonly version: number; readonly bytes: Uint8Array }) => void seen.push(`dirty ${entry.version} ${entry.bytes.byteLength}`),
    applied: (one: Operation) => void seen.push(`${one.type} ${'name' in one ? one.name : ''}`),
  };
  await replayContent(journal, { lost: [{ from: 3, to: 4 }], dirtyFrom: 0 }, target);
  t.same(seen, ['dirty 1 100000', 'unlink 1', 'dirty 2 100000', 'dirty 4 100000'], 'except for lost entries and repetitions');
});

t.test('no number that an operation in the journal has given is given again', async (t) => {
  const time = { sec: 1, nsec: 0 };
  const [file, linked, whiteout, again] = [20, 30, 40, 50].map((counter) => makeIno(ownDevice, counter)) as [Ino, Ino, Ino, Ino];
  const owner = { mode: S_IFREG, uid: 0, gid: 0, rdev: 0, target: undefined, xattrs: [], time };
  const rename = { type: 'rename', parent: rootIno, newParent: rootIno, flags: 4, replacedIno: undefined } as const;
  const operations: Operation[] = [
    createFile('file', file),
    { type: 'link', ino: file, parent: rootIno, name: 'linked', number: linked, time },
    { ...rename, name: 'file', newName: 'moved', ino: file, whiteoutIno: whiteout, time },
    { type: 'create', parent: rootIno, name: 'again', ino: makeIno(otherDevice, 20), number: again, ...owner },
  ];
  for (let count = 1; count <= operations.length; count++) {
    const counters = { deviceIndex: ownDevice, nextIno: firstCounter, serial: 0 };
    const pending = operations.slice(0, count).map((one, index) => ({ serial: index + 1, operation: one }));
    await replayOperations(emptyState(), pending, counters);
    t.equal(counters.nextIno, counterOf([file, linked, whiteout, again][count - 1]!) + 1, operations[count - 1]!.type);
  }
});
