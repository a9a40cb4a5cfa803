/**
 * One simulated life of a volume in folders that a sync client keeps alike, from a seed: devices write, sleep, crash,
 * come late, never come back, are removed; links are cut; files arrive late, in pieces, are deleted or damaged. Then
 * all links are up, and the devices go on until nothing changes any more. The same seed gives the same life.
 */
import { SeededRandom } from '../model/seeded-random.js';
import { Forger } from './forger.js';
import { type OperationId, operationId } from './simulated-commit.js';
import type { DeviceParts, SimulatedDevice } from './simulated-device.js';
import { type ConflictRule, type Folder, SyncedFolders } from './synced-folders.js';
import { Tally } from './tally.js';

export interface ScenarioOptions {
  readonly seed: number;
  readonly conflicts: ConflictRule;
  readonly makeDevice: (parts: DeviceParts) => SimulatedDevice;
  /** The device that is removed knows all keys, and goes on writing whatever may help it. */
  readonly isHostile: boolean;
}

/** A device, and what happens to it. */
export interface Participant {
  readonly device: SimulatedDevice;
  readonly folder: Folder;
  /** It takes part from this tick on. */
  readonly joinsAt: number;
  /** It is never seen again after this tick. */
  readonly diesAt: number;
  /** What it has acknowledged. */
  readonly acknowledged: OperationId[];
  isAwake: boolean;
  isCrashed: boolean;
  isRemoved: boolean;
}

export interface Life {
  readonly participants: readonly Participant[];
  /** Those that are there at the end, and were not removed. */
  readonly staying: readonly Participant[];
  /** The operation that another one builds on. */
  readonly dependencies: ReadonlyMap<OperationId, OperationId>;
  /** The rounds after which nothing changed any more; `undefined`: it never ended. */
  readonly rounds: number | undefined;
  readonly tally: Tally;
}

interface PlannedRemoval {
  readonly at: number;
  readonly removed: Participant;
}

interface Rates {
  readonly append: number;
  readonly step: number;
  readonly commit: number;
  readonly sleep: number;
  readonly crash: number;
  readonly cut: number;
  readonly heal: number;
  readonly carry: number;
  readonly deletion: number;
  readonly damage: number;
}

const roundsMax = 150;
const ticksPerRound = 10;
/** Longer than any device waits for another one. */
const quietRounds = 8;
const never = Number.POSITIVE_INFINITY;

export class Scenario {
  readonly #options: ScenarioOptions;
  readonly #random: SeededRandom;
  readonly #tally = new Tally();
  readonly #rates: Rates;
  readonly #forger: Forger;
  readonly #ticks: number;
  readonly #folders: SyncedFolders;
  readonly #participants: Participant[];
  readonly #removal: PlannedRemoval | undefined;
  readonly #dependencies = new Map<OperationId, OperationId>();
  readonly #ids = new Set<number>();
  #now = 0;

  constructor(options: ScenarioOptions) {
    this.#options = options;
    const random = new SeededRandom(options.seed);
    this.#random = random;
    this.#forger = new Forger(random, this.#tally, () => this.#newId());
    const share = (most: number): number => (random.below(1000) / 1000) * most;
    this.#rates = {
      append: 0.02 + share(0.35),
      step: 0.2 + share(0.8),
      commit: 0.2 + share(0.8),
      sleep: random.pick([0, 0.01, 0.04]),
      crash: random.pick([0, 0.02, 0.1]),
      cut: random.pick([0.01, 0.03, 0.1]),
      heal: random.pick([0.02, 0.1, 0.4]),
      carry: random.pick([1, 3, 10]),
      deletion: random.pick([0, 0, 0.02, 0.1]),
      damage: random.pick([0, 0, 0.02]),
    };
    this.#ticks = 60 + random.below(100);
    const pieces = random.pick([0, 0.2, 0.6]);
    this.#folders = new SyncedFolders({ folders: 2 + random.below(2), conflicts: options.conflicts, pieces, random, tally: this.#tally });
    this.#participants = this.#makeParticipants();
    this.#removal = this.#planRemoval();
  }

  run(): Life {
    for (this.#now = 1; this.#now <= this.#ticks; this.#now++) this.#tick();
    const staying = this.#participants.filter(({ diesAt, isRemoved }) => diesAt === never && !isRemoved);
    const rounds = this.#settle(staying);
    return { participants: this.#participants, staying, dependencies: this.#dependencies, rounds, tally: this.#tally };
  }

  // --- Who takes part

  #makeParticipants(): Participant[] {
    const random = this.#random;
    const { folders } = this.#folders;
    const places = [...folders];
    if (random.chance(0.35)) places.push(random.pick(folders));
    const hasLate = random.chance(0.25);
    if (hasLate) places.push(random.pick(folders));
    const isLate = (index: number): boolean => hasLate && index === places.length - 1;
    const founders = [...places.keys()].filter((index) => !isLate(index));
    const dead = random.chance(0.2) ? random.below(places.length) : -1;
    return places.map((folder, index): Participant => {
      const device = this.#options.makeDevice({ index, folder, founders, newId: () => this.#newId(), tally: this.#tally });
      const joinsAt = isLate(index) ? Math.floor(this.#ticks / 2) : 0;
      const diesAt = index === dead ? joinsAt + random.below(this.#ticks - joinsAt) : never;
      return { device, folder, joinsAt, diesAt, acknowledged: [], isAwake: true, isCrashed: false, isRemoved: false };
    });
  }

  /** With three devices or more, one may be removed: often the one that never comes back. */
  #planRemoval(): PlannedRemoval | undefined {
    const random = this.#random;
    const isWanted = this.#options.isHostile || random.chance(0.25);
    const founders = this.#participants.filter(({ joinsAt }) => joinsAt === 0);
    if (!isWanted || founders.length < 3) return undefined;
    const dead = this.#options.isHostile ? undefined : founders.find(({ diesAt }) => diesAt !== never);
    const removed = dead && random.chance(0.6) ? dead : random.pick(founders);
    return { at: Math.floor(this.#ticks / 3) + random.below(Math.floor((2 * this.#ticks) / 3)), removed };
  }

  #newId(): number {
    for (;;) {
      const id = 1 + this.#random.below(2 ** 30);
      if (this.#ids.has(id)) continue;
      this.#ids.add(id);
      return id;
    }
  }

  // --- While everything goes wrong

  #tick(): void {
    const random = this.#random;
    this.#folders.now = this.#now;
    this.#toggleLinks();
    this.#folders.run(this.#rates.carry);
    for (const participant of shuffled(this.#participants, random)) this.#live(participant);
    if (random.chance(this.#rates.deletion)) this.#strike('deletion');
    if (random.chance(this.#rates.damage)) this.#strike('damage');
    if (this.#removal?.at === this.#now) this.#remove(this.#removal.removed);
  }

  /** A link goes down and comes up by chance; one to a machine that is gone never comes up. */
  #toggleLinks(): void {
    const random = this.#random;
    const { folders } = this.#folders;
    for (const [index, a] of folders.entries()) {
      for (const b of folders.slice(index + 1)) {
        const isLost = this.#isGone(a) || this.#isGone(b);
        if (isLost || random.chance(this.#rates.cut)) this.#folders.setLink(a.index, b.index, false);
        else if (random.chance(this.#rates.heal)) this.#folders.setLink(a.index, b.index, true);
      }
    }
  }

  #isGone(folder: Folder): boolean {
    return this.#participants.filter((one) => one.folder === folder).every(({ diesAt }) => diesAt <= this.#now);
  }

  #live(participant: Participant): void {
    const random = this.#random;
    const { device, joinsAt, diesAt } = participant;
    if (this.#now < joinsAt || this.#now >= diesAt) return;
    if (participant.isAwake ? random.chance(this.#rates.sleep) : random.chance(0.06)) participant.isAwake = !participant.isAwake;
    if (!participant.isAwake) return;
    if (participant.isCrashed) {
      device.restart();
      participant.isCrashed = false;
    }
    if (participant.isRemoved && this.#options.isHostile) {
      if (random.chance(0.1)) this.#forger.forge(device, participant.folder, this.#now);
      return;
    }
    if (device.isStopped && random.chance(0.05)) this.#rejoin(device);
    if (random.chance(this.#rates.append) && !device.isRemoved) this.#append(participant);
    if (!random.chance(this.#rates.step)) return;
    const crash = random.chance(this.#rates.crash) ? random.pick(['before-put', 'after-put'] as const) : undefined;
    device.step(this.#now, random.chance(this.#rates.commit), crash);
    if (!crash) return;
    participant.isCrashed = true;
    this.#tally.add('crashes');
  }

  #append({ device, acknowledged }: Participant): void {
    const operation = operationId(device.index, acknowledged.length);
    const newest = device.history.findLast(({ author, operations }) => author !== device.index && operations.length > 0)?.operations.at(-1);
    if (newest !== undefined && this.#random.chance(0.5)) this.#dependencies.set(operation, newest);
    acknowledged.push(operation);
    device.append(operation);
    this.#tally.add('operations');
  }

  /** Somebody, or the sync client, deletes or damages files of the log, and the folders carry that. */
  #strike(kind: 'deletion' | 'damage'): void {
    const random = this.#random;
    const folder = random.pick(this.#folders.folders);
    const names = [...folder.names('log/')].filter((name) => typeof folder.get(name) === 'object');
    if (names.length === 0 || this.#isGone(folder)) return;
    // Now and then everything from some file on: the folder went back.
    const isSweep = kind === 'deletion' && random.chance(0.1);
    const at = random.below(names.length);
    for (const name of isSweep ? names.slice(at) : names.slice(at, at + 1)) {
      folder.change(name, kind === 'deletion' ? undefined : { kind: 'damage', id: this.#newId() });
      this.#tally.add(kind === 'deletion' ? 'files deleted' : 'files damaged');
    }
    if (isSweep) this.#tally.add('folders that went back');
  }

  #remove(removed: Participant): void {
    const others = this.#participants.filter((one) => one !== removed && one.joinsAt <= this.#now && one.diesAt === never);
    if (others.length === 0) return;
    this.#random.pick(others).device.remove(removed.device.index);
    removed.isRemoved = true;
    this.#tally.add('removals');
  }

  #rejoin(device: SimulatedDevice): void {
    device.rejoin(this.#now);
    this.#tally.add('rejoins');
  }

  // --- Until nothing changes

  #settle(staying: readonly Participant[]): number | undefined {
    const { folders } = this.#folders;
    for (const a of folders)
      for (const b of folders) if (a !== b && !this.#isGone(a) && !this.#isGone(b)) this.#folders.setLink(a.index, b.index, true);
    const there = this.#participants.filter(({ diesAt, isRemoved }) => diesAt === never && !(isRemoved && this.#options.isHostile));
    for (const { device } of there) device.restart();
    this.#folders.finish();
    let last = 0;
    for (let round = 1; round <= roundsMax; round++) {
      this.#now += ticksPerRound;
      this.#folders.now = this.#now;
      const before = this.#picture(there);
      for (const { device } of shuffled(there, this.#random)) device.step(this.#now, this.#random.chance(0.7));
      this.#folders.finish();
      const stopped = there.find(({ device }) => device.isStopped);
      if (stopped) this.#rejoin(stopped.device);
      if (stopped || this.#picture(there) !== before || staying.some(({ device }) => device.hasPending)) last = round;
      if (round - last >= quietRounds) {
        this.#tally.note('rounds until all agree', last);
        return last;
      }
    }
    return undefined;
  }

  /** Differs when anything has changed. */
  #picture(there: readonly Participant[]): string {
    const heads = there.map(({ device }) => device.head?.id ?? 0);
    return [...heads, ...this.#folders.folders.map(({ feed }) => feed.length)].join(' ');
  }
}

function shuffled<T>(list: readonly T[], random: SeededRandom): T[] {
  const rest = [...list];
  const result: T[] = [];
  while (rest.length > 0) result.push(...rest.splice(random.below(rest.length), 1));
  return result;
}
