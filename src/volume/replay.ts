/**
 * Restores the state after the last daemon ended, however it ended: what the journal holds, which of its operations are
 * still pending, and the packs that they need (doc/concurrency.md, "Replay"). It decodes no entries: `journal-entry.ts`
 * does.
 */
import type { MaybePromise } from '../base/maybe-promise.js';
import { withPages } from '../base/page-fault.js';
import type { Journal } from '../journal/journal.js';
import { type DataExtent, runEnd } from '../meta/extent.js';
import { counterOf, deviceIndexOf } from '../meta/key.js';
import { broughtContent, type Operation } from '../operation/operation.js';
import { execute } from '../operation/operation-execute.js';
import { contentHash } from '../pack/item.js';
import type { PackId } from '../pack/pack-id.js';
import type { PackItem } from '../pack/pack-index.js';
import { type BaseEntry, type DirtyEntry, decodeJournalEntry } from './journal-entry.js';
import type { PendingOperation } from './pending-layers.js';
import type { Staging } from './staging.js';
import type { Counters, VolumeState } from './volume-state.js';

export interface Remembered {
  /** The base of the pending operations; undefined when the journal is empty. */
  readonly base: BaseEntry | undefined;
  readonly operations: readonly RememberedOperation[];
  /** The first occurrences of operations that gave files content in packs. */
  readonly writes: readonly RememberedOperation[];
  /**
   * Ranges of journal positions (`to` exclusive) in which, after a power loss, neither dirty data nor operations that
   * end it count.
   */
  readonly lost: readonly { readonly from: number; readonly to: number }[];
  /** Dirty data before this position has other numbers since, and was repeated. */
  readonly dirtyFrom: number;
  /** The newest serial or stamp in the journal. */
  readonly serialMax: number;
}

export interface RememberedOperation extends PendingOperation {
  /** Its position in the journal. */
  readonly position: number;
}

/**
 * Reads the whole journal without keeping dirty data, which {@link replayContent} finds again. Throws JournalError,
 * MalformedBytesError.
 */
export async function readJournal(journal: Pick<Journal, 'entries'>): Promise<Remembered> {
  let base: BaseEntry | undefined;
  let operations: RememberedOperation[] = [];
  let moved: RememberedOperation[] = [];
  let writes: RememberedOperation[] = [];
  let lost: Remembered['lost'] = [];
  let resetPosition = -1;
  let dirtyFrom = 0;
  let serialMax = 0;
  for await (const { entry, position } of journal.entries()) {
    const decoded = decodeJournalEntry(entry);
    switch (decoded.type) {
      case 'base':
        base = decoded;
        serialMax = Math.max(serialMax, decoded.counter, decoded.committedSerial);
        if (decoded.reset !== 'none') resetPosition = position;
        if (decoded.reset === 'renewal') dirtyFrom = position;
        operations = decoded.reset !== 'none' ? moved : operations.filter((operation) => !hasLanded(operation, decoded));
        moved = [];
        break;
      case 'moved':
        if (!decoded.carried) serialMax = Math.max(serialMax, decoded.serial, stampOf(decoded.operation));
        if (decoded.isFirst) moved = [];
        moved.push({ serial: decoded.serial, operation: decoded.operation, carried: decoded.carried, position });
        break;
      case 'operation':
        serialMax = Math.max(serialMax, decoded.serial, stampOf(decoded.operation));
        operations.push({ serial: decoded.serial, operation: decoded.operation, position });
        if (position !== resetPosition && extentsOf(decoded.operation).length > 0)
          writes.push({ serial: decoded.serial, operation: decoded.operation, position });
        break;
      case 'dirty':
        break;
      case 'forget':
        ({ operations, writes, lost } = withoutLost({ operations, writes, lost }, decoded.serial, position));
        break;
    }
  }
  return { base, operations, writes, lost, dirtyFrom, serialMax };
}

const hasLanded = ({ serial, carried }: PendingOperation, { committedSerial, landed }: BaseEntry): boolean =>
  serial <= (carried ? (landed.get(carried.deviceIndex) ?? 0) : committedSerial);

/** Receives dirty data. */
export interface ContentTarget {
  restore(entry: DirtyEntry): MaybePromise<void>;
  /** An operation was replayed: the data that it sealed or cut is no longer dirty. */
  applied(operation: Operation): void;
}

/**
 * Restores the dirty data: reads the journal once more, in order, and keeps nothing of it. Throws JournalError,
 * MalformedBytesError, and what the target throws.
 */
export async function replayContent(
  journal: Pick<Journal, 'entries'>,
  { lost, dirtyFrom }: Pick<Remembered, 'lost' | 'dirtyFrom'>,
  target: ContentTarget,
): Promise<void> {
  let resetPosition = -1;
  for await (const { entry, position } of journal.entries()) {
    const decoded = decodeJournalEntry(entry);
    if (decoded.type === 'base' && decoded.reset !== 'none') resetPosition = position;
    if (position < dirtyFrom || lost.some(({ from, to }) => position >= from && position < to)) continue;
    if (decoded.type === 'dirty') await target.restore(decoded);
    // An operation that a rebase repeats has already taken effect at its first place; data written since is newer.
    else if (decoded.type === 'operation' && position !== resetPosition) target.applied(decoded.operation);
  }
}

/**
 * Removes the operation `serial`, whose content was lost to a power failure, and everything after it, up to position
 * `to`. If a rebase repeated it under another serial, the data that it sealed is dirty again from its first place on.
 */
export function withoutLost(
  { operations, writes, lost }: Pick<Remembered, 'operations' | 'writes' | 'lost'>,
  serial: number,
  to = Number.POSITIVE_INFINITY,
): { operations: RememberedOperation[]; writes: RememberedOperation[]; lost: Remembered['lost'] } {
  // What is carried has its content in the store.
  const isGone = (one: PendingOperation): boolean => !one.carried && one.serial >= serial;
  const gone = operations.find(isGone);
  if (!gone) return { operations: [...operations], writes: [...writes], lost };
  const places = new Set(extentsOf(gone.operation).map(placeOf));
  const first = writes.find(({ operation }) => extentsOf(operation).some((extent) => places.has(placeOf(extent))));
  const from = Math.min(gone.position, first?.position ?? gone.position);
  return {
    operations: operations.filter((operation) => !isGone(operation)),
    writes: writes.filter(({ position }) => position < from),
    lost: [...lost, { from, to }],
  };
}

/** Runs the pending operations on the state at their base, where they ran before. Returns how many. */
export async function replayOperations(state: VolumeState, operations: readonly PendingOperation[], counters: Counters): Promise<number> {
  const { deviceIndex } = counters;
  for (const pending of operations) {
    if (!pending.carried) counters.serial = Math.max(counters.serial, pending.serial, stampOf(pending.operation));
    for (const number of numbersIn(pending.operation)) {
      if (deviceIndexOf(number) === deviceIndex) counters.nextIno = Math.max(counters.nextIno, counterOf(number) + 1);
    }
    await runAgain(state, pending, deviceIndex);
  }
  return operations.length;
}

/** Runs a pending operation on a state on which it ran before. */
export function runAgain(state: VolumeState, pending: PendingOperation, deviceIndex: number): MaybePromise<void> {
  return withPages(() => {
    const transaction = state.transaction();
    const delta = execute(transaction, pending.operation, pending.carried?.deviceIndex ?? deviceIndex);
    state.apply(pending, transaction.changes, delta);
  });
}

/** The numbers of inodes and entries that an operation brings into the volume. */
export function numbersIn(operation: Operation): readonly number[] {
  switch (operation.type) {
    case 'create':
      return [operation.ino, operation.number ?? operation.ino];
    case 'link':
      return [operation.number];
    case 'rename':
      return operation.whiteoutIno === undefined ? [] : [operation.whiteoutIno];
    default:
      return [];
  }
}

/**
 * The serial of the first pending operation whose content a power failure took, if any: the journal may have reached
 * the disk before the staging pack did. Neither it nor anything after it had been synced, since a sync writes the packs
 * first. `isNamed`: whether a commit names the pack. An operation can share content that is in the store already.
 */
export async function firstLost(
  staging: Pick<Staging, 'intactEnd' | 'namelessPacks'>,
  operations: readonly PendingOperation[],
  isNamed: (id: PackId) => Promise<boolean>,
): Promise<number | undefined> {
  const intactEnd = new Map<PackId, number>();
  const stored = new Set(staging.namelessPacks.map(({ id }) => id));
  for (const [id, items] of itemsOf(operations)) {
    const end = stored.has(id) ? Number.POSITIVE_INFINITY : await staging.intactEnd(id, items);
    if (end !== Number.POSITIVE_INFINITY && !(await isNamed(id))) intactEnd.set(id, end);
  }
  const isLost = ({ operation, carried }: PendingOperation): boolean =>
    !carried && extentsOf(operation).some((extent) => runEnd(extent) > (intactEnd.get(extent.pack) ?? Number.POSITIVE_INFINITY));
  return operations.find(isLost)?.serial;
}

/**
 * Takes up the packs that hold content of pending operations: those whose files exist are finished and uploaded like
 * any other.
 */
export async function resumePacks(staging: Staging, operations: readonly PendingOperation[]): Promise<void> {
  for (const [id, items] of itemsOf(operations)) await staging.resume(id, items);
}

function extentsOf(operation: Operation): readonly DataExtent[] {
  return broughtContent(operation).map(({ extent }) => extent);
}

/** The place of sealed content: the same for an operation and its repetition. */
function placeOf(extent: DataExtent): string {
  return `${extent.pack} ${extent.packOffset}`;
}

/** The items that pending operations refer to in each pack, ascending. */
function itemsOf(operations: readonly PendingOperation[]): Map<PackId, readonly PackItem[]> {
  const items = new Map<PackId, Map<number, PackItem>>();
  for (const { operation } of operations) {
    for (const { ino, offset: at, extent } of broughtContent(operation)) {
      const known = items.get(extent.pack) ?? new Map<number, PackItem>();
      items.set(extent.pack, known);
      let offset = extent.packOffset;
      const owner = { ino, offset: Math.max(0, at - extent.skip) };
      for (const chunk of extent.chunks) {
        known.set(offset, { kind: 'chunk', offset, ...chunk, hash: contentHash(chunk), owner: { ...owner } });
        offset += chunk.sealedLength;
        owner.offset += chunk.plainLength;
      }
    }
  }
  return new Map([...items].map(([id, known]) => [id, [...known.values()].toSorted((a, b) => a.offset - b.offset)]));
}

/** The counter of the stamp that it gives; 0 without one. */
export function stampOf(operation: Operation): number {
  return 'stamp' in operation ? (operation.stamp?.counter ?? 0) : 0;
}
