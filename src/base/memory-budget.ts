/**
 * How a mount shares out the memory that it may take (`--memory`): the one table of it. Whoever keeps something in
 * memory is given its bound from here. It counts what grows with use, not the program itself, nor what unlocking takes
 * for a moment (doc/architecture.md, "Memory").
 */
import { assert } from './assert.js';

const MiB = 1024 * 1024;

/** With less, single requests and chunks would not fit into their shares. Bytes. */
export const memoryMin = 64 * MiB;
/** More than this is taken only when it is asked for: the kernel's page cache makes better use of the rest. Bytes. */
export const memoryUsualMax = 384 * MiB;

/** In 48ths of the whole; together they are the whole. */
const shares = {
  /** Opened chunks of files. */
  chunks: 8,
  /** Sealed content that small reads brought along. */
  contentWindows: 3,
  /** Sealed pages that small reads brought along. */
  pageWindows: 1,
  /** Decoded pages of the tree. */
  treePages: 6,
  /** Written content that is not sealed yet: beyond it, writers wait. */
  dirty: 8,
  /** Operations that are in no commit yet: beyond it, applications wait. */
  operations: 16,
  /** Committed changes that are not folded into the tree yet. */
  overlay: 2,
  /** Answers of the store and packs on their way to it. */
  requests: 4,
} as const;

export type MemoryShare = keyof typeof shares;

export interface MemoryBudget {
  readonly totalBytes: number;
  /** Bytes. */
  readonly shares: Readonly<Record<MemoryShare, number>>;
  /**
   * Bytes that are fetched ahead for all readers together: a part of `chunks`, where they must still be when the
   * readers come to them.
   */
  readonly readAheadBytes: number;
  /** Requests that bring or send some MiB each, at once. */
  readonly largeRequests: number;
  /** Requests of all sizes that read, and those that write, at once, unless an option says otherwise. */
  readonly reads: number;
  readonly writes: number;
}

/** A longer queue would only make the store further behind what applications did. Bytes. */
const operationsMax = 128 * MiB;
/** A larger overlay would only make others read more commits when they mount. Bytes. */
const overlayMax = 16 * MiB;
const readAheadShare = 5 / 8;
/** An answer or a pack's part with what it is turned into. */
const largeRequestBytes = 8 * MiB;
/** Reads are bounded by the kernel at 1 MiB. */
const readBytes = 1.25 * MiB;
const writeBytes = 4 * MiB;
/** Enough to fill a link with 30 ms of round trip, and few enough for a small server. */
export const readsUsual = 24;
export const writesUsual = 8;

/** `totalBytes`: at least {@link memoryMin}. */
export function budgetOf(totalBytes: number): MemoryBudget {
  assert(totalBytes >= memoryMin, 'a mount has the memory that it needs');
  const share = (name: MemoryShare, max = Infinity): number => Math.min(max, Math.floor((totalBytes / 48) * shares[name]));
  const requests = share('requests');
  const chunks = share('chunks');
  return {
    totalBytes,
    shares: {
      chunks,
      contentWindows: share('contentWindows'),
      pageWindows: share('pageWindows'),
      treePages: share('treePages'),
      dirty: share('dirty'),
      operations: share('operations', operationsMax),
      overlay: share('overlay', overlayMax),
      requests,
    },
    readAheadBytes: Math.floor(chunks * readAheadShare),
    largeRequests: Math.max(1, Math.floor(requests / largeRequestBytes)),
    reads: Math.min(readsUsual, Math.floor(requests / readBytes)),
    writes: Math.min(writesUsual, Math.max(2, Math.floor(requests / writeBytes))),
  };
}

/** What a mount on a machine with enough memory takes. */
export const usualBudget = budgetOf(memoryUsualMax);
