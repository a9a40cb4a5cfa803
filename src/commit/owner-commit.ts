/**
 * Commits of the volume's owner, who is no device and keeps nothing: for commands that have just opened a keyslot with
 * the owner's seed, also while devices of the same machine have the volume mounted.
 */
import { equalBytes, toHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { Logger } from '../base/logger.js';
import { hashBytes } from '../crypto/hash.js';
import { Signer } from '../crypto/signature.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { ObjectStore } from '../store/object-store.js';
import { type ChainState, chainFromGenesis, extendChain, nextCommit } from './chain.js';
import { encodeCommit, padCommit } from './commit-codec.js';
import { CommitError } from './commit-error.js';
import { ownerId } from './enrolment.js';
import { requireReadable, requireWritable } from './features.js';
import type { Genesis } from './genesis.js';
import { checkGaps, startGaps } from './log-gap.js';
import { commitPlace } from './log-name.js';
import type { LogState } from './log-state.js';
import { findNewest, stateBeforeNewestCheckpoint } from './newest-checkpoint.js';
import { openCommit } from './open-commit.js';
import type { ProgramVersion } from './program-version.js';
import type { LogRecord } from './record.js';
import { StoredLog } from './stored-log.js';

export interface OwnerCommitOptions {
  readonly store: ObjectStore;
  readonly keys: VolumeKeys;
  readonly genesis: Genesis;
  /** 32 bytes, borrowed. */
  readonly ownerSeed: Uint8Array;
  readonly program: ProgramVersion;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What this machine has verified of the log, if anything: the store must show it. */
  readonly trusted: ChainState | undefined;
}

const windowMax = 16;

/**
 * Puts a commit with the records that `recordsFor` makes from the newest state of the log; without any, none is put.
 * Other devices may commit meanwhile: it is then called again. Throws CommitError, StoreError.
 */
export async function commitAsOwner(options: OwnerCommitOptions, recordsFor: (log: LogState) => readonly LogRecord[]): Promise<void> {
  const { store, keys, program, clock, logger } = options;
  const stored = new StoredLog(store, keys.root);
  const owner = new Signer(options.ownerSeed);
  const draft = { nextInoCounter: 0, operationSerial: 0, filesDelta: 0, bytesDelta: 0, packs: [], checkpoint: undefined, mutations: [] };
  try {
    for (let state = await beginning(options, stored); ; ) {
      const readFrom = state.head.sequence + 1;
      state = await follow(stored, keys, state);
      await checkGaps(stored, state.head.sequence, { ...startGaps, readFrom }, logger);
      requireReadable(state.log.features);
      requireWritable(state.log.features);
      const records = recordsFor(state.log);
      if (records.length === 0) return;
      const fields = nextCommit(state, ownerId, program, { ...draft, wallTimeMs: clock.now().sec * 1000 }, records);
      const { sequence, previousHash } = fields;
      const encoded = encodeCommit(fields, keys.volumeId, (message) => owner.sign(message));
      const sealed = keys.current.commit.seal(commitPlace(sequence, previousHash), padCommit(encoded));
      const extension = extendChain(state, openCommit(keys, sealed, sequence, previousHash));
      if (extension.void) throw new CommitError('NOT_PERMITTED', `the owner cannot write this: ${extension.void.reason}`, { sequence });
      if (await stored.put(sequence, sealed)) return;
    }
  } finally {
    owner.wipe();
  }
}

/** Where to begin to read: at what this machine knows, at the newest checkpoint, or at the genesis. */
async function beginning({ keys, genesis, trusted }: OwnerCommitOptions, stored: StoredLog): Promise<ChainState> {
  if (trusted) {
    const { sequence, hash } = trusted.head;
    const sealed = await stored.fetch(sequence);
    if (sealed && equalBytes(hashBytes(sealed), hash)) return trusted;
    const message = sealed ? `the store shows another commit ${sequence} than it did` : `commit ${sequence} is gone: the store went back`;
    throw new CommitError(sealed ? 'FORK' : 'ROLLBACK', message, { sequence, expectedHash: toHex(hash) });
  }
  const newest = await findNewest(stored);
  if (newest === 0) throw new CommitError('MISSING', 'the store shows no commit of the volume', { sequence: 1 });
  return (await stateBeforeNewestCheckpoint(stored, keys, genesis.ownerKey, newest)) ?? chainFromGenesis(keys.volumeId, genesis);
}

async function follow(stored: StoredLog, keys: VolumeKeys, from: ChainState): Promise<ChainState> {
  let state = from;
  for (;;) {
    for (const sealed of await stored.fetchWindow(state.head.sequence + 1, windowMax, undefined)) {
      if (!sealed) return state;
      ({ state } = extendChain(state, openCommit(keys, sealed, state.head.sequence + 1, state.head.hash)));
    }
  }
}
