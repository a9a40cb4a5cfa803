/**
 * The snapshots of an open volume: taken, listed, held and removed (doc/past.md, "Snapshots"). Each is a name for the
 * tree of a checkpoint. Which ones are due is in `snapshot-schedule.ts`.
 */
import { assert } from '../base/assert.js';
import type { ByteString } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { MaybePromise } from '../base/maybe-promise.js';
import type { Commit } from '../commit/commit.js';
import { decodeCollectedPack } from '../meta/collected-pack.js';
import { collectedEnd, collectedStart, isFileName, snapshotEnd, snapshotKey, snapshotStart } from '../meta/key.js';
import {
  decodePolicy,
  decodeSnapshot,
  encodePolicy,
  encodeSnapshot,
  type Snapshot,
  type SnapshotKind,
  type SnapshotPolicy,
  snapshotName,
  snapshotPolicyKey,
  usualPolicy,
} from '../meta/snapshot.js';
import type { ReadView } from '../operation/view.js';
import type { Plan } from './plan.js';
import { dueSnapshot, expiredSnapshots } from './snapshot-schedule.js';
import { VolumeError } from './volume-error.js';

export interface NamedSnapshot extends Snapshot {
  readonly name: ByteString;
}

export interface SnapshotsOptions {
  readonly read: <T>(query: (view: ReadView) => T) => MaybePromise<T>;
  readonly transact: <T>(plan: Plan<T>) => MaybePromise<T>;
  /** Puts everything so far into the store. */
  readonly flush: (signal?: AbortSignal) => Promise<void>;
  /** The newest checkpoint, with all files as they are in the store; with `isNew` one that was not there before. */
  readonly checkpoint: (isNew: boolean, signal?: AbortSignal) => Promise<Commit | undefined>;
  /** Whether files may have changed since that commit. */
  readonly hasChangedSince: (sequence: number) => boolean;
  readonly clock: Pick<Clock, 'now'>;
}

/** Why nothing was done, if it was not. */
export type SnapshotOutcome = 'done' | 'absent' | 'held';

export class Snapshots {
  readonly #options: SnapshotsOptions;

  constructor(options: SnapshotsOptions) {
    this.#options = options;
  }

  /** By name, which is by time. */
  async list(): Promise<readonly NamedSnapshot[]> {
    return this.#options.read((view) => [...scanSnapshots(view)]);
  }

  async get(name: ByteString): Promise<NamedSnapshot | undefined> {
    return this.#options.read((view) => findSnapshot(view, name));
  }

  /** Takes a snapshot of everything so far. Rejects with VolumeError. */
  create(label: string, signal?: AbortSignal): Promise<NamedSnapshot> {
    const { sec } = this.#options.clock.now();
    return this.take('manual', { timeMs: sec * 1000, label, isHeld: false }, (view) => freeName(view, snapshotName(sec * 1000, label)), signal);
  }

  /** `nameIn` answers the name, which may be taken: then the snapshot that has it is answered. */
  async take(
    kind: SnapshotKind,
    about: Pick<Snapshot, 'timeMs' | 'label' | 'isHeld'>,
    nameIn: (view: ReadView) => ByteString,
    signal?: AbortSignal,
  ): Promise<NamedSnapshot> {
    const { flush, checkpoint, transact } = this.#options;
    await flush(signal);
    let name: ByteString | undefined;
    for (let isNew = false; name === undefined; isNew = true) {
      const commit = await checkpoint(isNew, signal);
      assert(commit?.checkpoint, 'there is a checkpoint');
      const { root, covers, files, bytes } = commit.checkpoint;
      const place = { sequence: covers, checkpoint: { sequence: commit.sequence, hash: commit.hash }, root, files, bytes };
      const value = encodeSnapshot({ kind, ...about, ...place });
      name = await transact((view) => {
        // What is condemned since may be a part of this tree: then a newer one is named.
        if (newestCollection(view) > commit.sequence) return { operation: undefined, result: undefined };
        const chosen = nameIn(view);
        assert(isFileName(chosen), 'a snapshot has a file name');
        return { operation: { type: 'record', key: snapshotKey(chosen), value, base: undefined }, result: chosen };
      });
    }
    await flush(signal);
    const taken = await this.get(name);
    if (!taken) throw new VolumeError('UNAVAILABLE', 'the snapshot was removed elsewhere at once');
    return taken;
  }

  /** Takes the snapshot that is due, if any, and if files have changed since the last. Rejects with VolumeError. */
  async takeDue(signal?: AbortSignal): Promise<NamedSnapshot | undefined> {
    const { clock, hasChangedSince } = this.#options;
    const timeMs = clock.now().sec * 1000;
    const taken = await this.list();
    const due = dueSnapshot(timeMs, await this.policy(), taken);
    if (!due || !hasChangedSince(Math.max(0, ...taken.map(({ sequence }) => sequence)))) return undefined;
    return this.take(due.kind, { timeMs, label: '', isHeld: false }, () => due.name, signal);
  }

  /** Answers how many were dropped. Rejects with VolumeError. */
  async dropExpired(): Promise<number> {
    const expired = expiredSnapshots(this.#options.clock.now().sec * 1000, await this.policy(), await this.list());
    for (const { name } of expired) await this.remove(name);
    return expired.length;
  }

  /** Rejects with VolumeError. */
  hold(name: ByteString, isHeld: boolean): Promise<SnapshotOutcome> {
    return this.#change(name, (snapshot) => encodeSnapshot({ ...snapshot, isHeld }));
  }

  /** What is held stays. Rejects with VolumeError. */
  remove(name: ByteString): Promise<SnapshotOutcome> {
    return this.#change(name, ({ isHeld }) => (isHeld ? 'held' : undefined));
  }

  async #change(name: ByteString, changed: (snapshot: Snapshot) => Uint8Array | undefined | 'held'): Promise<SnapshotOutcome> {
    const key = snapshotKey(name);
    return this.#options.transact<SnapshotOutcome>((view) => {
      const base = view.get(key);
      if (base === undefined) return { operation: undefined, result: 'absent' };
      const value = changed(decodeSnapshot(base));
      if (value === 'held') return { operation: undefined, result: 'held' };
      const isSame = value !== undefined && equalBytes(value, base);
      return { operation: isSame ? undefined : { type: 'record', key, value, base }, result: 'done' };
    });
  }

  async policy(): Promise<SnapshotPolicy> {
    const value = await this.#options.read((view) => view.get(snapshotPolicyKey));
    return value ? decodePolicy(value) : usualPolicy;
  }

  /** Answers the policy as it is then. Rejects with VolumeError. */
  async changePolicy(change: Partial<SnapshotPolicy>): Promise<SnapshotPolicy> {
    return this.#options.transact((view) => {
      const base = view.get(snapshotPolicyKey);
      const policy = { ...(base ? decodePolicy(base) : usualPolicy), ...change };
      return { operation: { type: 'record', key: snapshotPolicyKey, value: encodePolicy(policy), base }, result: policy };
    });
  }
}

/** The newest commit that says of a pack that it goes. */
function newestCollection(view: ReadView): number {
  let newest = 0;
  for (const [, value] of view.scan(collectedStart, collectedEnd)) newest = Math.max(newest, decodeCollectedPack(value).since);
  return newest;
}

export function* scanSnapshots(view: ReadView): IterableIterator<NamedSnapshot> {
  for (const [key, value] of view.scan(snapshotStart, snapshotEnd)) yield { name: key.slice(1), ...decodeSnapshot(value) };
}

export function findSnapshot(view: ReadView, name: ByteString): NamedSnapshot | undefined {
  const value = view.get(snapshotKey(name));
  return value && { name, ...decodeSnapshot(value) };
}

function freeName(view: ReadView, wanted: ByteString): ByteString {
  for (let count = 1; ; count++) {
    const name = count === 1 ? wanted : `${wanted}.${count}`;
    if (view.get(snapshotKey(name)) === undefined) return name;
  }
}
