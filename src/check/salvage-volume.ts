/**
 * Copies everything of a volume that can still be read into a plain directory, however much is damaged, and reports
 * what is missing (doc/cli.md, "check, repair, salvage"; doc/security.md, "Salvage"). It writes nothing to the store.
 * What a device of the volume has written comes first and stands alone. What merely opens, so that any holder of the
 * keys may have written it, is copied into a folder of its own, as far as it differs.
 */
import { toHex } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { diskErrorCode } from '../disk/disk.js';
import { PackSource } from '../pack/pack-source.js';
import type { ObjectStore } from '../store/object-store.js';
import { openBareVolume } from './bare-volume.js';
import type { CommitCopies } from './commit-copies.js';
import type { VerifiedHistory } from './commit-proof.js';
import { Findings } from './finding.js';
import type { LocalTree } from './local-tree.js';
import { SalvageError } from './salvage-error.js';
import type { SalvagedTree } from './salvager.js';
import { Salvager } from './salvager.js';
import type { Survivors } from './surviving-log.js';
import { SurvivingLog } from './surviving-log.js';
import { SurvivingState } from './surviving-state.js';

export interface SalvageOptions {
  readonly store: ObjectStore;
  /** 32 bytes, borrowed. */
  readonly rootSecret: Uint8Array;
  readonly volumeId: Uint8Array;
  readonly random: Random;
  readonly target: LocalTree;
  /** This device's copies of commits and genesis. */
  readonly copies: CommitCopies;
  /** The history that this device has verified, if any. */
  readonly trust?: VerifiedHistory | undefined;
  /** Copies the state after this commit, without later ones. */
  readonly at?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?:
    | ((progress: { readonly phase: 'log' | 'names' | 'files'; readonly done: number; readonly total?: number }) => void)
    | undefined;
}

/** The folder for what no device of the volume is known to have written. */
const unprovenFolder = 'unproven';

export interface SalvageReport extends SalvagedTree {
  readonly volumeId: string;
  /** The commit whose state was copied, and the checkpoint that it is based on (0: none). */
  readonly sequence: number;
  readonly checkpoint: number;
  readonly lostCommits: readonly number[];
  /** Commits that open, but which no device of the volume is known to have written. */
  readonly unprovenCommits: readonly number[];
  readonly lostPages: number;
  /** Whether files may have older content, or may be missing without being listed. */
  readonly mayBeStale: boolean;
  /** What only unproven commits contain: it is below `unproven/`. */
  readonly unproven: (SalvagedTree & { readonly stopped: string | null }) | null;
}

/** Whether everything was copied, and nothing unproven. */
export function isComplete(report: SalvageReport): boolean {
  const { damaged, missing, failed, unprovenCommits } = report;
  return damaged.length + missing.length + failed.length + unprovenCommits.length === 0 && !report.mayBeStale;
}

/** Throws SalvageError, system errors that concern the whole target (no space), and the signal's reason. */
export async function salvageVolume(options: SalvageOptions): Promise<SalvageReport> {
  const { store, volumeId, copies, trust, signal, at = Number.MAX_SAFE_INTEGER, onProgress } = options;
  const genesisCopy = await copies.read(0).catch(() => undefined);
  const bare = await openBareVolume({ ...options, findings: new Findings(1), genesisCopy });
  if (!bare) throw new SalvageError('NOTHING_LEFT', 'neither the store nor this device has the genesis of the volume: there are no keys');
  const { keys, genesis } = bare;
  try {
    const log = new SurvivingLog({ store, keys, genesis, copies, trust, signal });
    const { proven, all, unproven, lost } = await log.survey(at, (done, total) => onProgress?.({ phase: 'log', done, total }));
    if (all.newest === 0) throw new SalvageError('NOTHING_LEFT', 'no commit of the volume can be opened');
    const source = new PackSource({ store, keys: keys.current, staging: new Map(), memory: { chunks: 0 } });
    const stateOf = (survivors: Survivors): SurvivingState => new SurvivingState(log, survivors, source, signal);
    const { target } = options;
    const state = stateOf(proven);
    const salvager = new Salvager({ state, source, target, folder: target.root, signal, onProgress });
    await salvager.run();
    const copied = { state: stateOf(proven), salvager };
    return {
      volumeId: toHex(volumeId),
      sequence: proven.newest,
      checkpoint: proven.checkpoints[0]?.sequence ?? 0,
      lostCommits: lost,
      unprovenCommits: unproven,
      lostPages: state.lostPages,
      mayBeStale: state.staleRanges > 0,
      ...salvager.result,
      unproven: unproven.length === 0 ? null : await copyUnproven(options, { state: stateOf(all), source, copied }),
    };
  } finally {
    keys.root.wipe();
  }
}

/** A system error, such as a full destination, ends only this part: what was copied before stays. */
async function copyUnproven(
  { target, signal, onProgress }: SalvageOptions,
  parts: Pick<ConstructorParameters<typeof Salvager>[0], 'state' | 'source' | 'copied'>,
): Promise<SalvageReport['unproven']> {
  let stopped: string | null = null;
  const salvager = new Salvager({ ...parts, target, folder: await target.makeFolder(target.root, unprovenFolder), signal, onProgress });
  try {
    await salvager.run();
  } catch (error) {
    if (diskErrorCode(error) === undefined) throw error;
    stopped = describeError(error);
  }
  return { ...salvager.result, stopped };
}
