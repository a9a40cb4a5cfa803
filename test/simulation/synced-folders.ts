/**
 * Folders that a sync client keeps alike, as far as a commit log can tell: files arrive late, in any order and in
 * pieces, deletions travel, links are cut, and two sides may hold different bytes under one name. Each file has a
 * version vector, as Syncthing has it. Local changes are atomic within one folder. No I/O, no clock.
 */
import type { SeededRandom } from '../model/seeded-random.js';
import type { Tally } from './tally.js';

/** The bytes of a file. Two files have the same bytes when they have the same object. */
export interface FileObject {
  readonly kind: 'commit' | 'pack' | 'damage';
  /** Stands for the hash of the bytes. */
  readonly id: number;
}

/**
 * What the client does with two versions of a file of which neither follows the other: it keeps the newest one and
 * renames the other, or one at random and renames the other, or one at random and deletes the other.
 */
export type ConflictRule = 'newest' | 'random' | 'drop';

interface Entry {
  /** `undefined`: it was deleted. */
  readonly object: FileObject | undefined;
  /** False while only a part of it has arrived. Its version is then still that of what was there before. */
  readonly isWhole: boolean;
  readonly version: readonly number[];
  /** Stands for the modification time, which travels with the file. */
  readonly changedAt: number;
}

const copyMark = '.sync-conflict-';

/** One of the folders, as a device on the same machine sees it. */
export class Folder {
  readonly index: number;
  /** Names in the order in which they changed here; a device reads on from where it was. */
  readonly feed: string[] = [];
  readonly #entries = new Map<string, Entry>();
  readonly #sync: SyncedFolders;

  constructor(index: number, sync: SyncedFolders) {
    this.index = index;
    this.#sync = sync;
  }

  /** The file's object; `part` when it has not arrived completely; `undefined` when there is none. */
  get(name: string): FileObject | 'part' | undefined {
    const entry = this.#entries.get(name);
    return entry && !entry.isWhole ? 'part' : entry?.object;
  }

  /** Whether the file was made: false when there is one, even a part of one. */
  putIfAbsent(name: string, object: FileObject): boolean {
    if (this.get(name) !== undefined) return false;
    this.change(name, object);
    return true;
  }

  /** Makes, replaces or (`undefined`) deletes the file. */
  change(name: string, object: FileObject | undefined): void {
    const version = [...this.entry(name).version];
    version[this.index] = (version[this.index] ?? 0) + 1;
    this.set(name, { object, isWhole: true, version, changedAt: this.#sync.now });
  }

  /** The names of files that are there, complete or not. */
  *names(prefix: string): Generator<string, void> {
    for (const [name, { object }] of this.#entries) if (object && name.startsWith(prefix)) yield name;
  }

  entry(name: string): Entry {
    return this.#entries.get(name) ?? { object: undefined, isWhole: true, version: this.#sync.noVersion, changedAt: 0 };
  }

  set(name: string, entry: Entry): void {
    this.#entries.set(name, entry);
    this.feed.push(name);
    if (entry.isWhole) this.#sync.announce(this.index, name);
  }
}

export interface SyncOptions {
  readonly folders: number;
  readonly conflicts: ConflictRule;
  /** How likely it is that a file arrives in pieces. */
  readonly pieces: number;
  readonly random: SeededRandom;
  readonly tally: Tally;
}

/** One direction between two folders: the names that the other side has not got yet. */
interface Link {
  readonly from: Folder;
  readonly to: Folder;
  readonly waiting: string[];
}

export class SyncedFolders {
  now = 0;
  readonly folders: readonly Folder[];
  readonly noVersion: readonly number[];
  readonly #options: SyncOptions;
  readonly #links: Link[] = [];
  /** Pairs of folders that do not see each other now, as `a-b` with a < b. */
  readonly #cut = new Set<string>();

  constructor(options: SyncOptions) {
    this.#options = options;
    this.folders = Array.from({ length: options.folders }, (_, index) => new Folder(index, this));
    this.noVersion = this.folders.map(() => 0);
    for (const from of this.folders) for (const to of this.folders) if (from !== to) this.#links.push({ from, to, waiting: [] });
  }

  announce(index: number, name: string): void {
    for (const { from, waiting } of this.#links) if (from.index === index) waiting.push(name);
  }

  setLink(a: number, b: number, isUp: boolean): void {
    const pair = pairOf(a, b);
    if (isUp) this.#cut.delete(pair);
    else this.#cut.add(pair);
  }

  /** Carries up to `countMax` files over each link that is up, in random order. */
  run(countMax: number): void {
    const { random } = this.#options;
    for (const link of this.#links) {
      if (this.#cut.has(pairOf(link.from.index, link.to.index))) continue;
      for (let left = random.below(countMax + 1); left > 0 && link.waiting.length > 0; left--) {
        const at = random.below(link.waiting.length);
        const name = link.waiting[at];
        const last = link.waiting.pop();
        if (name === undefined || last === undefined) break;
        if (at < link.waiting.length) link.waiting[at] = last;
        this.#carry(link, name, true);
      }
    }
  }

  /** Carries everything that is on its way over the links that are up. */
  finish(): void {
    for (let isBusy = true; isBusy; ) {
      isBusy = false;
      for (const link of this.#links) {
        if (this.#cut.has(pairOf(link.from.index, link.to.index))) continue;
        for (const name of link.waiting.splice(0)) {
          isBusy = true;
          this.#carry(link, name, false);
        }
      }
    }
  }

  #carry(link: Link, name: string, mayBreak: boolean): void {
    const { from, to } = link;
    const { random, pieces, conflicts, tally } = this.#options;
    const source = from.entry(name);
    // A part is passed on once it is whole.
    if (!source.isWhole) return;
    const target = to.entry(name);
    const order = compareVersions(source.version, target.version);
    if (order === 'same' || order === 'older') return;
    if (order === 'concurrent' && source.object !== target.object) {
      tally.add('sync conflicts');
      if (!this.#wins(source, target)) {
        this.announce(to.index, name);
        return;
      }
      if (target.object && target.isWhole && conflicts !== 'drop') {
        tally.add('conflict copies');
        to.change(`${name}${copyMark}${target.object.id}`, target.object);
      }
    } else if (mayBreak && source.object && source.object !== target.object && random.chance(pieces)) {
      tally.add('half deliveries');
      to.set(name, { ...target, object: source.object, isWhole: false });
      link.waiting.push(name);
      return;
    }
    if (!source.object && target.object) tally.add('deletions delivered');
    const version = target.version.map((count, index) => Math.max(count, source.version[index] ?? 0));
    to.set(name, { ...source, version });
  }

  /** All folders decide alike. A file wins over its deletion. */
  #wins(source: Entry, target: Entry): boolean {
    if (!source.object || !target.object) return source.object !== undefined;
    if (this.#options.conflicts === 'newest' && source.changedAt !== target.changedAt) return source.changedAt > target.changedAt;
    return scrambled(source.object.id) > scrambled(target.object.id);
  }
}

const pairOf = (a: number, b: number): string => `${Math.min(a, b)}-${Math.max(a, b)}`;

/** An order of ids that has nothing to do with the order in which policies compare them. */
const scrambled = (id: number): number => Math.imul(id ^ 0x5bd1e995, 0x2c1b3c6d) >>> 0;

function compareVersions(a: readonly number[], b: readonly number[]): 'same' | 'older' | 'newer' | 'concurrent' {
  let isOlder = false;
  let isNewer = false;
  for (const [index, count] of a.entries()) {
    const other = b[index] ?? 0;
    isOlder ||= count < other;
    isNewer ||= count > other;
  }
  if (isOlder && isNewer) return 'concurrent';
  if (isNewer) return 'newer';
  return isOlder ? 'older' : 'same';
}
