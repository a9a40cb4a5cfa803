/**
 * Takes snapshots when they are due and drops those that have expired, in the background of a mounted drive with write
 * access (doc/past.md, "Snapshots by themselves"). What fails is tried again at the next look.
 */
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { Snapshots } from './snapshots.js';

export const snapshotIntervalMs = 300_000;

/** One look. Does not reject. */
export async function keepSnapshots(snapshots: Pick<Snapshots, 'takeDue' | 'dropExpired'>, logger: Logger, signal: AbortSignal): Promise<void> {
  try {
    const taken = await snapshots.takeDue(signal);
    if (taken) logger.info('took a snapshot', { kind: taken.kind, sequence: taken.sequence });
    const dropped = await snapshots.dropExpired();
    if (dropped > 0) logger.info('dropped snapshots that have expired', { count: dropped });
  } catch (error) {
    if (!signal.aborted) logger.info('no snapshot could be taken', { reason: describeError(error) });
  }
}
