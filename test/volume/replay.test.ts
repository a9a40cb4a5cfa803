/** What the journal means after power loss took the content of an operation, that a rebase had repeated under another serial, too. */
import t from 'tap';
import { withoutLost } from '../../src/volume/replay.js';
import type { Remembered } from '../../src/volume/replay.js';

type Operation = Remembered['operations'][number]['operation'];

const write = (pack: string): Operation =>
  ({ type: 'write', ino: 5, pieces: [{ offset: 0, extent: { kind: 'data', length: 3000, skip: 0, pack, packOffset: 0, chunks: [] } }] }) as never;
const mkdir = { type: 'create' } as never as Operation;
const dirty = (position: number) => ({ position, entry: { type: 'dirty', ino: 5 } }) as never as Remembered['content'][number];
const entry = (position: number, serial: number, operation: Operation): Remembered['content'][number] => ({
  position,
  entry: { type: 'operation', serial, operation },
});

t.test('what a lost operation had made an end of is dirty again', (t) => {
  const content = [dirty(1), entry(2, 7, mkdir), entry(3, 8, write('lost')), dirty(4)];
  const operations = [
    { serial: 7, operation: mkdir, position: 2 },
    { serial: 8, operation: write('lost'), position: 3 },
  ];
  const left = withoutLost({ operations, content }, 8);
  t.same(left.operations, operations.slice(0, 1));
  t.same(left.content, content.slice(0, 2));
  t.end();
});

t.test('also where a rebase has repeated it under another serial', (t) => {
  const content = [dirty(1), entry(2, 7, mkdir), entry(3, 8, write('lost')), dirty(4)];
  // The repetition: one record, in which all have the same position.
  const operations = [
    { serial: 20, operation: mkdir, position: 9 },
    { serial: 21, operation: write('lost'), position: 9 },
  ];
  const left = withoutLost({ operations, content }, 21);
  t.same(left.operations, operations.slice(0, 1));
  t.same(left.content, content.slice(0, 2), 'the operation stands in the content once more, where it was first');
  t.same(withoutLost({ operations, content }, 22), { operations, content }, 'nothing is lost, nothing goes');
  t.end();
});
