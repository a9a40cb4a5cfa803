/**
 * Looks for holes in the log: numbers whose commit the store does not show, although it shows a later one or a device has seen it (doc/security.md,
 * "Holes in the log"). It compares names only, in a bounded number of requests however long the log is; what the commits say is `commit-log.ts`.
 *
 * The store lists first and is asked for single commits afterwards. A commit is put only on top of the one before it, so whatever a list has shown
 * proves that everything before it was there: what is absent when it is asked for later is gone, and has not merely come late.
 */
import type { Random } from '../base/random.js';
import type { RootKeys } from '../crypto/volume-keys.js';
import type { ObjectStore } from '../store/object-store.js';
import { logKey, logPrefix, sequenceName, sequenceOfKey } from './log-name.js';

export interface GapSearch {
  readonly store: ObjectStore;
  readonly root: RootKeys;
  /** The newest commit that this device knows: the store must show this number and all before it. */
  readonly head: number;
  /** How many of the newest numbers must be listed. */
  readonly recentMax: number;
  /** How many of them are asked for besides, since a list may show what is not there. */
  readonly askedMax: number;
  /** From this number on this device has read them just now. */
  readonly readFrom?: number | undefined;
  /** For the choice of older numbers; undefined: only the recent ones are looked at. */
  readonly random: Random | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface GapFinding {
  /** The newest commit that is known here or listed. */
  readonly newest: number;
  /** A commit up to `newest` that the store does not show; undefined: none was found. */
  readonly missing: number | undefined;
  /** Names in the log that nobody with the keys has given. */
  readonly foreign: number;
}

/** Names that one look takes from the store: it may list for ever. */
const listedMax = 10_000;
/** A store that reads the whole folder for each list is not asked to list a log that is longer than this. */
const wholeListMax = 4096;
/** Commits that no list has shown and that are asked for one by one. */
const unlistedMax = 128;
const olderUnlistedMax = 32;
const askedAtOnce = 32;

/** Throws StoreError. */
export async function findGap(search: GapSearch): Promise<GapFinding> {
  const { store, head, recentMax, askedMax, readFrom = head + 1, random } = search;
  const from = Math.max(0, head - recentMax + 1);
  const older = random && from > 1 ? olderSpan(random, from, recentMax) : undefined;
  const isListed = !store.listsWhole || head <= wholeListMax;
  const none: Listed = { numbers: new Set(), newest: 0, foreign: 0 };
  // What was there once need not be listed first. Nobody can begin without the genesis.
  const first = new Set([0]);
  for (let at = Math.min(head, readFrom - 1); at > Math.max(0, head - askedMax); at--) first.add(at);
  const [recent, old, absent] = await Promise.all([
    isListed ? listNumbers(search, from, Number.POSITIVE_INFINITY) : none,
    isListed && older ? listNumbers(search, older.from, older.to) : none,
    firstAbsent(search, [...first]),
  ]);
  const newest = Math.max(head, recent.newest);
  if (absent !== undefined) return { newest, missing: absent, foreign: recent.foreign };
  const asked: number[] = [];
  // The newest first: they are the ones that are most likely to be needed.
  for (let at = newest; at >= from && asked.length < unlistedMax; at--) if (!recent.numbers.has(at) && !first.has(at)) asked.push(at);
  if (older) for (const at of unlisted(older, old.numbers)) asked.push(at);
  return { newest, missing: await firstAbsent(search, asked), foreign: recent.foreign };
}

/** Whether the store has something under the number. Throws StoreError. */
export async function showsCommit({ store, root, signal }: Pick<GapSearch, 'store' | 'root' | 'signal'>, sequence: number): Promise<boolean> {
  // A byte of it and not its head, after which HTTP clients close their connection.
  const range = { offset: 0, length: 1 };
  return (await store.get(logKey(root, sequence), { range, ...(signal ? { signal } : {}) })) !== undefined;
}

interface Span {
  readonly from: number;
  readonly to: number;
}

interface Listed {
  readonly numbers: ReadonlySet<number>;
  readonly newest: number;
  readonly foreign: number;
}

/** A part of the log before `end`, another one each time: what is too long to be looked at each time is looked at over time. */
function olderSpan(random: Random, end: number, length: number): Span {
  const [a, b, c, d, e, f] = random.bytes(6);
  const fraction = (a + b * 2 ** 8 + c * 2 ** 16 + d * 2 ** 24 + e * 2 ** 32 + f * 2 ** 40) / 2 ** 48;
  const from = 1 + Math.floor(fraction * Math.max(1, end - length));
  return { from, to: Math.min(end - 1, from + length - 1) };
}

function unlisted({ from, to }: Span, numbers: ReadonlySet<number>): number[] {
  const found: number[] = [];
  for (let at = from; at <= to && found.length < olderUnlistedMax; at++) if (!numbers.has(at)) found.push(at);
  return found;
}

async function listNumbers({ store, root, signal }: GapSearch, from: number, to: number): Promise<Listed> {
  const numbers = new Set<number>();
  let newest = 0;
  let listed = 0;
  let foreign = 0;
  // Behind every name of the number before.
  const after = from > 0 ? { after: `${logPrefix}${sequenceName(from - 1)}-${'z'.repeat(12)}` } : {};
  for await (const { key } of store.list(logPrefix, { ...after, ...(signal ? { signal } : {}) })) {
    if (++listed > listedMax) break;
    const sequence = sequenceOfKey(root, key);
    if (sequence === undefined) {
      foreign++;
      continue;
    }
    if (sequence > to) break;
    numbers.add(sequence);
    newest = Math.max(newest, sequence);
  }
  return { numbers, newest, foreign };
}

async function firstAbsent(search: GapSearch, asked: readonly number[]): Promise<number | undefined> {
  for (let at = 0; at < asked.length; at += askedAtOnce) {
    const some = asked.slice(at, at + askedAtOnce);
    const found = await Promise.all(some.map((sequence) => showsCommit(search, sequence)));
    if (found.includes(false)) return some[found.indexOf(false)];
  }
  return undefined;
}
