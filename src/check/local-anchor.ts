/** What this device has seen of a volume, read from its state directory without touching it: a store that went back is seen only by who knows better. */
import type { Random } from '../base/random.js';
import type { ChainState } from '../commit/chain.js';
import { loadDevice } from '../commit/device.js';
import { loadTrust } from '../commit/trust-state.js';
import { RootKeys } from '../crypto/volume-keys.js';
import type { Disk } from '../disk/disk.js';

export interface LocalAnchorOptions {
  readonly disk: Disk;
  readonly stateDirectory: string;
  /** 32 bytes, borrowed. */
  readonly rootSecret: Uint8Array;
  readonly volumeId: Uint8Array;
  readonly random: Random;
}

/** `undefined` when this device has no history with the volume. Throws CommitError `BAD_STATE`, disk errors. */
export async function readLocalTrust(options: LocalAnchorOptions): Promise<ChainState | undefined> {
  const { disk, stateDirectory, volumeId, random } = options;
  const root = new RootKeys(new Uint8Array(options.rootSecret), random);
  try {
    // Whatever suite they were sealed with, their headers say it.
    const device = await loadDevice(disk, stateDirectory, root.local('device', 1, volumeId));
    if (!device) return undefined;
    device.signer.wipe();
    return await loadTrust({ disk, stateDirectory, key: root.local('trust', 1, volumeId), deviceId: device.id });
  } finally {
    root.wipe();
  }
}
