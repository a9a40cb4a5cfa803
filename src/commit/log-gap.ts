/**
 * Looks for holes in the log: numbers whose commit the store does not show, although it shows a later one or this
 * device has seen it (doc/security.md, "Holes in the log"). It compares names only, in a bounded number of requests
 * however long the log is; it opens no commit.
 *
 * The store lists first and is asked for single commits afterwards. A commit is put only on top of the one before it,
 * so whatever a list has shown proves that everything before it was there: what is absent when it is asked for later is
 * gone, and is not merely late.
 */
import type { Logger } from '../base/logger.js';
import type { Random } from '../base/random.js';
import { missingCommit } from './commit-error.js';
import type { StoredLog } from './stored-log.js';

export interface GapSearch {
  /** How many of the newest numbers must be listed. */
  readonly recentMax: number;
  /** How many of them are also asked for one by one, since a list may show objects that are not there. */
  readonly askedMax: number;
  /** This device has just read the commits from this number on. */
  readonly readFrom?: number;
  /** Chooses an older part of the log to search as well; without it only the recent part is searched. */
  readonly random?: Random;
}

/** At a start: one page of a list in most stores, and as many single requests as run side by side. */
export const startGaps = { recentMax: 900, askedMax: 32 };
/** While it runs: so often that the answers must be small. */
export const runningGaps = { recentMax: 64, askedMax: 0 };

interface GapFinding {
  /** The newest commit that is known here or listed. */
  readonly newest: number;
  /** A commit up to `newest` that the store does not show; `undefined` when none was found. */
  readonly missing: number | undefined;
  /** How many names in the log no holder of the keys has given. */
  readonly foreign: number;
}

/** The names that one search takes from the store, which may list for ever. */
const listedMax = 10_000;
/** A store that reads the whole folder for each list is not asked to list a log longer than this. */
const wholeListMax = 4096;
/** How many commits that no list has shown are asked for one by one. */
const unlistedMax = 128;
const olderUnlistedMax = 32;
const askedAtOnce = 32;

/**
 * Checks that the store shows the commits up to `head` and has no hole behind it. Names that are not of this volume are
 * ignored. Throws CommitError `MISSING`, StoreError.
 */
export async function checkGaps(stored: StoredLog, head: number, search: GapSearch, logger: Logger, signal?: AbortSignal): Promise<void> {
  const { newest, missing, foreign } = await findGap(stored, head, search, signal);
  if (foreign > 0) logger.warn('foreign objects lie in the log', { count: foreign });
  if (missing !== undefined) throw missingCommit(missing, newest);
  // A name in the list is not yet an object: the next poll will ask for this one.
  if (newest > head && !(await stored.has(head + 1, signal))) throw missingCommit(head + 1, newest);
}

async function findGap(stored: StoredLog, head: number, search: GapSearch, signal: AbortSignal | undefined): Promise<GapFinding> {
  const { recentMax, askedMax, readFrom = head + 1, random } = search;
  const from = Math.max(0, head - recentMax + 1);
  const older = random && from > 1 ? olderSpan(random, from, recentMax) : undefined;
  const isListed = !stored.listsWhole || head <= wholeListMax;
  const none: Listed = { numbers: new Set(), newest: 0, foreign: 0 };
  // This device knows that these existed, so they need not be listed first. No device can begin without the genesis.
  const first = new Set([0]);
  for (let at = Math.min(head, readFrom - 1); at > Math.max(0, head - askedMax); at--) first.add(at);
  const [recent, old, absent] = await Promise.all([
    isListed ? listNumbers(stored, from, Number.POSITIVE_INFINITY, signal) : none,
    isListed && older ? listNumbers(stored, older.from, older.to, signal) : none,
    firstAbsent(stored, [...first], signal),
  ]);
  const newest = Math.max(head, recent.newest);
  if (absent !== undefined) return { newest, missing: absent, foreign: recent.foreign };
  const asked: number[] = [];
  // The newest first, since they are the most likely to be needed.
  for (let at = newest; at >= from && asked.length < unlistedMax; at--) if (!recent.numbers.has(at) && !first.has(at)) asked.push(at);
  if (older) asked.push(...unlisted(older, old.numbers));
  return { newest, missing: await firstAbsent(stored, asked, signal), foreign: recent.foreign };
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

/** A random part of the log before `end`: a log that is too long to be searched each time is searched over time. */
function olderSpan(random: Random, end: number, length: number): Span {
  const bytes = random.bytes(6);
  const fraction = Buffer.from(bytes).readUIntLE(0, 6) / 2 ** 48;
  const from = 1 + Math.floor(fraction * Math.max(1, end - length));
  return { from, to: Math.min(end - 1, from + length - 1) };
}

function unlisted({ from, to }: Span, numbers: ReadonlySet<number>): number[] {
  const found: number[] = [];
  for (let at = from; at <= to && found.length < olderUnlistedMax; at++) if (!numbers.has(at)) found.push(at);
  return found;
}

async function listNumbers(stored: StoredLog, from: number, to: number, signal: AbortSignal | undefined): Promise<Listed> {
  const numbers = new Set<number>();
  let newest = 0;
  let listed = 0;
  let foreign = 0;
  for await (const sequence of stored.list(from, signal)) {
    if (++listed > listedMax) break;
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

async function firstAbsent(stored: StoredLog, asked: readonly number[], signal: AbortSignal | undefined): Promise<number | undefined> {
  for (let at = 0; at < asked.length; at += askedAtOnce) {
    const batch = asked.slice(at, at + askedAtOnce);
    const found = await Promise.all(batch.map((sequence) => stored.has(sequence, signal)));
    if (found.includes(false)) return batch[found.indexOf(false)];
  }
  return undefined;
}
