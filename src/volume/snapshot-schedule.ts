/**
 * Which snapshot is due, and which have expired, by the policy of the volume (doc/past.md, "Snapshots by themselves").
 * Pure. Intervals are those of UTC: hours, days, weeks from Monday on, months.
 */
import type { ByteString } from '../base/brand.js';
import { type AutomaticKind, type SnapshotKind, type SnapshotPolicy, snapshotName } from '../meta/snapshot.js';

/** As far as the schedule looks at a snapshot. */
export interface ScheduledSnapshot {
  readonly name: ByteString;
  readonly kind: SnapshotKind;
  readonly isHeld: boolean;
}

const hourMs = 3_600_000;
const dayMs = 24 * hourMs;
const weekMs = 7 * dayMs;
/** The first Monday after the beginning of 1970. */
const mondayMs = 4 * dayMs;

/** From the shortest interval to the longest. */
const kinds: readonly AutomaticKind[] = ['hourly', 'daily', 'weekly', 'monthly'];

function startOf(kind: AutomaticKind, timeMs: number): number {
  switch (kind) {
    case 'hourly':
      return Math.floor(timeMs / hourMs) * hourMs;
    case 'daily':
      return Math.floor(timeMs / dayMs) * dayMs;
    case 'weekly':
      return Math.floor((timeMs - mondayMs) / weekMs) * weekMs + mondayMs;
    default: {
      const date = new Date(timeMs);
      return Date.UTC(date.getUTCFullYear(), date.getUTCMonth());
    }
  }
}

/** The beginning of its interval, which is its name. */
function timeOf({ name }: ScheduledSnapshot): number {
  const [, date = '', hour = ''] = /^(\d{4}-\d\d-\d\d)T(\d\d)\.00\.00Z$/.exec(name) ?? [];
  return Date.parse(`${date}T${hour}:00:00Z`);
}

/**
 * What is due now, if anything: the name is that of the current shortest interval, so that two devices that take one
 * at the same time give it the same name. The first snapshot of a longer interval is also that of the longer one.
 */
export function dueSnapshot(
  nowMs: number,
  policy: SnapshotPolicy,
  snapshots: readonly ScheduledSnapshot[],
): { readonly name: ByteString; readonly kind: AutomaticKind } | undefined {
  const wanted = kinds.filter((kind) => policy[kind] > 0);
  const [shortest] = wanted;
  if (shortest === undefined) return undefined;
  const name = snapshotName(startOf(shortest, nowMs), '');
  if (snapshots.some((snapshot) => snapshot.name === name)) return undefined;
  const isMissing = (kind: AutomaticKind): boolean => {
    const longer = kinds.slice(kinds.indexOf(kind)) as readonly SnapshotKind[];
    return !snapshots.some((snapshot) => longer.includes(snapshot.kind) && startOf(kind, timeOf(snapshot)) === startOf(kind, nowMs));
  };
  return { name, kind: wanted.findLast(isMissing) ?? shortest };
}

/** What need not be kept any more. What is held, and what a person has taken, always is. */
export function expiredSnapshots<T extends ScheduledSnapshot>(nowMs: number, policy: SnapshotPolicy, snapshots: readonly T[]): T[] {
  return snapshots.filter((snapshot) => {
    const { kind, isHeld } = snapshot;
    if (kind === 'manual' || isHeld) return false;
    // It also is the one of the shorter intervals within.
    const keptSec = Math.max(...kinds.slice(0, kinds.indexOf(kind) + 1).map((shorter) => policy[shorter]));
    return nowMs - timeOf(snapshot) > keptSec * 1000;
  });
}
