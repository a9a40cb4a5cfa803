/**
 * Finding the state again after the last daemon ended, however it ended: what the journal's entries say, which of its operations are
 * still pending, and the packs that they need (doc/concurrency.md, "Replay").
 */
import { PageFault } from '../base/page-fault.js';
import type { Journal } from '../journal/journal.js';
import { counterOf, deviceIndexOf } from '../meta/key.js';
import type { PackId } from '../pack/pack-id.js';
import type { PackItem } from '../pack/pack-index.js';
import type { Counters } from './committer.js';
import { type BaseEntry, type DirtyEntry, type OperationEntry, decodeJournalEntry } from './journal-entry.js';
import type { Operation } from './operation.js';
import { execute } from './operation-execute.js';
import type { Staging } from './staging.js';
import type { PendingOperation, VolumeState } from './volume-state.js';

export interface Remembered {
  /** What the pending operations stand on; undefined when the journal is empty. */
  readonly base: BaseEntry | undefined;
  readonly operations: readonly PendingOperation[];
  /** Dirty data, and every operation that may have made an end of some, in the journal's order. */
  readonly content: readonly (DirtyEntry | OperationEntry)[];
}

/** Reads the journal through. Throws JournalError, MalformedBytesError. */
export async function readJournal(journal: Journal): Promise<Remembered> {
  let base: BaseEntry | undefined;
  let operations: PendingOperation[] = [];
  const content: (DirtyEntry | OperationEntry)[] = [];
  for await (const { entry } of journal.entries()) {
    const decoded = decodeJournalEntry(entry);
    switch (decoded.type) {
      case 'base':
        base = decoded;
        operations = decoded.reset ? [] : operations.filter((operation) => operation.serial > decoded.committedSerial);
        break;
      case 'operation':
        operations.push({ serial: decoded.serial, operation: decoded.operation });
        content.push(decoded);
        break;
      case 'dirty':
        content.push(decoded);
        break;
    }
  }
  return { base, operations, content };
}

/** Runs the pending operations on the state at their base, where they ran before. Answers how many. */
export async function replayOperations(
  state: VolumeState,
  operations: readonly PendingOperation[],
  deviceIndex: number,
  counters: Counters,
): Promise<number> {
  for (const pending of operations) {
    counters.serial = Math.max(counters.serial, pending.serial, stampOf(pending.operation));
    if (pending.operation.type === 'create' && deviceIndexOf(pending.operation.ino) === deviceIndex) {
      counters.nextIno = Math.max(counters.nextIno, counterOf(pending.operation.ino) + 1);
    }
    for (;;) {
      const transaction = state.transaction();
      try {
        const delta = execute(transaction, pending.operation, deviceIndex);
        state.apply(pending, transaction.changes, delta);
        break;
      } catch (error) {
        if (!(error instanceof PageFault)) throw error;
        await error.load();
      }
    }
  }
  return operations.length;
}

/** Packs that pending operations put content into: those whose files are here are finished and uploaded like any other. */
export async function resumePacks(staging: Staging, operations: readonly PendingOperation[]): Promise<void> {
  const items = new Map<PackId, Map<number, PackItem>>();
  for (const { operation } of operations) {
    if (operation.type !== 'write') continue;
    for (const { extent } of operation.pieces) {
      if (extent.kind !== 'data') continue;
      const known = items.get(extent.pack) ?? new Map<number, PackItem>();
      items.set(extent.pack, known);
      let offset = extent.packOffset;
      for (const { sealedLength } of extent.chunks) {
        known.set(offset, { kind: 'chunk', offset, sealedLength });
        offset += sealedLength;
      }
    }
  }
  for (const [id, known] of items)
    await staging.resume(
      id,
      [...known.values()].sort((a, b) => a.offset - b.offset),
    );
}

function stampOf(operation: Operation): number {
  return 'stamp' in operation ? (operation.stamp?.counter ?? 0) : 0;
}
