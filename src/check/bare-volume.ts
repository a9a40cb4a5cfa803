/**
 * A volume opened from the store alone: the keys from the root secret, and nothing else (doc/cli.md, "check, repair,
 * salvage"). It needs no state directory, enrols no device and writes nothing. `check`, `repair` and `salvage` begin
 * here.
 */
import { describeError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import { CommitError } from '../commit/commit-error.js';
import type { Genesis } from '../commit/genesis.js';
import { genesisObjectMax, openGenesis } from '../commit/genesis.js';
import { logKey } from '../commit/log-name.js';
import { RootKeys, VolumeKeys } from '../crypto/volume-keys.js';
import type { ObjectStore } from '../store/object-store.js';
import type { Findings } from './finding.js';

interface BareVolumeOptions {
  readonly store: ObjectStore;
  /** 32 bytes, borrowed. */
  readonly rootSecret: Uint8Array;
  readonly volumeId: Uint8Array;
  readonly random: Random;
  readonly findings: Findings;
  /** A device's copy of the genesis. Its hash is checked, so it is as good as the store's. */
  readonly genesisCopy?: Uint8Array | undefined;
}

export interface BareVolume {
  readonly keys: VolumeKeys;
  readonly genesis: Genesis;
}

/** `undefined` when no genesis opens: without it there are no keys. The caller wipes `keys.root`. Throws StoreError. */
export async function openBareVolume(options: BareVolumeOptions): Promise<BareVolume | undefined> {
  const { store, rootSecret, volumeId, random, findings, genesisCopy } = options;
  const root = new RootKeys(new Uint8Array(rootSecret), random);
  const object = logKey(root, 0);
  const stored = await store.get(object, { sizeMax: genesisObjectMax });
  if (!stored) findings.add('GENESIS_MISSING', 'the genesis of the volume is not in the store', { object });
  for (const [index, sealed] of [stored, genesisCopy].entries()) {
    if (!sealed) continue;
    try {
      const genesis = openGenesis(root, sealed, volumeId);
      return { keys: new VolumeKeys({ root, volumeId, suite: genesis.suite, random }), genesis };
    } catch (error) {
      if (!(error instanceof CommitError)) throw error;
      if (index === 0) findings.add('GENESIS_DAMAGED', `the genesis cannot be used: ${describeError(error)}`, { object });
    }
  }
  root.wipe();
  return undefined;
}
