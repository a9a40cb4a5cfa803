/** Which states a collector must keep, as far as it knows (doc/collecting.md, "What is retained"). */
import type { AccountHead, SeenSnapshot } from './account-files.js';
import { type AccountedTree } from './accounting.js';
import { atLeast, elapsedMs, observed } from './observations.js';
import type { Retention } from './pack-account.js';

/** Now, by this collector's clocks. */
export interface Moment {
  /** Since 1970. */
  readonly wallMs: number;
  /** Since the last pass, if that was in this process. */
  readonly passedMs: number | undefined;
}

/**
 * The head after another pass. `newest`: the newest commit; `tree`: what is accounted now. A snapshot that is not there
 * any more is remembered for as long as it may have to hold something.
 */
export function headAfter(
  old: AccountHead | undefined,
  { wallMs, passedMs }: Moment,
  { newest, tree, snapshots }: { readonly newest: number; readonly tree: AccountedTree; readonly snapshots: readonly number[] },
): AccountHead {
  const passed = old ? elapsedMs(wallMs, old.wallMs, passedMs) : 0;
  const present = new Set(snapshots);
  const gone = (old?.snapshots ?? []).filter(({ sequence }) => !present.has(sequence));
  return {
    ...tree,
    wallMs,
    observations: observed(old?.observations ?? [], passed, { head: newest, accounted: tree.covers }),
    snapshots: [
      ...snapshots.map((sequence): SeenSnapshot => ({ sequence, goneMs: undefined })),
      ...gone.map(({ sequence, goneMs }) => ({ sequence, goneMs: (goneMs ?? 0) + (goneMs === undefined ? 0 : passed) })),
    ].toSorted((a, b) => a.sequence - b.sequence),
  };
}

/** `windowMs`: for how long every state is kept; 0: only the newest one is. */
export function retentionOf({ covers, observations, snapshots }: AccountHead, windowMs: number): Retention {
  return {
    from: windowMs === 0 ? covers : (atLeast(observations, windowMs)?.accounted ?? 0),
    snapshots: snapshots.filter(({ goneMs = 0 }) => goneMs === 0 || goneMs < windowMs).map(({ sequence }) => sequence),
  };
}
