/** A real volume for one test: on a store in memory, with its state in a scratch directory. Closed with the test. */

import { type Clock, systemClock } from '../../src/base/clock.js';
import { createLogger } from '../../src/base/logger.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { createVolume } from '../../src/volume/create-volume.js';
import type { OpenVolume } from '../../src/volume/open-volume.js';
import { openVolume } from '../../src/volume/volume-opening.js';
import { scratchDirectory } from './scratch.js';
import { testProgram } from './test-program.js';

interface Teardown {
  teardown(fn: () => unknown): void;
  fail(message: string): unknown;
}

/** The state that several devices share. */
export interface TestRealm {
  readonly store: ObjectStore;
  readonly volumeId: Uint8Array;
  readonly rootSecret: Uint8Array;
  readonly ownerSeed: Uint8Array;
}

export async function createTestRealm(): Promise<TestRealm> {
  const store = new MemoryStore({ disk: systemDisk });
  const rootSecret = systemRandom.bytes(32);
  const ownerSeed = systemRandom.bytes(32);
  const { volumeId } = await createVolume({ store, rootSecret, ownerSeed, random: systemRandom, clock: systemClock, program: testProgram });
  return { store, volumeId, rootSecret, ownerSeed };
}

/** One device's view of the realm. A warning in its log fails the test. */
export async function openTestVolume(
  t: Teardown,
  realm: TestRealm,
  { stateDirectory, clock = systemClock }: { readonly stateDirectory?: string; readonly clock?: Clock } = {},
): Promise<OpenVolume> {
  const volume = await openVolume({
    ...realm,
    rootSecret: new Uint8Array(realm.rootSecret),
    disk: systemDisk,
    random: systemRandom,
    clock,
    logger: createLogger((line) => t.fail(`unexpected in the log: ${line}`), 'warn'),
    stateDirectory: stateDirectory ?? (await scratchDirectory(t)),
    readOnly: false,
    program: testProgram,
    deviceName: 'test',
    commitDelayMs: 20,
    pollIntervalMs: 20,
  });
  t.teardown(() => volume.close());
  return volume;
}
