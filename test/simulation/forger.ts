/**
 * A device that was removed and works together with the store: it has every symmetric key and its own signing key. It
 * writes branches that leave the log before its removal, as long as it likes, over whatever stands there. It cannot
 * sign for anybody else.
 */
import type { SeededRandom } from '../model/seeded-random.js';
import { forgedOperation, type SimulatedCommit } from './simulated-commit.js';
import type { SimulatedDevice } from './simulated-device.js';
import type { Folder } from './synced-folders.js';
import type { Tally } from './tally.js';

export class Forger {
  readonly #random: SeededRandom;
  readonly #tally: Tally;
  readonly #newId: () => number;
  #count = 0;

  constructor(random: SeededRandom, tally: Tally, newId: () => number) {
    this.#random = random;
    this.#tally = tally;
    this.#newId = newId;
  }

  /** Writes a branch into the folder from somewhere on the device's history. */
  forge(device: SimulatedDevice, folder: Folder, now: number): void {
    const random = this.#random;
    const path = device.history;
    const fork = random.below(path.length + 1);
    let previous = path[fork - 1]?.id ?? 0;
    const end = path.length + 1 + random.below(6);
    for (let number = fork + 1; number <= end; number++) {
      const commit: SimulatedCommit = {
        kind: 'commit',
        id: this.#newId(),
        number,
        previous,
        author: device.index,
        operations: [forgedOperation(now, this.#count++)],
        carries: new Map(),
        admits: false,
        removes: undefined,
      };
      folder.change(`log/${number}`, commit);
      previous = commit.id;
    }
    this.#tally.add('forged branches');
  }
}
