/**
 * The list of the volume's keyslots in its log, which the owner signs: who is to get a new root secret can be read
 * there (doc/format.md, "Records"). `key add` and `key remove` keep it.
 */
import type { Unlocked } from '../access/keyslots.js';
import { ownerSeedOf } from '../access/keyslots.js';
import { stateDirectoryOf } from '../access/state-directory.js';
import { rememberedProbe } from '../access/store-probe.js';
import { toHex } from '../base/bytes.js';
import { systemClock } from '../base/clock.js';
import { silentLogger } from '../base/logger.js';
import { printable } from '../base/printable.js';
import { openBareVolume } from '../check/bare-volume.js';
import { Findings } from '../check/finding.js';
import type { ChainState } from '../commit/chain.js';
import { CommitError } from '../commit/commit-error.js';
import type { KeyslotEntry } from '../commit/log-state.js';
import { commitAsOwner } from '../commit/owner-commit.js';
import { parseProgramVersion } from '../commit/program-version.js';
import { systemRandom } from '../crypto/system-random.js';
import type { ObjectStore } from '../store/object-store.js';
import { isSingleWriter } from '../store/probe.js';
import { Failure } from '../terminal/exit-code.js';
import { holderOf } from './control-client.js';
import { version } from './version.js';

interface KeyslotRecordOptions {
  readonly store: ObjectStore;
  /** Where the store is, as it was given. */
  readonly location: string;
  readonly unlocked: Unlocked;
  /** What this machine has verified of the log, if anything. */
  readonly trusted: ChainState | undefined;
}

/**
 * A store that cannot keep two devices apart cannot keep this process and a mount apart either. Throws Failure
 * `IN_USE`.
 */
async function requireAlone(location: string, volumeId: Uint8Array): Promise<void> {
  const probe = await rememberedProbe(location);
  if (!probe || !isSingleWriter(probe)) return;
  const mount = await holderOf(stateDirectoryOf(toHex(volumeId), undefined));
  if (mount)
    throw new Failure(
      'IN_USE',
      `this store takes one writer at a time, and the volume is mounted at ${printable(mount.mountPoint)}: unmount it first`,
    );
}

/**
 * Replaces the list by what `change` makes of it, which adds or removes entries. Throws Failure `LOCKED` without the
 * rights of the owner, `IN_USE`; CommitError, StoreError.
 */
export async function recordKeyslots(
  { store, location, unlocked, trusted }: KeyslotRecordOptions,
  change: (keyslots: readonly KeyslotEntry[]) => readonly KeyslotEntry[],
): Promise<void> {
  const ownerSeed = ownerSeedOf(unlocked);
  const { rootSecret, volumeId } = unlocked;
  await requireAlone(location, volumeId);
  const bare = await openBareVolume({ store, rootSecret, volumeId, random: systemRandom, findings: new Findings(1) });
  if (!bare) throw new CommitError('MISSING', 'the genesis of the volume is missing or damaged', { sequence: 0 });
  try {
    const common = { program: parseProgramVersion(version), clock: systemClock, logger: silentLogger };
    await commitAsOwner({ store, ...bare, ownerSeed, trusted, ...common }, (log) => {
      const keyslots = change(log.keyslots);
      return keyslots.length === log.keyslots.length ? [] : [{ type: 'keyslots', keyslots }];
    });
  } finally {
    bare.keys.root.wipe();
  }
}
