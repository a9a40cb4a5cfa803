/** The requests of the control socket about the past, answered (doc/past.md). */
import type { NamedSnapshot } from '../volume/snapshots.js';
import type { Volume } from '../volume/volume.js';
import { ControlError } from './control-error.js';
import type { PastRequest, PastResult, SnapshotReport, SnapshotRequest, SnapshotResult } from './past-protocol.js';

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

  answer(request: PastRequest, signal: AbortSignal): Promise<PastResult> {
    return this.#snapshot(request, signal);
  }

  async #snapshot(request: SnapshotRequest, signal: AbortSignal): Promise<SnapshotResult> {
    const { volume, flush } = this.#options;
    const { snapshots } = volume;
    if (request.action !== 'list' && volume.readOnly) throw new ControlError('FAILED', 'the drive is mounted read-only');
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
