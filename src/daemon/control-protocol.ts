/**
 * What the command line and a running daemon say to each other over the control socket: one JSON object a line. The
 * client sends one request; the daemon answers with any number of progress lines and one last line (doc/cli.md, "The
 * control socket"). Nothing in it is secret: keys and passphrases never cross this socket.
 */

import type { VolumeStatistics } from '../operation/statistics.js';
import type { RestoreCounts } from '../vfs/restoration.js';
import type { CollectProgress, CollectReport } from '../volume/collector.js';
import type { FileStatus, SubtreeStatus } from '../volume/file-status.js';
import type { PinProgress, PinState } from '../volume/pin-keeper.js';
import type { FlushProgress, PendingWork } from '../volume/volume.js';
import type { VolumeFacts } from '../volume/volume-facts.js';
import { decodePastRequest, type PastRequest, type PastResult } from './past-protocol.js';

export type ControlRequest =
  | PastRequest
  | { readonly method: 'status' }
  | { readonly method: 'flush' }
  /** One pass of the collector. */
  | { readonly method: 'collect'; readonly windowMs: number; readonly lapseMs?: number | undefined; readonly dryRun: boolean }
  /**
   * Pins an inode that has this name in that directory (bytes as latin1). `wait`: answers when it is all here, or
   * cannot be for now.
   */
  | { readonly method: 'pin'; readonly ino: number; readonly parent: number; readonly name: string; readonly wait: boolean }
  | { readonly method: 'unpin'; readonly ino: number }
  | { readonly method: 'pins' }
  /** The state of inodes. `deep`: with everything below them. */
  | { readonly method: 'files'; readonly inos: readonly number[]; readonly deep: boolean }
  /** Changes those limits of bandwidth that are given, in bytes a second; null: no limit. */
  | { readonly method: 'limit'; readonly upload?: number | null; readonly download?: number | null }
  /** `force`: detach although files are open, and although work cannot be uploaded within `timeoutMs`. */
  | { readonly method: 'unmount'; readonly force: boolean; readonly timeoutMs: number | undefined };

/**
 * Why a request failed, named for the remedy:
 * - `PENDING`: work could not be put into the store; it is safe on this machine and waits
 * - `BUSY`: files on the mount are open
 * - `STOPPING`: the daemon is going away
 * - `PROTOCOL`: not a request
 * - `INTEGRITY`: a check failed
 * - `FULL`: the disk or the cache has no room
 * - `UNAVAILABLE`: the store does not answer
 * - `DISK`: the local disk failed, or the state directory does not exist any more
 * - `NOT_FOUND`: there is no such file
 * - `READ_ONLY`: the drive is mounted read-only
 * - `FAILED`: anything else
 */
export type ControlErrorCode =
  | 'PENDING'
  | 'BUSY'
  | 'STOPPING'
  | 'PROTOCOL'
  | 'INTEGRITY'
  | 'FULL'
  | 'UNAVAILABLE'
  | 'DISK'
  | 'NOT_FOUND'
  | 'READ_ONLY'
  | 'FAILED';

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
  readonly details: VolumeFacts;
}

/** Work that was not in the store when the daemon closed the volume; all zero after a complete unmount. */
export interface UnmountResult {
  readonly left: PendingWork;
}

export interface PinStatus extends PinProgress {
  readonly ino: number;
  /** From the mount point, with a leading slash; `undefined` when it is not known now. */
  readonly path: string | undefined;
  readonly state: PinState;
}

export interface PinsResult {
  readonly pins: readonly PinStatus[];
}

/** In the order of the question; null: there is no such inode. */
export interface FilesResult {
  readonly files: readonly ((FileStatus & { readonly isPinned: boolean }) | null)[];
}

export interface SubtreesResult {
  readonly subtrees: readonly ((SubtreeStatus & { readonly isPinned: boolean }) | null)[];
}

/** The limits as they are now, in bytes a second; null: none. */
export interface LimitResult {
  readonly upload: number | null;
  readonly download: number | null;
}

export type ControlResult =
  | CollectReport
  | DaemonStatus
  | LimitResult
  | UnmountResult
  | PinsResult
  | FilesResult
  | SubtreesResult
  | PastResult
  | Record<string, never>;

export type ControlReply =
  | { readonly progress: FlushProgress }
  | { readonly fetched: PinProgress }
  | { readonly restored: RestoreCounts }
  | { readonly collected: CollectProgress }
  | { readonly result: ControlResult }
  | { readonly error: { readonly code: ControlErrorCode; readonly message: string } };

/** A longer line is not a request. */
export const controlRequestSizeMax = 32_768;

/** The request in a line, or `undefined` if it is none. */
export function decodeControlRequest(line: string): ControlRequest | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || !('method' in value)) return undefined;
  const isIno = (number: unknown): number is number => Number.isSafeInteger(number) && (number as number) > 0;
  if (value.method === 'status' || value.method === 'flush' || value.method === 'pins') return { method: value.method };
  if (value.method === 'collect') {
    const isTime = (time: unknown): time is number => Number.isSafeInteger(time) && (time as number) >= 0;
    if (!('windowMs' in value && isTime(value.windowMs))) return undefined;
    const lapseMs = 'lapseMs' in value && isTime(value.lapseMs) ? value.lapseMs : undefined;
    return { method: 'collect', windowMs: value.windowMs, lapseMs, dryRun: 'dryRun' in value && value.dryRun === true };
  }
  if (value.method === 'unpin') return 'ino' in value && isIno(value.ino) ? { method: 'unpin', ino: value.ino } : undefined;
  if (value.method === 'pin') {
    if (!('ino' in value && isIno(value.ino) && 'parent' in value && isIno(value.parent))) return undefined;
    if (!('name' in value) || typeof value.name !== 'string' || value.name.length > 255) return undefined;
    return { method: 'pin', ino: value.ino, parent: value.parent, name: value.name, wait: 'wait' in value && value.wait === true };
  }
  if (value.method === 'files') {
    if (!('inos' in value) || !Array.isArray(value.inos) || !value.inos.every(isIno)) return undefined;
    return { method: 'files', inos: value.inos, deep: 'deep' in value && value.deep === true };
  }
  if (value.method === 'limit') {
    const isRate = (rate: unknown): rate is number | null => rate === null || (Number.isSafeInteger(rate) && (rate as number) > 0);
    const { upload, download } = value as { readonly upload?: unknown; readonly download?: unknown };
    if ((upload !== undefined && !isRate(upload)) || (download !== undefined && !isRate(download))) return undefined;
    return { method: 'limit', ...(upload === undefined ? {} : { upload }), ...(download === undefined ? {} : { download }) };
  }
  if (value.method !== 'unmount') return decodePastRequest(value);
  const timeoutMs = 'timeoutMs' in value && typeof value.timeoutMs === 'number' && value.timeoutMs >= 0 ? value.timeoutMs : undefined;
  return { method: 'unmount', force: 'force' in value && value.force === true, timeoutMs };
}

export const nothingPending: PendingWork = { operations: 0, files: 0, dirtyBytes: 0, uploadBytes: 0 };

export function isPending(work: PendingWork): boolean {
  return work.operations > 0 || work.files > 0 || work.dirtyBytes > 0 || work.uploadBytes > 0;
}
