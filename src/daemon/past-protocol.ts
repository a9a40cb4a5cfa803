/**
 * What the command line asks a running daemon about the past (doc/past.md), in the manner of `control-protocol.ts`.
 * Names and paths are bytes as latin1.
 */
import type { SnapshotKind } from '../meta/snapshot.js';
import type { RestoreCounts } from '../vfs/restoration.js';
import type { FileVersion, RemovedFile } from '../volume/former-files.js';

/** For how many seconds snapshots of a kind are kept; 0: none is taken. */
export type PolicyReport = Readonly<Record<Exclude<SnapshotKind, 'manual'>, number>>;

export type SnapshotRequest =
  | { readonly method: 'snapshot'; readonly action: 'create'; readonly label: string }
  | { readonly method: 'snapshot'; readonly action: 'list' }
  | { readonly method: 'snapshot'; readonly action: 'hold' | 'release' | 'remove'; readonly name: string }
  /** Changes what is given, and answers the whole policy. */
  | { readonly method: 'snapshot'; readonly action: 'policy'; readonly change: Partial<PolicyReport> };

/** A past state: that after a commit, at a time, or of a snapshot. */
export type PastTime = { readonly sequence: number } | { readonly timeMs: number } | { readonly snapshot: string };

/** Paths are from the root of the drive, without a slash before them; the root is empty. */
export type FormerFilesRequest =
  /** What the file has been since that time, and in older snapshots. */
  | { readonly method: 'versions'; readonly path: string; readonly sinceMs: number }
  /** What was removed from a folder since that time. */
  | { readonly method: 'removed'; readonly path: string; readonly sinceMs: number };

export type RestoreRequest =
  /** `at` undefined: as it was last, since `sinceMs` or in an older snapshot. */
  | { readonly method: 'restore'; readonly path: string; readonly to: string; readonly at: PastTime | undefined; readonly sinceMs: number }
  | { readonly method: 'rollback'; readonly path: string; readonly at: PastTime; readonly isDryRun: boolean };

export type PastRequest = SnapshotRequest | FormerFilesRequest | RestoreRequest;

export interface SnapshotReport {
  readonly name: string;
  readonly kind: SnapshotKind;
  readonly isHeld: boolean;
  readonly timeMs: number;
  readonly sequence: number;
  readonly files: number;
  readonly bytes: number;
  readonly label: string;
}

export type SnapshotResult = { readonly snapshots: readonly SnapshotReport[] } | { readonly policy: PolicyReport };

export interface RestoreResult {
  /** Whose state it was; the time and the device of the commit where they are known. */
  readonly from: { readonly sequence: number; readonly timeMs?: number; readonly device?: string };
  /** The newest commit before; undefined where not everything was in the store. */
  readonly before: number | undefined;
  readonly counts: RestoreCounts;
}

export type PastResult =
  | SnapshotResult
  | RestoreResult
  | { readonly versions: readonly FileVersion[] }
  | { readonly removed: readonly RemovedFile[] };

/** Bytes of a label, so that the name of the snapshot is one of a file. */
export const labelMax = 200;

/** The request, or `undefined` if it is none about the past. */
export function decodePastRequest(value: { readonly method: unknown; readonly [field: string]: unknown }): PastRequest | undefined {
  const { method, path, to, at, sinceMs, isDryRun } = value;
  if (method === 'snapshot') return decodeSnapshotRequest(value);
  if (typeof path !== 'string') return undefined;
  const state = decodeTime(at);
  if (method === 'rollback') return state && { method, path, at: state, isDryRun: isDryRun === true };
  if (typeof sinceMs !== 'number' || !Number.isFinite(sinceMs)) return undefined;
  if (method === 'versions' || method === 'removed') return { method, path, sinceMs };
  return method === 'restore' && typeof to === 'string' ? { method, path, to, at: state, sinceMs } : undefined;
}

function decodeTime(at: unknown): PastTime | undefined {
  if (typeof at !== 'object' || at === null) return undefined;
  if ('sequence' in at && Number.isSafeInteger(at.sequence)) return { sequence: at.sequence as number };
  if ('timeMs' in at && typeof at.timeMs === 'number') return { timeMs: at.timeMs };
  return 'snapshot' in at && typeof at.snapshot === 'string' ? { snapshot: at.snapshot } : undefined;
}

function decodeSnapshotRequest({ action, label, name, change }: { readonly [field: string]: unknown }): SnapshotRequest | undefined {
  switch (action) {
    case 'create':
      return typeof label === 'string' && Buffer.byteLength(label) <= labelMax && !/[/\0]/.test(label)
        ? { method: 'snapshot', action, label }
        : undefined;
    case 'list':
      return { method: 'snapshot', action };
    case 'hold':
    case 'release':
    case 'remove':
      return typeof name === 'string' && name.length <= 255 ? { method: 'snapshot', action, name } : undefined;
    case 'policy': {
      const policy = decodeChange(change);
      return policy && { method: 'snapshot', action, change: policy };
    }
    default:
      return undefined;
  }
}

function decodeChange(change: unknown): Partial<PolicyReport> | undefined {
  if (typeof change !== 'object' || change === null) return undefined;
  const given = Object.entries(change);
  const isKnown = given.every(
    ([kind, seconds]) => ['hourly', 'daily', 'weekly', 'monthly'].includes(kind) && Number.isSafeInteger(seconds) && (seconds as number) >= 0,
  );
  return isKnown ? (Object.fromEntries(given) as Partial<PolicyReport>) : undefined;
}
