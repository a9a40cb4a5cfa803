/**
 * The history that this device has verified, read from its state directory without changing it (doc/format.md, "Local
 * files"). Only with it can a rollback of the store be noticed.
 */
import type { Random } from '../base/random.js';
import type { ChainState } from '../commit/chain.js';
import { loadDevice, wipeDevice } from '../commit/device.js';
import { loadTrust } from '../commit/trust-state.js';
import { RootKeys } from '../crypto/volume-keys.js';
import type { Disk } from '../disk/disk.js';

interface LocalAnchorOptions {
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
    // Any suite will do for opening: the headers of the files name the one that they were sealed with.
    const device = await loadDevice({ disk, stateDirectory, key: root.local('device', 1, volumeId) });
    if (!device) return undefined;
    wipeDevice(device);
    const trust = await loadTrust({ disk, stateDirectory, key: root.local('trust', 1, volumeId), stateId: device.stateId });
    return trust?.state;
  } finally {
    root.wipe();
  }
}
