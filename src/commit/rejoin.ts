/**
 * Takes the history that the store shows instead of the one that this device knows, after an integrity stop, and marks
 * what this device committed to the latter as lost, so that the next start does it again (doc/concurrency.md,
 * "Rejoining"). Only a person can decide that: commits of others that the store does not show any more are given up.
 */
import type { Sealed } from '../base/brand.js';
import { equalBytes } from '../base/bytes.js';
import type { Logger } from '../base/logger.js';
import { hashBytes } from '../crypto/hash.js';
import type { VolumeKeys } from '../crypto/volume-keys.js';
import type { Disk } from '../disk/disk.js';
import type { ObjectStore } from '../store/object-store.js';
import type { ChainState, CheckpointLink, LogPosition } from './chain.js';
import { chainFromGenesis, extendChain } from './chain.js';
import { CommitError, missingCommit } from './commit-error.js';
import { loadDevice, wipeDevice } from './device.js';
import { deviceLabel } from './device-label.js';
import type { Genesis } from './genesis.js';
import { LogFiles } from './log-files.js';
import { memberOf } from './log-state.js';
import { workIn } from './lost-work.js';
import { openCommit, opensAt } from './open-commit.js';
import type { Sequence } from './sequence.js';
import { StoredLog } from './stored-log.js';

export interface RejoinOptions {
  readonly store: ObjectStore;
  readonly keys: VolumeKeys;
  readonly genesis: Genesis;
  readonly disk: Disk;
  /** The state directory of this device, which no process has mounted. */
  readonly stateDirectory: string;
  readonly logger: Logger;
  readonly onProgress?: ((done: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RejoinPlan {
  /** The newest commit that both histories have. */
  readonly common: LogPosition;
  /** The newest commit that this device knows. */
  readonly known: LogPosition;
  /** The newest commit that the store shows. */
  readonly shown: LogPosition;
  /** Commits behind the common one whose work is done again: of this device, and others where commits hold it. */
  readonly again: number;
  /** Commits of this device behind it whose work is not kept any more. */
  readonly forgotten: number;
  /** Commits of others that this device has seen and the store does not show, by device. */
  readonly givenUp: ReadonlyMap<string, number>;
  /** Carries it out. Throws disk errors. */
  readonly apply: () => Promise<void>;
}

/** A commit of the history that this device knows, from its copies. */
interface KnownCopy extends CheckpointLink {
  readonly sealed: Uint8Array;
}

/**
 * What rejoining means; `undefined` when the store shows all that this device knows. Changes nothing. Throws
 * CommitError (`BAD_STATE` when nothing here leads to the history in the store), StoreError, disk errors.
 */
export async function planRejoin(options: RejoinOptions): Promise<RejoinPlan | undefined> {
  const { disk, stateDirectory, keys, logger } = options;
  const device = await loadDevice({ disk, stateDirectory, key: keys.device });
  if (device) wipeDevice(device);
  const files = device && (await LogFiles.open({ disk, stateDirectory, key: keys.trust, stateId: device.stateId }, logger));
  const trust = await files?.loadTrust();
  if (!device || !files || !trust) throw new CommitError('BAD_STATE', 'this machine has no history with the volume: nothing keeps it from mounting');
  const known = await knownCopies(files, keys, trust.state.head);
  const { common, shown } = await compare(options, known, trust.state.head);
  if (common.head.sequence === trust.state.head.sequence) return undefined;
  const lost = [...(trust.lost?.commits ?? [])];
  const givenUp = new Map<string, number>();
  let [state, again, forgotten] = [common, 0, 0];
  const dropped: KnownCopy[] = [];
  for (const copy of known.filter(({ sequence }) => sequence > common.head.sequence)) {
    const extension = extendChain(state, openCommit(keys, copy.sealed, copy.sequence, copy.previousHash));
    state = extension.state;
    if (!extension.commit) continue;
    const { author, mutations } = extension.commit;
    dropped.push(copy);
    const isOwn = author === device.id;
    if (workIn(extension.commit) || (isOwn && mutations.length > 0 && (await files.copies.readWork(copy.sequence)))) again++;
    else if (isOwn && mutations.length > 0) forgotten++;
    else if (!isOwn) {
      const { enrolment } = memberOf(state.log, author) ?? {};
      const label = enrolment ? deviceLabel(enrolment.deviceIndex, enrolment.name) : 'the owner';
      givenUp.set(label, (givenUp.get(label) ?? 0) + 1);
    }
  }
  const apply = async (): Promise<void> => {
    // What is given up stays provable.
    for (const copy of known) if (copy.sequence > common.head.sequence) await files.saveEvidence(copy.sequence, copy.sealed);
    for (const copy of dropped) {
      const work = await files.copies.readWork(copy.sequence);
      await files.lost.keep(copy, { sealed: copy.sealed as Sealed, work: work as Sealed | undefined });
      lost.push(copy);
    }
    // The next start follows the store from there, and asks of each commit whose it is.
    await files.save({ state: common, tailStart: common, lost: { before: common, commits: lost } }, []);
  };
  return { common: common.head, known: trust.state.head, shown: shown.head, again, forgotten, givenUp, apply };
}

/** The copies that lead back from `head` without a gap, ascending. */
async function knownCopies(files: LogFiles, keys: VolumeKeys, head: LogPosition): Promise<KnownCopy[]> {
  const copies: KnownCopy[] = [];
  let next = await files.copies.read(head.sequence);
  if (!next || !equalBytes(hashBytes(next), head.hash)) return [];
  for (let { sequence, hash } = head; sequence > 0 && next; ) {
    const before: Uint8Array | undefined = sequence > 1 ? await files.copies.read(sequence - 1) : undefined;
    const previousHash = sequence > 1 ? before && hashBytes(before) : keys.volumeId;
    if (!previousHash || !opensAt(keys, next, sequence, previousHash)) break;
    copies.unshift({ sequence, hash, previousHash, sealed: next });
    [sequence, hash, next] = [(sequence - 1) as Sequence, previousHash, before];
  }
  return copies;
}

/** Follows the log of the store from its beginning, and finds where it leaves the history that this device knows. */
async function compare(
  { store, keys, genesis, onProgress, signal }: RejoinOptions,
  known: readonly KnownCopy[],
  head: LogPosition,
): Promise<{ readonly common: ChainState; readonly shown: ChainState }> {
  const stored = new StoredLog(store, keys.root);
  const hashes = new Map<number, Uint8Array>(
    known.flatMap(({ sequence, hash, previousHash }) => [
      [sequence - 1, previousHash],
      [sequence, hash],
    ]),
  );
  let state = chainFromGenesis(keys.volumeId, genesis);
  let common = hashes.has(0) ? state : undefined;
  for (;;) {
    const sequence = state.head.sequence + 1;
    const sealed = await stored.fetch(sequence, signal);
    if (!sealed) {
      if (await stored.has(sequence + 1, signal)) throw missingCommit(sequence, sequence + 1);
      break;
    }
    ({ state } = extendChain(state, openCommit(keys, sealed, sequence, state.head.hash)));
    const hash = sequence === head.sequence ? head.hash : hashes.get(sequence);
    if (hash && equalBytes(hash, state.head.hash)) common = state;
    onProgress?.(sequence);
  }
  if (!common) throw new CommitError('BAD_STATE', 'nothing that this machine keeps leads to the history in the store');
  return { common, shown: state };
}
