/**
 * The conformance probe: what a store really does, found by doing it. Some servers ignore a conditional put silently,
 * and two devices would then overwrite each other's commits; such a store is for one writer only (doc/stores.md, "What
 * each can do"). An honest store is measured here, not a hostile one: a store that lies to the probe is caught by the
 * commit log.
 *
 * It works under `probe/` with names of its own that nobody else uses, so it touches no other object, and takes away
 * what it made. Where deleting is not permitted it makes as little as it can, and leaves it: a few objects of 512
 * random bytes, which nothing ever reads.
 */

import type { Sealed } from '../base/brand.js';
import { equalBytes, toHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { FolderLack, ObjectStore, PutOptions, PutOutcome } from './object-store.js';
import { StoreError } from './object-store.js';

export interface ProbeReport {
  /**
   * Of concurrent conditional puts exactly one won, and its bytes stayed: by the server's own doing (`exact`), or by
   * ours (`by-claim`). `none`: the condition cannot be relied on.
   */
  readonly conditionalPut: 'exact' | 'by-claim' | 'none';
  /** A ranged get gives that range and nothing else. */
  readonly ranges: boolean;
  /** An object is there for a get as soon as its put was answered. */
  readonly readAfterWrite: boolean;
  /** A list shows an object as soon as its put was answered. */
  readonly listAfterWrite: boolean;
  /** A list is in ascending order and begins after the given key. */
  readonly listOrdered: boolean;
  /** `refused`: these credentials may not delete. `ignored`: what was deleted is still there. */
  readonly delete: 'works' | 'refused' | 'ignored';
  /** Many objects are deleted by one request; `undefined`: there was no way to tell. */
  readonly batchDelete: boolean | undefined;
  /** What the file system of a folder has not. */
  readonly lacks?: readonly FolderLack[];
  /**
   * Large objects are sent in parts, and a link that is cut loses a part only; `undefined`: not of this kind of store,
   * or not tried.
   */
  readonly resumablePuts?: boolean | undefined;
  /** What is removed stays as an old version: of this probe so many, of 512 bytes each. */
  readonly versionsLeft?: number | undefined;
  /** What is put cannot be removed for so many hours (Object Lock), nor can its old versions. */
  readonly retentionHours?: number | undefined;
  /** How long a small object takes, with little beside it: the median of a few, in milliseconds. */
  readonly putMs: number;
  readonly getMs: number;
}

/** What decides whether a volume can be used in the store, and by how many devices. */
export type ProbeVerdict = Pick<ProbeReport, 'conditionalPut' | 'ranges'>;

/** A store for one writer only: two would lose each other's work. */
export const isSingleWriter = (report: ProbeVerdict): boolean => report.conditionalPut === 'none';

export interface ProbeOptions {
  readonly clock?: Clock;
  readonly signal?: AbortSignal | undefined;
  /** Called as soon as this is known, which is well before the end: a device that enrols needs nothing else. */
  readonly onVerdict?: ((found: ProbeVerdict) => void) | undefined;
  /** Puts of one key at once, and how many keys. Default: 16 and 3. */
  readonly writers?: number;
  readonly rounds?: number;
}

const bodySize = 512;

/** Probes with a few dozen small requests. Throws {@link StoreError} when the store fails, or takes no writes. */
export async function probeStore(store: ObjectStore, random: Random, options: ProbeOptions = {}): Promise<ProbeReport> {
  const { signal, clock = systemClock, writers = 16, rounds = 3 } = options;
  const run = toHex(random.bytes(8));
  const keys: string[] = [];
  const freshKey = (): string => {
    const key = `probe/${run}-${keys.length.toString(16).padStart(2, '0')}`;
    keys.push(key);
    return key;
  };
  // Random bytes reveal nothing.
  const freshBody = (): Sealed => random.bytes(bodySize) as Sealed;
  const timed = async <T>(times: number[], work: () => Promise<T>): Promise<T> => {
    const startMs = clock.monotonicMs();
    const result = await work();
    times.push(clock.monotonicMs() - startMs);
    return result;
  };
  let created = 0;
  const put = async (key: string, body: Sealed, more: PutOptions): Promise<PutOutcome> => {
    const outcome = await store.put(key, body, { ...more, signal });
    if (outcome === 'created') created++;
    return outcome;
  };
  const puts: number[] = [];
  const gets: number[] = [];
  let removed = false;
  try {
    // What does not wait for another answer goes at once: over a network a probe is round trips.
    const first = freshKey();
    const body = freshBody();
    await timed(puts, () => put(first, body, { ifAbsent: true }));
    const [whole, ranges] = await settled([
      timed(gets, () => store.get(first, { sizeMax: bodySize, signal })),
      rangesWork(store, first, body, signal),
    ]);
    let readAfterWrite = whole !== undefined && equalBytes(whole, body);
    // Known before more is made that could not be taken away.
    const isDeleteTaken = await tryDelete(store, first);

    let exact = true;
    const race = async (): Promise<void> => {
      const key = freshKey();
      const bodies = Array.from({ length: writers }, freshBody);
      const outcomes = await settled(bodies.map((one) => put(key, one, { ifAbsent: true })));
      const late = await timed(puts, () => put(key, freshBody(), { ifAbsent: true }));
      const stored = await timed(gets, () => store.get(key, { sizeMax: bodySize, signal }));
      const [winner, ...others] = bodies.filter((_, index) => outcomes[index] === 'created');
      if (!stored) readAfterWrite = false;
      if (!winner || others.length > 0 || late !== 'exists' || (stored && !equalBytes(stored, winner))) exact = false;
    };
    // A list has to be in order and to begin where it should: that takes two.
    const second = freshKey();
    const racing = settled([put(second, freshBody(), {}), race()]);
    racing.catch(() => {});
    let deleting: ProbeReport['delete'] = 'refused';
    try {
      if (isDeleteTaken) deleting = (await store.get(first, { sizeMax: bodySize, signal })) === undefined ? 'works' : 'ignored';
      if (deleting === 'works') await settled(Array.from({ length: rounds - 1 }, race));
    } finally {
      await racing;
    }
    const { claims } = (await store.traits?.()) ?? {};
    const conditionalPut = exact ? (claims ? 'by-claim' : 'exact') : 'none';
    options.onVerdict?.({ conditionalPut, ranges });

    const there = deleting === 'works' ? keys.slice(1) : keys;
    const [oldest = ''] = there;
    const [listed, later] = await settled([
      namesOf(store, run, undefined, signal),
      namesOf(store, run, oldest, signal),
      ...(deleting === 'works' ? [put(freshKey(), freshBody(), { inParts: true })] : []),
    ]);
    const listAfterWrite = there.every((made) => listed.includes(made));
    const ascending = listed.every((made, index) => made > (listed[index - 1] ?? ''));
    const listOrdered = ascending && later.every((made) => made > oldest);

    if (deleting !== 'refused') {
      await store.delete(keys);
      // What is gone already counts as removed.
      await store.delete(keys);
      removed = true;
      const left = await settled(keys.map((made) => store.get(made, { sizeMax: bodySize, signal })));
      if (left.some((bytes) => bytes !== undefined)) deleting = 'ignored';
    }
    const traits = await store.traits?.();
    return {
      conditionalPut,
      ranges,
      readAfterWrite,
      listAfterWrite,
      listOrdered,
      delete: deleting,
      // Known once something was deleted.
      batchDelete: traits?.batchDelete,
      ...(traits?.lacks ? { lacks: traits.lacks } : {}),
      resumablePuts: traits?.resumablePuts,
      ...(traits?.keepsVersions === true ? { versionsLeft: created } : {}),
      retentionHours: traits?.retentionHours,
      putMs: median(puts),
      getMs: median(gets),
    };
  } finally {
    // The first error is the one to report; probe objects that stay behind do no harm.
    if (!removed) await store.delete(keys).catch(() => {});
  }
}

async function namesOf(store: ObjectStore, run: string, after: string | undefined, signal: AbortSignal | undefined): Promise<string[]> {
  const names: string[] = [];
  for await (const { key } of store.list('probe/', { ...(after === undefined ? {} : { after }), ...(signal ? { signal } : {}) })) {
    if (key.startsWith(`probe/${run}-`)) names.push(key);
  }
  return names;
}

/** Whether these credentials may delete. */
async function tryDelete(store: ObjectStore, key: string): Promise<boolean> {
  try {
    await store.delete([key]);
    return true;
  } catch (error) {
    if (error instanceof StoreError && (error.code === 'DENIED' || error.code === 'READ_ONLY')) return false;
    throw error;
  }
}

async function rangesWork(store: ObjectStore, key: string, body: Sealed, signal: AbortSignal | undefined): Promise<boolean> {
  const isAsAsked = async (offset: number, length: number): Promise<boolean> => {
    // A server that ignores ranges sends the whole body: the transport may refuse that, which is an answer as well.
    const part = await store.get(key, { range: { offset, length }, signal }).catch((error: unknown) => {
      if (error instanceof StoreError && error.code === 'PROTOCOL') return undefined;
      throw error;
    });
    return part !== undefined && equalBytes(part, body.subarray(offset, offset + length));
  };
  const found = await settled([isAsAsked(0, 1), isAsAsked(100, 50), isAsAsked(bodySize - 10, 100), isAsAsked(bodySize, 1)]);
  return !found.includes(false);
}

/** As Promise.all, but nothing is under way any more when it rejects: what is taken away afterwards stays away. */
async function settled<T extends readonly unknown[] | []>(work: T): Promise<{ -readonly [Index in keyof T]: Awaited<T[Index]> }> {
  await Promise.allSettled(work);
  return Promise.all(work);
}

function median(times: readonly number[]): number {
  const sorted = times.toSorted((a, b) => a - b);
  return Math.round((sorted[Math.floor(sorted.length / 2)] ?? 0) * 10) / 10;
}
