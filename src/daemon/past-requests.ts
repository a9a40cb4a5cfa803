/** The requests of the control socket about the past, answered (doc/past.md). */
import type { ByteString } from '../base/brand.js';
import { textOf } from '../base/bytes.js';
import { isDirectory } from '../meta/inode.js';
import { type Ino, rootIno } from '../meta/key.js';
import { lookup, readInode } from '../operation/inode-view.js';
import { Restoration, type RestoreCounts } from '../vfs/restoration.js';
import { lastWith, removedFrom, resolvePath, versionsOf } from '../volume/former-files.js';
import type { PastVolume } from '../volume/past-volume.js';
import type { NamedSnapshot } from '../volume/snapshots.js';
import type { Volume } from '../volume/volume.js';
import { ControlError } from './control-error.js';
import type { PastRequest, PastResult, RestoreRequest, RestoreResult, SnapshotReport, SnapshotRequest, SnapshotResult } from './past-protocol.js';

const removedMax = 1000;
const progressIntervalMs = 200;

export interface PastRequestsOptions {
  readonly volume: Volume;
  /** Brings what the kernel holds into the volume, and everything into the store. */
  readonly flush: (signal: AbortSignal) => Promise<void>;
}

export class PastRequests {
  readonly #options: PastRequestsOptions;

  constructor(options: PastRequestsOptions) {
    this.#options = options;
  }

  async answer(request: PastRequest, onProgress: (counts: Readonly<RestoreCounts>) => void, signal: AbortSignal): Promise<PastResult> {
    const { volume } = this.#options;
    switch (request.method) {
      case 'snapshot':
        return this.#snapshot(request, signal);
      case 'versions':
        return { versions: await versionsOf(volume, await this.#present(request.path), request.sinceMs, signal) };
      case 'removed':
        return { removed: await removedFrom(volume, await this.#present(request.path), request.sinceMs, removedMax, signal) };
      default:
        if (volume.readOnly) throw readOnly();
        return this.#restore(request, onProgress, signal);
    }
  }

  async #present(path: ByteString): Promise<Ino> {
    const ino = await this.#options.volume.read((view) => resolvePath(view, path));
    if (ino === undefined) throw new ControlError('NOT_FOUND', 'there is no such file; "sealdrive undelete --list" shows what was removed');
    return ino;
  }

  async #restore(request: RestoreRequest, onProgress: (counts: Readonly<RestoreCounts>) => void, signal: AbortSignal): Promise<RestoreResult> {
    const { volume, flush } = this.#options;
    // So that the present can be gone back to. Without the store, what is there is brought back all the same.
    const isFlushed = await flush(signal).then(
      () => true,
      () => false,
    );
    const before = isFlushed ? volume.past.newest : undefined;
    const { state, from } = await this.#state(request, signal);
    const isDryRun = request.method === 'rollback' && request.isDryRun;
    const restoration = new Restoration({ volume: volume.frontEnd(), past: state, isDryRun, onProgress: atIntervals(onProgress), signal });
    if (request.method === 'rollback') await rollBack(restoration, state, request.path, await this.#present(request.path));
    else await this.#bringBack(restoration, state, request);
    return { from, before, counts: restoration.counts };
  }

  async #bringBack(restoration: Restoration, state: PastVolume, { path, to }: Extract<RestoreRequest, { method: 'restore' }>): Promise<void> {
    const ino = await state.read((view) => resolvePath(view, path));
    if (ino === undefined || path === '')
      throw new ControlError('NOT_FOUND', 'it was not there at that time; "sealdrive versions" shows when it was');
    let parent = rootIno;
    const names = to.split('/');
    const name = names.pop() ?? '';
    for (const [depth, folder] of names.entries()) {
      const found = await this.#options.volume.read((view) => lookup(view, parent, folder)?.ino);
      const former = found ?? (to === path ? await state.read((view) => resolvePath(view, names.slice(0, depth + 1).join('/'))) : undefined);
      if (former === undefined) throw new ControlError('NOT_FOUND', 'there is no folder to put it into');
      parent = found ?? (await restoration.restoreFolder(former, parent, folder));
    }
    await restoration.restore(ino, parent, name);
  }

  async #state(request: RestoreRequest, signal: AbortSignal): Promise<{ readonly state: PastVolume; readonly from: RestoreResult['from'] }> {
    const { volume } = this.#options;
    const { past, snapshots } = volume;
    const { at } = request;
    if (at === undefined) {
      const state = request.method === 'restore' ? await lastWith(volume, request.path, request.sinceMs, signal) : undefined;
      if (!state) throw new ControlError('NOT_FOUND', 'nothing of that name was removed; --since looks further back');
      return { state, from: { sequence: state.sequence } };
    }
    if ('snapshot' in at) {
      const snapshot = await snapshots.get(at.snapshot);
      if (!snapshot) throw new ControlError('NOT_FOUND', 'there is no such snapshot; "sealdrive snapshot list" shows them');
      return { state: past.ofSnapshot(snapshot), from: { sequence: snapshot.sequence, timeMs: snapshot.timeMs } };
    }
    const commit = 'timeMs' in at ? await past.findTime(at.timeMs, signal) : undefined;
    const sequence = 'timeMs' in at ? commit?.sequence : at.sequence;
    const state = sequence === undefined ? undefined : await past.at(sequence);
    if (!state) throw new ControlError('NOT_FOUND', 'there was nothing at that time');
    return { state, from: { sequence: state.sequence, ...(commit && { timeMs: commit.wallTimeMs, device: past.deviceOf(commit) }) } };
  }

  async #snapshot(request: SnapshotRequest, signal: AbortSignal): Promise<SnapshotResult> {
    const { volume, flush } = this.#options;
    const { snapshots } = volume;
    if (request.action !== 'list' && volume.readOnly) throw readOnly();
    switch (request.action) {
      case 'create':
        await flush(signal);
        return { snapshots: [reportOf(await snapshots.create(request.label, signal))] };
      case 'list':
        return { snapshots: (await snapshots.list()).map(reportOf) };
      case 'policy': {
        const isChange = Object.keys(request.change).length > 0;
        return { policy: isChange ? await snapshots.changePolicy(request.change) : await snapshots.policy() };
      }
      default:
        return { snapshots: [await this.#change(request)] };
    }
  }

  async #change({ action, name }: Extract<SnapshotRequest, { readonly name: string }>): Promise<SnapshotReport> {
    const { snapshots } = this.#options.volume;
    const before = await snapshots.get(name);
    const outcome = action === 'remove' ? await snapshots.remove(name) : await snapshots.hold(name, action === 'hold');
    if (outcome === 'absent' || !before) throw new ControlError('NOT_FOUND', 'there is no such snapshot; "sealdrive snapshot list" shows them');
    if (outcome === 'held') throw new ControlError('BUSY', 'the snapshot is held: "sealdrive snapshot release" lets it be removed');
    return reportOf({ ...before, isHeld: action === 'hold' });
  }
}

const readOnly = (): ControlError => new ControlError('READ_ONLY', 'the drive is mounted read-only');

async function rollBack(restoration: Restoration, state: PastVolume, path: ByteString, ino: Ino): Promise<void> {
  const former = await state.read((view) => readInode(view, ino));
  if (!former || !isDirectory(former)) throw new ControlError('NOT_FOUND', `the folder /${textOf(path)} was not there at that time`);
  await restoration.rollBack(ino);
}

/** Hands on what it is called with, but not too often. */
function atIntervals<T>(report: (value: T) => void): (value: T) => void {
  let nextMs = 0;
  return (value) => {
    const now = performance.now();
    if (now < nextMs) return;
    nextMs = now + progressIntervalMs;
    report(value);
  };
}

const reportOf = ({ name, kind, isHeld, timeMs, sequence, files, bytes, label }: NamedSnapshot): SnapshotReport => ({
  name,
  kind,
  isHeld,
  timeMs,
  sequence,
  files,
  bytes,
  label,
});
