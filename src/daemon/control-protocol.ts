/**
 * What the command line and a running daemon say to each other over the control socket: one JSON object a line. The client sends one
 * request; the daemon answers with any number of progress lines and one last line (doc/cli.md, "The control socket").
 * Nothing in it is secret: keys and passphrases never cross this socket.
 */
import type { FlushProgress, PendingWork, VolumeStatistics } from '../volume/volume.js';

export type ControlRequest =
  | { readonly method: 'status' }
  | { readonly method: 'flush' }
  /** `force`: detach although files are open, and although work cannot be uploaded within `timeoutMs`. */
  | { readonly method: 'unmount'; readonly force: boolean; readonly timeoutMs: number | undefined };

/**
 * Why a request failed, named for the remedy:
 * - `PENDING`: work could not be put into the store; it is safe on this machine and waits
 * - `BUSY`: files on the mount are open; - `STOPPING`: the daemon is going away; - `PROTOCOL`: not a request
 * - `INTEGRITY`: a check failed; - `FAILED`: anything else
 */
export type ControlErrorCode = 'PENDING' | 'BUSY' | 'STOPPING' | 'PROTOCOL' | 'INTEGRITY' | 'FAILED';

export interface DaemonStatus {
  readonly volumeId: string;
  readonly store: string;
  readonly mountPoint: string;
  readonly driver: string;
  readonly readOnly: boolean;
  readonly pid: number;
  readonly version: string;
  /** Milliseconds since 1970. */
  readonly startedAtMs: number;
  readonly state: 'serving' | 'stopping';
  readonly pending: PendingWork;
  readonly statistics: VolumeStatistics;
  /** Facts of single layers (cache, head of the log), in groups. */
  readonly details: Readonly<Record<string, Readonly<Record<string, string | number | boolean>>>>;
}

/** What was not in the store when the daemon let go of the volume; all zero after a complete unmount. */
export interface UnmountResult {
  readonly left: PendingWork;
}

export type ControlReply =
  | { readonly progress: FlushProgress }
  | { readonly result: DaemonStatus | UnmountResult | Record<string, never> }
  | { readonly error: { readonly code: ControlErrorCode; readonly message: string } };

/** A longer line is not a request. */
export const controlRequestSizeMax = 4096;

/** The request that a line spells, or `undefined`. */
export function decodeControlRequest(line: string): ControlRequest | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || !('method' in value)) return undefined;
  if (value.method === 'status' || value.method === 'flush') return { method: value.method };
  if (value.method !== 'unmount') return undefined;
  const timeoutMs = 'timeoutMs' in value && typeof value.timeoutMs === 'number' && value.timeoutMs >= 0 ? value.timeoutMs : undefined;
  return { method: 'unmount', force: 'force' in value && value.force === true, timeoutMs };
}

export const nothingPending: PendingWork = { operations: 0, files: 0, dirtyBytes: 0, uploadBytes: 0 };

export function isPending(work: PendingWork): boolean {
  return work.operations > 0 || work.files > 0 || work.dirtyBytes > 0 || work.uploadBytes > 0;
}
