/**
 * The list of the volume's keyslots in its log, which the owner signs: who is to get a new root secret can be read
 * there (doc/format.md, "Records"). `key add` and `key remove` keep it.
 */
import type { Unlocked } from '../access/keyslots.js';
import { ownerSeedOf } from '../access/keyslots.js';
import { systemClock } from '../base/clock.js';
import { silentLogger } from '../base/logger.js';
import { openBareVolume } from '../check/bare-volume.js';
import { Findings } from '../check/finding.js';
import type { ChainState } from '../commit/chain.js';
import { CommitError } from '../commit/commit-error.js';
import type { KeyslotEntry } from '../commit/log-state.js';
import { commitAsOwner } from '../commit/owner-commit.js';
import { parseProgramVersion } from '../commit/program-version.js';
import { systemRandom } from '../crypto/system-random.js';
import type { ObjectStore } from '../store/object-store.js';
import { version } from './version.js';

/**
 * Replaces the list by what `change` makes of it, which adds or removes entries. `trusted`: what this machine has
 * verified of the log. Throws Failure `LOCKED` without the rights of the owner, CommitError, StoreError.
 */
export async function recordKeyslots(
  store: ObjectStore,
  unlocked: Unlocked,
  trusted: ChainState | undefined,
  change: (keyslots: readonly KeyslotEntry[]) => readonly KeyslotEntry[],
): Promise<void> {
  const ownerSeed = ownerSeedOf(unlocked);
  const { rootSecret, volumeId } = unlocked;
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
