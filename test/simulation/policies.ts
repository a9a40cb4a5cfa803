/** The policies that are compared, what each of them promises, and the broken ones that the oracle must find. */
import { NumbersDevice, type NumbersOptions } from './numbers-device.js';
import { judge, type Promises } from './oracle.js';
import { Scenario } from './scenario.js';
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

/** The policy of doc/decision/0031-whoever-leaves-a-history-carries-it.md. */
const chosenOptions: NumbersOptions = { carries: 'all', removals: 'put-back' };

export function policy(name: string, changes: Partial<NumbersOptions> = {}): Policy {
  const options = { ...chosenOptions, ...changes };
  return {
    name,
    make: (parts) => new NumbersDevice(parts, options),
    promises: { keepsAll: options.carries === 'all' && options.removals === 'put-back' },
  };
}

export const carried = policy('carried');
/** What volumes do that were not made for it. */
export const own = policy('each its own', { carries: 'own' });
export const stopping = policy('carried, removals stop', { removals: 'stop' });

export function runOnce({ make, promises }: Policy, seed: number, conflicts: ConflictRule, isHostile = false): Outcome {
  const life = new Scenario({ seed, conflicts, isHostile, makeDevice: make }).run();
  return { findings: judge(life, promises), tally: life.tally };
}
