/** What went wrong below, in the words of this layer: every lower error becomes one that names the remedy. */
import { MalformedBytesError } from '../base/bytes.js';
import { diskErrorCode } from '../disk/disk.js';
import { JournalError } from '../journal/journal-error.js';
import { PackError } from '../pack/pack-error.js';
import { StoreError } from '../store/object-store.js';
import { TreeError } from '../tree/tree-error.js';
import { VolumeError } from './volume.js';

/** The VolumeError for an error of store, pack, tree or journal; anything else as it is. */
export function remedyOf(error: unknown): unknown {
  if (error instanceof StoreError) {
    if (error.code === 'FULL') return new VolumeError('FULL', 'the store is full', { cause: error });
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
  // What the disk itself threw: node:fs names the system call.
  if (error instanceof Error && 'syscall' in error) {
    if (['ENOSPC', 'EDQUOT', 'EFBIG'].includes(diskErrorCode(error) ?? ''))
      return new VolumeError('FULL', 'the local disk is full', { cause: error });
    return new VolumeError('DISK', 'the local disk failed', { cause: error });
  }
  return error;
}
