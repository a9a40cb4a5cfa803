/**
 * Translates the errors of lower layers into VolumeErrors, each of which names the remedy (doc/architecture.md,
 * "Layers"). It handles none of them.
 */

import { MalformedBytesError } from '../base/bytes.js';
import { AnswerError } from '../base/errors.js';
import { diskErrorCode } from '../disk/disk.js';
import { isDiskFull } from '../disk/whole-file.js';
import { JournalError } from '../journal/journal-error.js';
import { PackError } from '../pack/pack-error.js';
import { StoreError } from '../store/object-store.js';
import { TreeError } from '../tree/tree-error.js';
import { VolumeError } from './volume-error.js';

/** The most nested causes that are examined. */
const causesMax = 8;

/** Whether this process has run out of descriptors or memory, in whichever layer: not the fault of a disk or store. */
export function exhaustionOf(error: unknown): 'NO_DESCRIPTORS' | 'NO_MEMORY' | undefined {
  for (let at = error, depth = 0; at instanceof Error && depth < causesMax; at = at.cause, depth++) {
    const code = diskErrorCode(at);
    if (code === 'EMFILE' || code === 'ENFILE') return 'NO_DESCRIPTORS';
    // V8 throws a RangeError when it gets no memory for a buffer, and libraries have their own messages.
    if (
      code === 'ENOMEM' ||
      code === 'ERR_MEMORY_ALLOCATION_FAILED' ||
      /allocation (failed|error)|not enough memory|out of memory/i.test(at.message)
    ) {
      return 'NO_MEMORY';
    }
  }
  return undefined;
}

/**
 * The VolumeError for an error of the store, a pack, the tree or the journal, or for a process that has run out of
 * something; any other error unchanged.
 */
export function remedyOf(error: unknown): unknown {
  // An everyday answer, such as "no such name", needs no further look.
  if (error instanceof VolumeError || error instanceof AnswerError) return error;
  const exhausted = exhaustionOf(error);
  if (exhausted === 'NO_DESCRIPTORS') return new VolumeError(exhausted, 'this process may not open more files', { cause: error });
  if (exhausted === 'NO_MEMORY') return new VolumeError(exhausted, 'this process gets no more memory', { cause: error });
  if (error instanceof StoreError) {
    if (error.code === 'FULL') return new VolumeError('FULL', 'the store is full', { cause: error });
    if (error.code === 'REFUSED' || error.code === 'DENIED') return new VolumeError('REFUSED', 'the store refuses', { cause: error });
    return new VolumeError('UNAVAILABLE', 'the store cannot be used now', { cause: error });
  }
  if (error instanceof PackError) {
    if (error.code === 'FULL') return new VolumeError('FULL', 'the local disk is full', { cause: error });
    if (error.code === 'IO') return new VolumeError('DISK', 'the local disk failed', { cause: error });
    return new VolumeError('CORRUPT', 'content of the volume is missing or damaged', { cause: error });
  }
  if (error instanceof TreeError || error instanceof MalformedBytesError)
    return new VolumeError('CORRUPT', 'the tree of the volume is damaged', { cause: error });
  if (error instanceof JournalError) {
    const code = error.code === 'IO' ? 'DISK' : error.code;
    return new VolumeError(code, 'the journal cannot be written', { cause: error });
  }
  // Errors of the disk itself: node:fs names the system call.
  if (error instanceof Error && 'syscall' in error) {
    if (isDiskFull(error)) return new VolumeError('FULL', 'the local disk is full', { cause: error });
    return new VolumeError('DISK', 'the local disk failed', { cause: error });
  }
  return error;
}

/** The outcome of `work`, with errors turned into VolumeErrors. */
export function remedied<Outcome>(work: () => Outcome): Outcome {
  try {
    const outcome = work();
    return outcome instanceof Promise ? (outcome.catch(throwRemedy) as Outcome) : outcome;
  } catch (error) {
    throw remedyOf(error);
  }
}

function throwRemedy(error: unknown): never {
  throw remedyOf(error);
}

/** The requested data is in the store but cannot be had now: callers that can go on without it do. */
export function isStoreUnusable(error: unknown): boolean {
  const remedy = remedyOf(error);
  return remedy instanceof VolumeError && (remedy.code === 'UNAVAILABLE' || remedy.code === 'REFUSED');
}
