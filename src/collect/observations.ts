/**
 * What this collector has seen of the log, and how long ago by its own clock (doc/collecting.md, "The accounting"):
 * times in commits decide nothing.
 */
export interface Observation {
  /** The newest commit at that time. */
  readonly head: number;
  /** The step of the accounted tree. */
  readonly accounted: number;
  readonly ageMs: number;
}

export const dayMs = 24 * 3_600_000;
/** After a restart the wall clock may have been set: no pause counts more than this. */
const pauseMaxMs = 2 * dayMs;
/** Observations are kept this far apart, and apart by this share of their age. */
const spacingMs = 10 * 60_000;
const spacingShare = 0.05;
/** Older ones are dropped, but for one. */
const keptMs = 400 * dayMs;

/** The time since the last pass, of which only the wall clock's word is known when that was in another process. */
export const elapsedMs = (nowMs: number, lastMs: number, monotonicMs: number | undefined): number =>
  monotonicMs ?? Math.min(pauseMaxMs, Math.max(0, nowMs - lastMs));

/** The list, oldest first, `passedMs` later, with a new one; thinned so that it stays short and old ones stay. */
export function observed(list: readonly Observation[], passedMs: number, { head, accounted }: Omit<Observation, 'ageMs'>): Observation[] {
  const aged = list.map((one) => ({ ...one, ageMs: one.ageMs + passedMs }));
  const firstKept = Math.max(
    0,
    aged.findLastIndex(({ ageMs }) => ageMs > keptMs),
  );
  const kept: Observation[] = [];
  for (const one of [...aged.slice(firstKept), { head, accounted, ageMs: 0 }]) {
    const last = kept.at(-1);
    if (!last || last.ageMs - one.ageMs >= Math.max(spacingMs, spacingShare * one.ageMs)) kept.push(one);
  }
  return kept;
}

/** The newest observation that is at least so old. */
export const atLeast = (list: readonly Observation[], ageMs: number): Observation | undefined => list.findLast((one) => one.ageMs >= ageMs);
