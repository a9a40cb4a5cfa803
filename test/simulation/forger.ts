/**
 * A device that was removed and works together with the store: it has every symmetric key and its own signing key. It
 * writes branches that leave the log before its removal, as long as it likes, with records of an admin, under hashes
 * that it has searched for. It cannot sign for anybody else.
 */
import type { SeededRandom } from '../model/seeded-random.js';
import { pathTo } from './commit-tree.js';
import { SiblingsDevice } from './siblings-device.js';
import { forgedOperation, type SimulatedCommit } from './simulated-commit.js';
import type { SimulatedDevice } from './simulated-device.js';
import type { Folder } from './synced-folders.js';
import type { Tally } from './tally.js';

/** Hashes that are small, as if they had been searched for. */
const smallIds = 999;

export class Forger {
  readonly #random: SeededRandom;
  readonly #tally: Tally;
  #count = 0;

  constructor(random: SeededRandom, tally: Tally) {
    this.#random = random;
    this.#tally = tally;
  }

  /** Writes a branch into the folder from somewhere on the device's history. */
  forge(device: SimulatedDevice, folder: Folder, now: number): void {
    const random = this.#random;
    const tree = device instanceof SiblingsDevice ? device.tree : undefined;
    const path = tree ? pathTo(tree.best()) : device.history;
    const closedRound = tree?.closedRound ?? 0;
    const fork = random.below(path.length + 1);
    let previous = path[fork - 1]?.id ?? 0;
    const end = path.length + 1 + random.below(6);
    for (let number = fork + 1; number <= end; number++) {
      const id = (this.#count++ % smallIds) + 1;
      const commit: SimulatedCommit = {
        kind: 'commit',
        id,
        number,
        previous,
        author: device.index,
        writtenAt: now,
        operations: [forgedOperation(now, this.#count)],
        carries: new Map(),
        packs: [],
        admits: false,
        removes: undefined,
        // Nobody believes what a removed device says of itself.
        cut: { device: device.index, by: device.index, anchor: previous, counted: new Set([id, previous]), heard: new Set([id]) },
        opens: random.chance(0.5) ? closedRound + 1 : 0,
        closedRound: closedRound + (random.chance(0.3) ? 1 : 0),
        anchor: random.chance(0.3) ? previous : (tree?.anchor.id ?? 0),
        governance: 3,
      };
      if (tree) folder.putIfAbsent(`log/${number}-${id}`, commit);
      else folder.change(`log/${number}`, commit);
      previous = id;
    }
    this.#tally.add('forged branches');
  }
}
