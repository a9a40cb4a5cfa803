/** The policies that are compared, what each of them promises, and the broken ones that the oracle must find. */
import { LostNumbersDevice, type LostNumbersFault } from './lost-numbers-device.js';
import { judge, type Promises } from './oracle.js';
import { Scenario } from './scenario.js';
import { SiblingsDevice, type SiblingsOptions } from './siblings-device.js';
import type { DeviceParts, SimulatedDevice } from './simulated-device.js';
import type { ConflictRule } from './synced-folders.js';
import type { Tally } from './tally.js';

export interface Policy {
  readonly name: string;
  readonly make: (parts: DeviceParts) => SimulatedDevice;
  readonly promises: Promises;
}

export interface Outcome {
  /** What is not as it should be; empty when all is well. */
  readonly findings: readonly string[];
  readonly tally: Tally;
}

/** The policy of doc/decision/0029-siblings-in-synced-folders.md. */
const chosenOptions: SiblingsOptions = { choice: 'length', anchoring: 'rounds', carrying: 'at-once' };

export function siblings(name: string, changes: Partial<SiblingsOptions>): Policy {
  const options: SiblingsOptions = { ...chosenOptions, ...changes };
  const promises = { keepsAll: options.carrying !== 'no', removalsBind: options.choice !== 'governance' };
  return { name, make: (parts) => new SiblingsDevice(parts, options), promises };
}

export function lostNumbers(name: string, fault?: LostNumbersFault): Policy {
  return { name, make: (parts) => new LostNumbersDevice(parts, fault), promises: { keepsAll: false, removalsBind: false } };
}

export const chosen = siblings('siblings', {});
export const lost = lostNumbers('lost numbers');

/** Other ways to do it. */
export const variants: readonly Policy[] = [
  siblings('siblings, more authors first', { choice: 'authors' }),
  siblings('siblings, heavier side', { choice: 'subtree' }),
  siblings('siblings, smaller hash', { choice: 'hash' }),
  siblings('siblings, carried late', { carrying: 'late' }),
  siblings('siblings, each its own', { carrying: 'no' }),
  siblings('siblings, no anchor', { anchoring: 'none' }),
  siblings('siblings, simple anchor', { anchoring: 'simple' }),
];

/** An admin's records decide, which an admin that was removed can write as well. */
export const governance = siblings('siblings, more records first', { choice: 'governance', carrying: 'no' });

export function runOnce({ make, promises }: Policy, seed: number, conflicts: ConflictRule, isHostile = false): Outcome {
  const life = new Scenario({ seed, conflicts, isHostile, makeDevice: make }).run();
  return { findings: judge(life, promises), tally: life.tally };
}
