/** Changes of what the volume keeps beside its files (src/operation/operation-record.ts). */
import t from 'tap';
import { MalformedBytesError } from '../../src/base/bytes.js';
import { inodeKey, rootIno, snapshotKey, type TreeKey } from '../../src/meta/key.js';
import {
  decodePolicy,
  decodeSnapshot,
  encodePolicy,
  encodeSnapshot,
  type Snapshot,
  snapshotPolicyKey,
  usualPolicy,
} from '../../src/meta/snapshot.js';
import type { RecordOperation } from '../../src/operation/operation.js';
import { decodeOperation, encodeOperation } from '../../src/operation/operation-codec.js';
import { execute } from '../../src/operation/operation-execute.js';
import type { PackId } from '../../src/pack/pack-id.js';
import { MemoryView } from '../suite/memory-view.js';

const [one, two] = [Uint8Array.of(1), Uint8Array.of(2)];
const key = snapshotKey('2026-08-22T10.00.00Z');
const change = (value: Uint8Array | undefined, base: Uint8Array | undefined): RecordOperation => ({ type: 'record', key, value, base });

const snapshot: Snapshot = {
  kind: 'weekly',
  isHeld: true,
  timeMs: -1,
  sequence: 17,
  checkpoint: { sequence: 18, hash: new Uint8Array(32).fill(3) },
  root: { pack: 'ab'.repeat(16) as PackId, offset: 1, length: 2, hash: new Uint8Array(32).fill(4) },
  files: 5,
  bytes: 6,
  label: 'Grüße',
};

t.test('a record is set and removed only if it is what the change was based on', async (t) => {
  const view = new MemoryView();
  const valueAfter = (operation: RecordOperation): number | undefined => {
    t.strictSame(execute(view, decodeOperation(encodeOperation(operation)), 1), { files: 0, bytes: 0 });
    return view.get(key)?.[0];
  };
  t.equal(valueAfter(change(one, two)), undefined, 'there was none');
  t.equal(valueAfter(change(one, undefined)), 1);
  t.equal(valueAfter(change(two, undefined)), 1, 'there is one');
  t.equal(valueAfter(change(undefined, two)), 1, 'it is another one');
  t.equal(valueAfter(change(two, one)), 2);
  t.equal(valueAfter(change(undefined, two)), undefined);
});

t.test('the journal holds changes of records, and no change of anything else in their place', async (t) => {
  for (const operation of [change(one, undefined), change(undefined, two), { ...change(one, two), key: snapshotPolicyKey }]) {
    const bytes = encodeOperation(operation);
    t.strictSame(decodeOperation(bytes), operation);
    for (let length = 0; length < bytes.byteLength; length++) t.throws(() => decodeOperation(bytes.subarray(0, length)), MalformedBytesError);
  }
  for (const other of [inodeKey(rootIno), 'S' as TreeKey, 'Sa/b' as TreeKey, 'Pxxxxxxxxxxxxxxxx' as TreeKey])
    t.throws(() => decodeOperation(encodeOperation({ ...change(one, two), key: other })), MalformedBytesError, other);
});

t.test('snapshots and policies are read back, and nothing that no device writes', async (t) => {
  for (const given of [snapshot, { ...snapshot, kind: 'manual', isHeld: false, root: undefined, label: '' } as const]) {
    const bytes = encodeSnapshot(given);
    t.strictSame(decodeSnapshot(bytes), given);
    for (let length = 0; length < bytes.byteLength; length++) t.throws(() => decodeSnapshot(bytes.subarray(0, length)), MalformedBytesError);
    t.throws(() => decodeSnapshot(Buffer.concat([bytes, Uint8Array.of(0)])), MalformedBytesError);
    for (const [at, value] of [
      [0, 2],
      [1, 5],
      [2, 2],
    ] as const)
      t.throws(() => decodeSnapshot(bytes.map((byte, index) => (index === at ? value : byte))), MalformedBytesError);
  }
  const bytes = encodePolicy(usualPolicy);
  t.strictSame(decodePolicy(bytes), usualPolicy);
  t.throws(() => decodePolicy(bytes.subarray(0, -1)), MalformedBytesError);
});
