/**
 * Turns what the layers throw into how a command ends: a {@link Failure} with one line that says what to do. It is the
 * command line's counterpart of daemon/errno.ts, and equally exhaustive. An error that it does not know is reported as
 * a defect.
 */
import { describeError } from '../base/errors.js';
import { RepairError } from '../check/repair-error.js';
import { SalvageError } from '../check/salvage-error.js';
import type { CommitErrorCode } from '../commit/commit-error.js';
import { CommitError } from '../commit/commit-error.js';
import type { CryptoErrorCode } from '../crypto/crypto-error.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { FuseErrorCode } from '../fuse/fuse-error.js';
import { FuseError } from '../fuse/fuse-error.js';
import type { JournalErrorCode } from '../journal/journal-error.js';
import { JournalError } from '../journal/journal-error.js';
import type { PackErrorCode } from '../pack/pack-error.js';
import { PackError } from '../pack/pack-error.js';
import { ServerError } from '../server/server-error.js';
import { StoreLocationError } from '../store/location-url.js';
import type { StoreErrorCode } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';
import type { FailureCode } from '../terminal/exit-code.js';
import { Failure } from '../terminal/exit-code.js';
import { TreeError } from '../tree/tree-error.js';
import { VolumeError, type VolumeErrorCode } from '../volume/volume-error.js';

/** The exit code, and the advice that is added to the message of the error itself. */
type Ending = readonly [code: FailureCode, advice?: string];

const storeEndings: Readonly<Record<StoreErrorCode, Ending>> = {
  UNAVAILABLE: ['STORE', 'try again when the store can be reached'],
  DENIED: ['STORE', 'the store must be readable and writable for you'],
  REFUSED: ['STORE'],
  FULL: ['STORE', 'make room in the store and try again'],
  READ_ONLY: ['STORE', 'the store takes no writes; "mount --read-only" needs none'],
  NOT_A_STORE: ['NOT_A_VOLUME', 'check the place, or make a volume there with "sealdrive init"'],
  PROTOCOL: ['STORE', 'what is in the store, or answers for it, is not as Sealdrive made it'],
};

const cryptoEndings: Readonly<Record<CryptoErrorCode, Ending>> = {
  NOT_AUTHENTIC: ['INTEGRITY', 'an object of the store is damaged or was exchanged; restore it from a copy of the store'],
  MALFORMED: ['INTEGRITY', 'an object of the store is damaged; restore it from a copy of the store'],
  UNSUPPORTED_VERSION: ['NEWER_FORMAT', 'this volume needs a newer Sealdrive: update it'],
  KDF_OUT_OF_BOUNDS: ['INTEGRITY', 'a keyslot asks for an unsafe amount of work: it was not made by Sealdrive'],
  KDF_FAILED: ['MACHINE', 'opening a keyslot needs memory (256 MiB by default): free some'],
  WRONG_SECRET: ['LOCKED', 'check it and try again; nothing was changed'],
  WEAK_SECRET: ['USAGE', 'choose a longer one; nothing was changed'],
};

const fuseEndings: Readonly<Record<FuseErrorCode, Ending>> = {
  NO_ADDON: ['MACHINE', '"sealdrive doctor" shows how to build it'],
  NO_DEVICE: ['MACHINE', '"sealdrive doctor" shows what to do'],
  NO_HELPER: ['MACHINE', 'install the package fuse3'],
  PERMISSION: ['MACHINE', '"sealdrive doctor" shows what is needed'],
  MOUNT_POINT: ['MOUNT_POINT', 'give an empty directory of your own'],
  BUSY: ['MOUNT_POINT', 'close what is open on the drive, or use --force'],
  STALE: ['MOUNT_POINT', 'mount again, which recovers it'],
  TIMEOUT: ['MOUNT_POINT', 'try again, or use --force'],
  PROTOCOL: ['MACHINE', 'the kernel speaks a FUSE protocol that Sealdrive does not know'],
  CLOSED: ['MOUNT_POINT', 'somebody unmounted it while it was being mounted'],
  INTERRUPTED: ['INTERRUPTED'],
  SYSTEM: ['MACHINE', '"sealdrive doctor" may show why'],
};

const volumeEndings: Readonly<Record<VolumeErrorCode, Ending>> = {
  UNAVAILABLE: ['STORE', 'try again when the store can be reached'],
  REFUSED: ['STORE'],
  FENCED: [
    'INTEGRITY',
    'the history in the store does not fit what this device has seen; nothing was changed; unmount, and "sealdrive rejoin" says more',
  ],
  CORRUPT: ['INTEGRITY', 'an object of the store is damaged or missing; restore it from a copy of the store'],
  FULL: ['LOCAL_DISK', 'make room on the disk that holds the state directory'],
  DISK: ['LOCAL_DISK', 'the disk that holds the state directory failed; look after it, and mount again'],
  READ_ONLY: ['STORE', 'the volume is open for reading only'],
  CLOSED: ['IN_USE', 'the drive is being unmounted'],
  INTERRUPTED: ['INTERRUPTED'],
  NO_DESCRIPTORS: ['MACHINE', 'allow more open files ("ulimit -n", LimitNOFILE= of the service)'],
  NO_MEMORY: ['MACHINE', 'allow it more memory, or make some free'],
};

const damagedObject = 'an object of the store is damaged or was exchanged; restore it from a copy of the store';
const putBack = '"sealdrive repair" on a device that knows it puts it back; else restore it from a copy of the store, or "sealdrive rejoin"';
const rejoin = 'if you know why (the store was restored from a copy, or two sync clients met), "sealdrive rejoin" goes on with it';
const doubtfulHistory = `the store shows another history than this device has seen: it was rolled back, or someone forged it; nothing was changed; ${rejoin}`;
const goneHistory = `the store does not show what this device has seen: it was rolled back, or lost it; nothing was changed; ${putBack}`;

const commitEndings: Readonly<Record<CommitErrorCode, Ending>> = {
  ROLLBACK: ['INTEGRITY', goneHistory],
  OWN_COMMIT_MISSING: ['INTEGRITY', goneHistory],
  FORK: ['INTEGRITY', doubtfulHistory],
  NOT_AUTHENTIC: ['INTEGRITY', damagedObject],
  MALFORMED: ['INTEGRITY', damagedObject],
  BAD_LINK: ['INTEGRITY', damagedObject],
  BAD_SIGNATURE: ['INTEGRITY', damagedObject],
  MISSING: ['INTEGRITY', `nothing was changed; ${putBack}`],
  UNSETTLED: ['STORE', 'the store is being filled or changed by somebody else, such as a sync client: try again later'],
  NOT_ADMITTED: ['LOCKED', 'unlock it once with a keyslot of the owner, or mount with --read-only; nothing was changed'],
  NO_ROOM: ['STORE', 'mount with --read-only, or copy the files into a new volume; nothing was changed'],
  NOT_PERMITTED: ['STORE', 'mount with --read-only; nothing was changed'],
  UNSUPPORTED: ['NEWER_FORMAT', 'this volume needs a newer Sealdrive: update it; nothing was changed'],
  BAD_STATE: ['INTEGRITY', 'the state directory of this device is damaged; mount with another --state-dir to start anew from the store'],
};

const journalEndings: Readonly<Record<JournalErrorCode, Ending>> = {
  FULL: ['LOCAL_DISK', 'make room on the disk that holds the state directory'],
  IO: ['LOCAL_DISK', 'the disk that holds the state directory failed'],
  CORRUPT: [
    'INTEGRITY',
    'the journal of this device is damaged: work that was not in the store yet may be lost; keep the state directory for recovery',
  ],
  CLOSED: ['IN_USE', 'the drive is being unmounted'],
};

const packEndings: Readonly<Record<PackErrorCode, Ending>> = {
  FULL: ['LOCAL_DISK', 'make room on the disk that holds the state directory'],
  IO: ['LOCAL_DISK', 'the disk that holds the state directory failed'],
  MISSING: ['INTEGRITY', 'an object of the store is missing; restore it from a copy of the store'],
  NOT_AUTHENTIC: ['INTEGRITY', damagedObject],
  MALFORMED: ['INTEGRITY', damagedObject],
};

const repairEndings: Readonly<Record<RepairError['code'], Ending>> = {
  BEYOND_REPAIR: ['UNREADABLE', '"sealdrive check" shows which, and "sealdrive salvage" saves what is left'],
  RACING: ['IN_USE'],
  FORKED: [
    'INTEGRITY',
    'nothing is put back, since no commit is ever overwritten; to keep the history of this device, restore the store from a copy of that; to go on with ' +
      'the store as it is, keep a copy of the state directory and mount with another --state-dir',
  ],
};

const serverEndings: Readonly<Record<ServerError['code'], Ending>> = {
  TOKENS: ['LOCAL_DISK'],
  TLS: ['USAGE'],
  LISTEN: ['IN_USE', 'name another address with --listen (or --metrics)'],
};

const systemEndings: Readonly<Record<string, Ending>> = {
  ENOSPC: ['LOCAL_DISK', 'make room on the disk'],
  EDQUOT: ['LOCAL_DISK', 'your quota on the disk is used up'],
  EROFS: ['LOCAL_DISK', 'the disk takes no writes: name another place with --state-dir'],
  EACCES: ['LOCAL_DISK', 'its permissions do not allow it'],
  EPERM: ['LOCAL_DISK', 'its permissions do not allow it'],
  EIO: ['LOCAL_DISK', 'the disk reports an error'],
  EMFILE: ['MACHINE', 'too many files are open: raise "ulimit -n"'],
};

/** Any thrown value as the failure that the command ends with. */
export function explain(error: unknown): Failure {
  if (error instanceof Failure) return error;
  const [code, advice] = endingOf(error) ?? ['UNEXPECTED', 'this is a defect of Sealdrive; please report it'];
  // A store's message holds its cause already.
  const message = (error instanceof StoreError ? error.message : describeError(error)).replaceAll(/\s*\n\s*/g, ' ');
  if (advice === undefined) return new Failure(code, message, { cause: error });
  return new Failure(code, `${message}${/[.?!]$/.test(message) ? '' : ';'} ${advice}`, { cause: error });
}

function endingOf(error: unknown): Ending | undefined {
  if (error instanceof StoreLocationError) return ['USAGE', '"sealdrive init --help" shows examples'];
  // An error that waiting does not mend says what to do in its own message.
  if (error instanceof StoreError && error.code === 'UNAVAILABLE' && error.retryAfterMs === Infinity) return ['STORE'];
  if (error instanceof StoreError) return storeEndings[error.code];
  if (error instanceof CryptoError) return cryptoEndings[error.code];
  if (error instanceof CommitError) return commitEndings[error.code];
  if (error instanceof JournalError) return journalEndings[error.code];
  if (error instanceof PackError) return packEndings[error.code];
  if (error instanceof RepairError) return repairEndings[error.code];
  if (error instanceof SalvageError) return ['UNREADABLE', 'a copy of the store, or the state directory of another device, may still have it'];
  if (error instanceof TreeError) return ['INTEGRITY', damagedObject];
  if (error instanceof FuseError) return fuseEndings[error.code];
  if (error instanceof ServerError) return serverEndings[error.code];
  if (error instanceof VolumeError) return volumeEndings[error.code];
  if (error instanceof Error && 'syscall' in error && 'code' in error && typeof error.code === 'string') return systemEndings[error.code];
  return undefined;
}
