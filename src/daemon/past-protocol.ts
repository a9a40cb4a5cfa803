/**
 * What the command line asks a running daemon about the past (doc/past.md), in the manner of `control-protocol.ts`.
 * Names and paths are bytes as latin1.
 */
import type { SnapshotKind } from '../meta/snapshot.js';

/** For how many seconds snapshots of a kind are kept; 0: none is taken. */
export type PolicyReport = Readonly<Record<Exclude<SnapshotKind, 'manual'>, number>>;

export type SnapshotRequest =
  | { readonly method: 'snapshot'; readonly action: 'create'; readonly label: string }
  | { readonly method: 'snapshot'; readonly action: 'list' }
  | { readonly method: 'snapshot'; readonly action: 'hold' | 'release' | 'remove'; readonly name: string }
  /** Changes what is given, and answers the whole policy. */
  | { readonly method: 'snapshot'; readonly action: 'policy'; readonly change: Partial<PolicyReport> };

export type PastRequest = SnapshotRequest;

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

export type PastResult = SnapshotResult;

/** Bytes of a label, so that the name of the snapshot is one of a file. */
export const labelMax = 200;

/** The request, or `undefined` if it is none about the past. */
export function decodePastRequest(value: { readonly method: unknown; readonly [field: string]: unknown }): PastRequest | undefined {
  return value.method === 'snapshot' ? decodeSnapshotRequest(value) : undefined;
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
