/** The layers of a volume on an empty tree in memory, for tests of the layers above the tree. */
import type { Commit, Mutation } from '../../src/commit/commit.js';
import type { Sequence } from '../../src/commit/sequence.js';
import { S_IFREG } from '../../src/meta/inode.js';
import { direntKey, type Ino, inodeKey, makeIno, rootIno } from '../../src/meta/key.js';
import type { CreateOperation, Operation } from '../../src/operation/operation.js';
import { execute, recordBase } from '../../src/operation/operation-execute.js';
import { type RebaseContext, RebaseState } from '../../src/operation/rebase-rules.js';
import type { TreeReader } from '../../src/tree/tree-reader.js';
import { type Counters, VolumeState } from '../../src/volume/volume-state.js';
import { emptyVolume } from './memory-view.js';

export const ownDevice = 1;
export const otherDevice = 2;

/** A state whose tree is an empty volume, whatever root it is given. */
export function emptyState(): VolumeState {
  const genesis = emptyVolume();
  const tree = {
    get: (_root: unknown, key: never) => genesis.get(key),
    scan: (_root: unknown, from: never, to: never) => genesis.scan(from, to),
    floor: (_root: unknown, from: never, to: never) => genesis.floor(from, to),
  };
  return new VolumeState(tree as unknown as TreeReader, { root: undefined, covers: 0 as Sequence, totals: { files: 1, bytes: 0 } });
}

/** Runs an operation by this device, as a volume does. */
export function run(state: VolumeState, serial: number, operation: Operation): void {
  const recorded = recordBase(state.view, operation);
  const transaction = state.transaction();
  const delta = execute(transaction, recorded, ownDevice);
  state.apply({ serial, operation: recorded }, transaction.changes, delta);
}

/** For a rebase of this device's operations, from what the state shows when the context is made. */
export function rebaseContextOf(state: VolumeState, counters: Counters): RebaseContext {
  return {
    deviceIndex: ownDevice,
    deviceName: 'mine',
    oldView: state.view,
    allocateIno: () => makeIno(ownDevice, counters.nextIno++),
    state: new RebaseState(),
    conflicts: [],
  };
}

/** Makes an empty file in the root. */
export function createFile(name: string, ino: Ino): CreateOperation {
  const time = { sec: 1, nsec: 0 };
  return { type: 'create', parent: rootIno, name, ino, mode: S_IFREG | 0o644, uid: 0, gid: 0, rdev: 0, target: undefined, xattrs: [], time };
}

export const hasName = (state: VolumeState, name: string): boolean => state.view.get(direntKey(rootIno, name)) !== undefined;

/**
 * The commit of a device that runs `operations` on an empty volume, with the mutation of the root's inode only if
 * `withRoot`.
 */
export function commitOf(sequence: number, deviceId: string, operations: readonly Operation[], withRoot = false): Commit {
  const state = emptyState();
  for (const [index, operation] of operations.entries()) run(state, index + 1, operation);
  state.freeze();
  const { mutations = [], delta = { files: 0, bytes: 0 } } = state.flight ?? {};
  return makeCommit(
    sequence,
    deviceId,
    mutations.filter(([key]) => withRoot || key !== inodeKey(rootIno)),
    delta,
  );
}

export function makeCommit(sequence: number, author: string, mutations: readonly Mutation[], delta = { files: 0, bytes: 0 }): Commit {
  const counters = { nextInoCounter: 2, operationSerial: 0, filesDelta: delta.files, bytesDelta: delta.bytes };
  return { sequence, author, wallTimeMs: 0, ...counters, packs: [], checkpoint: undefined, mutations } as unknown as Commit;
}
