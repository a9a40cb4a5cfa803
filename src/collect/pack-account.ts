/**
 * What a collector knows of one pack: which bytes are referred to and how often, and when others died
 * (doc/collecting.md, "The accounting").
 */
import { assert } from '../base/assert.js';
import { type ByteReader, type ByteWriter, MalformedBytesError } from '../base/bytes.js';

/** Bytes from `start` to `end` (exclusive) of a pack. */
export interface ByteSpan {
  readonly start: number;
  readonly end: number;
}

/** Bytes that are referred to `count` times. */
export interface CountedSpan extends ByteSpan {
  readonly count: number;
}

export interface PackAccount {
  /** The step at which it was accounted first: no tree that was accounted before it refers to it. */
  readonly birth: number;
  /** Ascending, apart, neighbours with different counts. */
  readonly live: readonly CountedSpan[];
  /** What was live once and is not any more, by the step at which it was found dead, ascending. */
  readonly dead: readonly { readonly death: number; readonly spans: readonly ByteSpan[] }[];
}

/** The states that are retained, beside the newest. */
export interface Retention {
  /** The tree that was accounted at this step, and all states since. */
  readonly from: number;
  /** The steps at which the trees of snapshots were accounted. */
  readonly snapshots: readonly number[];
}

/** The bytes of a pack. Their sum is its size. */
export interface PackShares {
  readonly live: number;
  readonly kept: number;
  readonly garbage: number;
}

/** The count of some bytes would fall below 0: what was accounted is not what the trees say. */
export class AccountError extends Error {
  override readonly name = 'AccountError';
}

/** Changes of counts of one pack, in any order. */
export class CountChanges {
  readonly #list: { start: number; end: number; delta: number }[] = [];

  add(start: number, end: number, delta: number): void {
    const last = this.#list.at(-1);
    // What was written together lies together.
    if (last && last.end === start && last.delta === delta) last.end = end;
    else this.#list.push({ start, end, delta });
  }

  get list(): readonly (ByteSpan & { readonly delta: number })[] {
    return this.#list;
  }
}

/**
 * The account after the changes, which lead to the tree of `step`. `before`: `undefined` for a pack that no tree before
 * it has referred to. Throws AccountError.
 */
export function accountAfter(before: PackAccount | undefined, changes: CountChanges, step: number): PackAccount {
  const { birth, live, dead } = before ?? { birth: step, live: [], dead: [] };
  const after: CountedSpan[] = [];
  const died: ByteSpan[] = [];
  const revived: ByteSpan[] = [];
  for (const { start, end, count, delta } of segmentsOf(live, changes.list)) {
    if (count + delta < 0) throw new AccountError(`bytes ${start} to ${end} are referred to less than never`);
    if (count + delta > 0) pushCounted(after, { start, end, count: count + delta });
    if (count > 0 && count + delta === 0) push(died, { start, end });
    if (count === 0 && delta > 0) push(revived, { start, end });
  }
  const stillDead = revived.length === 0 ? [...dead] : dead.flatMap(({ death, spans }) => withDead(death, without(spans, revived)));
  return { birth, live: after, dead: [...stillDead, ...withDead(step, died)] };
}

const withDead = (death: number, spans: readonly ByteSpan[]): PackAccount['dead'] => (spans.length > 0 ? [{ death, spans }] : []);

/** The account without deaths that nothing retained lies before: those bytes are garbage for good. */
export function pruned(account: PackAccount, retention: Retention): PackAccount {
  return { ...account, dead: account.dead.filter(({ death }) => isNeeded(account.birth, death, retention)) };
}

/** Whether a retained state may need what was born at the step `birth` and died at `death`. */
const isNeeded = (birth: number, death: number, { from, snapshots }: Retention): boolean =>
  death > from || snapshots.some((step) => step >= birth && step < death);

/** `size`: of the pack. */
export function sharesOf({ birth, live, dead }: PackAccount, size: number, retention: Retention): PackShares {
  const liveBytes = lengthOf(live);
  let kept = 0;
  let known = liveBytes;
  for (const { death, spans } of dead) {
    const length = lengthOf(spans);
    known += length;
    if (isNeeded(birth, death, retention)) kept += length;
  }
  const rest = Math.max(0, size - known);
  // What was never live is needed by no tree, but perhaps by a state between two.
  if (birth > retention.from) kept += rest;
  return { live: liveBytes, kept, garbage: Math.max(0, size - liveBytes - kept) };
}

const lengthOf = (spans: readonly ByteSpan[]): number => spans.reduce((sum, { start, end }) => sum + end - start, 0);

interface Segment extends CountedSpan {
  readonly delta: number;
}

/** Cuts the bytes at every bound of either list: the count of each piece, and the sum of its changes. */
function* segmentsOf(live: readonly CountedSpan[], changes: CountChanges['list']): Generator<Segment, void> {
  const bounds = new Map<number, { count: number; delta: number }>();
  const at = (place: number): { count: number; delta: number } => {
    const known = bounds.get(place) ?? { count: 0, delta: 0 };
    bounds.set(place, known);
    return known;
  };
  for (const { start, end, count } of live) {
    at(start).count += count;
    at(end).count -= count;
  }
  for (const { start, end, delta } of changes) {
    at(start).delta += delta;
    at(end).delta -= delta;
  }
  let [count, delta] = [0, 0];
  let from: number | undefined;
  for (const place of Float64Array.from(bounds.keys()).toSorted()) {
    if (from !== undefined && (count !== 0 || delta !== 0)) yield { start: from, end: place, count, delta };
    const bound = bounds.get(place);
    assert(bound, 'each place is a bound');
    count += bound.count;
    delta += bound.delta;
    from = place;
  }
}

function pushCounted(spans: CountedSpan[], { start, end, count }: CountedSpan): void {
  const last = spans.at(-1);
  if (last && last.end === start && last.count === count) spans[spans.length - 1] = { ...last, end };
  else spans.push({ start, end, count });
}

function push(spans: ByteSpan[], { start, end }: ByteSpan): void {
  const last = spans.at(-1);
  if (last && last.end === start) spans[spans.length - 1] = { start: last.start, end };
  else spans.push({ start, end });
}

/** `spans` without the bytes of `removed`; both ascend. */
function without(spans: readonly ByteSpan[], removed: readonly ByteSpan[]): ByteSpan[] {
  const left: ByteSpan[] = [];
  for (const span of spans) {
    let { start } = span;
    for (const hole of removed) {
      if (hole.end <= start || hole.start >= span.end) continue;
      if (hole.start > start) left.push({ start, end: hole.start });
      start = Math.max(start, hole.end);
    }
    if (start < span.end) left.push({ start, end: span.end });
  }
  return left;
}

/**
 * | field | encoding |
 * | --- | --- |
 * | birth | varint |
 * | live | list of: gap since the span before, length, count: varint each |
 * | dead | list of: death varint; list of: gap, length: varint each |
 */
export function writeAccount(writer: ByteWriter, { birth, live, dead }: PackAccount): void {
  writer.varint(birth).varint(live.length);
  let at = 0;
  for (const { start, end, count } of live) {
    writer
      .varint(start - at)
      .varint(end - start)
      .varint(count);
    at = end;
  }
  writer.varint(dead.length);
  for (const { death, spans } of dead) {
    writer.varint(death).varint(spans.length);
    at = 0;
    for (const { start, end } of spans) {
      writer.varint(start - at).varint(end - start);
      at = end;
    }
  }
}

/** Throws MalformedBytesError. */
export function readAccount(reader: ByteReader): PackAccount {
  const birth = reader.varint();
  const live = readSpans(reader, (span) => {
    const count = reader.varint();
    if (count < 1) throw new MalformedBytesError('live bytes that nothing refers to');
    return { ...span, count };
  });
  const dead = Array.from({ length: boundedCount(reader) }, () => ({ death: reader.varint(), spans: readSpans(reader, (span) => span) }));
  return { birth, live, dead };
}

function readSpans<T extends ByteSpan>(reader: ByteReader, complete: (span: ByteSpan) => T): T[] {
  let at = 0;
  return Array.from({ length: boundedCount(reader) }, () => {
    const start = at + reader.varint();
    at = start + reader.varint();
    if (at <= start) throw new MalformedBytesError('an empty span');
    return complete({ start, end: at });
  });
}

/** The count of a list whose entries take a byte at least. Throws MalformedBytesError. */
export function boundedCount(reader: ByteReader): number {
  const count = reader.varint();
  if (count > reader.remaining) throw new MalformedBytesError('an impossible count');
  return count;
}
