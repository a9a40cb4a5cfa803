/** Which states a collector must keep, as far as it knows (doc/collecting.md, "What is retained"). */
import type { AccountHead, SeenSnapshot } from './account-files.js';
import type { AccountedTree } from './accounting.js';
import { atLeast, dayMs, elapsedMs, observed } from './observations.js';
import type { Retention } from './pack-account.js';

/** No window is longer than what is remembered of a snapshot that is gone. */
const rememberedMs = 400 * dayMs;

/** Now, by this collector's clocks. */
export interface Moment {
  /** Since 1970. */
  readonly wallMs: number;
  /** Since the last pass, if that was in this process. */
  readonly passedMs: number | undefined;
}

export interface AccountingFacts {
  /** The newest commit. */
  readonly newest: number;
  readonly tree: AccountedTree;
  readonly step: number;
  /** The ids of the trees of all snapshots that there are. */
  readonly snapshots: ReadonlySet<string>;
  /** At which step trees of snapshots were accounted, by id. */
  readonly steps: ReadonlyMap<string, number>;
}

/** The head after another pass. A snapshot that is gone is remembered, since it may have to hold something. */
export function headAfter(old: AccountHead | undefined, { wallMs, passedMs }: Moment, facts: AccountingFacts): AccountHead {
  const { newest, tree, step, snapshots, steps } = facts;
  const passed = old ? elapsedMs(wallMs, old.wallMs, passedMs) : 0;
  const goneBefore = new Map(old?.snapshots.map((one) => [one.tree, one.goneMs]));
  const seen: SeenSnapshot[] = [];
  for (const [id, at] of steps) {
    if (snapshots.has(id)) seen.push({ tree: id, step: at, goneMs: undefined });
    else if (goneBefore.has(id)) {
      const before = goneBefore.get(id);
      const goneMs = before === undefined ? 0 : before + passed;
      if (goneMs <= rememberedMs) seen.push({ tree: id, step: at, goneMs });
    }
  }
  return { ...tree, step, wallMs, observations: observed(old?.observations ?? [], passed, { head: newest, accounted: step }), snapshots: seen };
}

/** `windowMs`: for how long every state is kept; 0: only the newest one is. */
export function retentionOf({ step, observations, snapshots }: AccountHead, windowMs: number): Retention {
  return {
    from: windowMs === 0 ? step : (atLeast(observations, windowMs)?.accounted ?? 0),
    // One that was removed may have been so by somebody who had no right to.
    snapshots: snapshots.filter(({ goneMs }) => goneMs === undefined || goneMs < windowMs).map((one) => one.step),
  };
}
