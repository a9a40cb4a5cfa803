/**
 * Plans what can be repaired without guessing, as mutations of the key space, from the findings of an examination and
 * the records that they name (doc/cli.md, "check, repair, salvage"). No I/O. It deletes no content: a nameless inode
 * gets a name, and an entry that points nowhere is recorded in a note. It lists the findings that it leaves alone.
 */
import type { ByteString, Plaintext } from '../base/brand.js';
import { byteStringOf } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import type { Mutation } from '../commit/commit.js';
import { deleteEntry, type EntryTarget, type NamedDirent, putEntry } from '../meta/dirent.js';
import { encodeInode, type Inode, inlineMax, isDirectory, S_IFDIR, S_IFMT, S_IFREG } from '../meta/inode.js';
import { direntKey, type Ino, inodeKey, numberedKey, orphanKey, rootIno, type TreeKey } from '../meta/key.js';
import type { Finding, FindingCode } from './finding.js';
import type { MetadataTotals } from './metadata-check.js';

export interface KnownEntry {
  readonly parent: Ino;
  readonly name: ByteString;
  /** S_IFMT bits. */
  readonly type: number;
  readonly number: number;
}

/** The entries of a directory, as each of the two keys of an entry has them. */
export interface DirectoryEntries {
  readonly named: readonly NamedDirent[];
  readonly numbered: readonly NamedDirent[];
}

/** The records of the inodes that the findings name. */
interface RepairFacts {
  readonly findings: readonly Finding[];
  /** Inodes that exist and decode. */
  readonly inodes: ReadonlyMap<Ino, Inode>;
  /** All entries that point to these inodes. */
  readonly entries: ReadonlyMap<Ino, readonly KnownEntry[]>;
  /** The directories whose listings are wrong. */
  readonly directories: ReadonlyMap<Ino, DirectoryEntries>;
  /** What belongs to the inodes without a record or a name. */
  readonly contents: ReadonlyMap<Ino, InodeContents>;
  /** The inodes that have the names in `placeNames`. */
  readonly places: ReadonlyMap<ByteString, Ino | undefined>;
  readonly counted: MetadataTotals;
  readonly claimed: MetadataTotals;
  readonly time: Timespec;
  readonly allocateIno: () => Ino;
}

export interface InodeContents {
  /** Entries in it, and those of them that are directories. */
  readonly entries: number;
  readonly subdirectories: number;
  /** Bytes that its extents cover, and where the last data extent ends. */
  readonly covered: number;
  readonly dataEnd: number;
}

interface RepairStep {
  readonly code: FindingCode;
  readonly ino: Ino | undefined;
  readonly description: string;
}

export interface RepairPlan {
  readonly steps: readonly RepairStep[];
  readonly left: readonly Finding[];
  /** Ascending. */
  readonly mutations: readonly Mutation[];
  readonly filesDelta: number;
  readonly bytesDelta: number;
}

/**
 * Names for lost+found; a later one is used only if the earlier ones are taken by something that is not a directory.
 */
export const placeNames: readonly ByteString[] = ['lost+found', 'lost+found (sealdrive)', 'lost+found (sealdrive 2)'];

const noBytes = new Uint8Array(0) as Plaintext;
const noContents: InodeContents = { entries: 0, subdirectories: 0, covered: 0, dataEnd: 0 };

/** The findings that can be repaired; others are left alone. */
const repairable: ReadonlySet<FindingCode> = new Set([
  'LINK_COUNT',
  'PARENT',
  'ALLOCATED',
  'ENTRY_TYPE',
  'ORPHAN_STRAY',
  'TOTALS',
  'ENTRY_DANGLES',
  'EXTENT_STRAY',
  'XATTR_STRAY',
  'ENTRY_WITHOUT_DIRECTORY',
  'ENTRY_UNLISTED',
  'ENTRY_UNNAMED',
  'ENTRY_NUMBER',
  'DIRECTORY_NAMES',
  'DIRECTORY_CYCLE',
  'INODE_UNREACHABLE',
]);

/** Findings about the two keys of directory entries. */
export const listingCodes: ReadonlySet<FindingCode> = new Set(['ENTRY_UNLISTED', 'ENTRY_UNNAMED', 'ENTRY_NUMBER']);

/** Findings after which the sum of a file's extents means nothing. */
const contentDoubts: ReadonlySet<FindingCode> = new Set(['VALUE_MALFORMED', 'EXTENT_OVERLAP', 'CONTENT_TWICE', 'CONTENT_KIND']);

export function planRepair(facts: RepairFacts): RepairPlan {
  return new Planner(facts).run();
}

class Planner {
  readonly #facts: RepairFacts;
  readonly #changed = new Map<TreeKey, Uint8Array | null>();
  readonly #inodes: Map<Ino, Inode>;
  readonly #touched = new Set<Ino>();
  readonly #steps: RepairStep[] = [];
  readonly #left: Finding[] = [];
  readonly #doubtful: ReadonlySet<Ino | undefined>;
  readonly #remade = new Set<Ino>();
  /** Directories whose listings are right. */
  readonly #listed = new Set<Ino>();
  /** The keys of names whose entries have got another number. */
  readonly #renumbered = new Map<TreeKey, number>();
  readonly #target: EntryTarget = {
    put: (key, value) => void this.#changed.set(key, value),
    delete: (key) => void this.#changed.set(key, null),
  };
  #place: Ino | undefined;
  #created = 0;

  constructor(facts: RepairFacts) {
    this.#facts = facts;
    this.#inodes = new Map(facts.inodes);
    this.#doubtful = new Set(facts.findings.filter(({ code }) => contentDoubts.has(code)).map(({ ino }) => ino));
  }

  run(): RepairPlan {
    const { findings } = this.#facts;
    const isWhole = findings.every(({ code }) => code !== 'ROOT_MISSING') && this.#inodes.has(rootIno);
    // Listings first, since what follows relies on both keys of an entry; then numbers, since moving things changes
    // them further.
    for (const { code, parent } of findings) if (isWhole && listingCodes.has(code) && parent !== undefined) this.#repairListing(parent);
    for (const finding of findings) if (isWhole && !this.#repairNumber(finding)) this.#left.push(finding);
    const rest = this.#left.splice(0);
    for (const finding of rest) if (!this.#repairName(finding)) this.#left.push(finding);
    if (!isWhole) this.#left.push(...findings);
    return this.#finish();
  }

  #finish(): RepairPlan {
    const { counted, claimed, inodes } = this.#facts;
    let bytes = counted.bytes;
    for (const ino of this.#touched) {
      const inode = this.#inodes.get(ino) as Inode;
      this.#changed.set(inodeKey(ino), encodeInode(inode));
      bytes += inode.allocated - (inodes.get(ino)?.allocated ?? 0);
    }
    const left = this.#left.filter(({ severity }) => severity !== 'note');
    if (this.#steps.length === 0) return { steps: [], left, mutations: [], filesDelta: 0, bytesDelta: 0 };
    return {
      steps: this.#steps,
      left,
      mutations: [...this.#changed].toSorted(([a], [b]) => (a < b ? -1 : 1)),
      filesDelta: counted.files + this.#created - claimed.files,
      bytesDelta: bytes - claimed.bytes,
    };
  }

  #step(code: FindingCode, ino: Ino | undefined, description: string): true {
    this.#steps.push({ code, ino, description });
    return true;
  }

  #change(ino: Ino, change: (inode: Inode) => Partial<Inode>): void {
    const before = this.#inodes.get(ino);
    if (!before) return;
    this.#inodes.set(ino, { ...before, ...change(before), ctime: this.#facts.time });
    this.#touched.add(ino);
  }

  /** Repairs a finding that concerns one number or record. Returns whether it was one. */
  #repairNumber({ code, ino, expected, found }: Finding): boolean {
    const instead = `${expected} instead of ${found}`;
    const has = ino !== undefined && this.#inodes.has(ino);
    switch (code) {
      case 'TOTALS':
        return this.#step(code, undefined, `the totals become the sums over all inodes: ${instead}`);
      case 'LINK_COUNT':
        // An inode without a name that was not removed gets a name instead: with a link count of zero it would be
        // deleted.
        if (!has || !expected) return false;
        this.#change(ino, () => ({ nlink: expected }));
        return this.#step(code, ino, `the link count becomes ${instead}`);
      case 'PARENT':
        if (!has || expected === undefined) return false;
        this.#change(ino, () => ({ parent: expected as Ino }));
        return this.#step(code, ino, `the parent becomes ${instead}`);
      case 'ALLOCATED':
        if (!has || expected === undefined || this.#doubtful.has(ino)) return false;
        this.#change(ino, () => ({ allocated: expected }));
        return this.#step(code, ino, `the allocated bytes become ${instead}`);
      case 'ORPHAN_STRAY':
        if (ino === undefined) return false;
        this.#changed.set(orphanKey(ino), null);
        return this.#step(code, ino, 'the record that it was removed is deleted');
      case 'ENTRY_TYPE': {
        if (!has) return false;
        const type = (this.#inodes.get(ino)?.mode ?? 0) & S_IFMT;
        // The examination has counted subdirectories by the kind of their inodes, so no count changes.
        for (const entry of this.#facts.entries.get(ino) ?? []) this.#putEntry(entry, ino, type);
        return this.#step(code, ino, 'its entries get the kind of file that it is');
      }
      default:
        return false;
    }
  }

  /** Repairs a finding by adding or removing names. Returns whether it could. */
  #repairName(finding: Finding): boolean {
    const { code } = finding;
    if (!repairable.has(code)) return false;
    if (listingCodes.has(code)) return this.#step(code, finding.ino, 'the directory is listed as its names say');
    const ino = finding.ino ?? finding.parent;
    if (ino === undefined) return false;
    if (!this.#facts.inodes.has(ino)) return this.#repairMissing(code, ino);
    switch (code) {
      case 'INODE_UNREACHABLE':
        if (this.#nameAsListed(ino)) return this.#step(code, ino, 'it gets the name back that it has in the listing of its directory');
        this.#nameLost(ino);
        return this.#step(code, ino, 'it gets a name in lost+found');
      case 'LINK_COUNT':
        this.#changed.set(orphanKey(ino), null);
        this.#nameLost(ino);
        return this.#step(code, ino, 'it was half removed: it gets a name in lost+found');
      case 'ENTRY_WITHOUT_DIRECTORY':
        // Only a directory can contain them; this one was removed.
        if (!isDirectory(this.#inodes.get(ino) as Inode)) return false;
        this.#changed.set(orphanKey(ino), null);
        this.#nameLost(ino);
        return this.#step(code, ino, 'the removed directory, which is not empty, gets a name in lost+found');
      case 'DIRECTORY_NAMES':
        return this.#repairDirectoryNames(ino);
      case 'DIRECTORY_CYCLE': {
        for (const entry of this.#facts.entries.get(ino) ?? []) this.#dropEntry(entry);
        this.#nameLost(ino);
        return this.#step(code, ino, 'it moves to lost+found, with its content');
      }
      default:
        return false;
    }
  }

  #repairDirectoryNames(ino: Ino): boolean {
    const entries = this.#facts.entries.get(ino) ?? [];
    const { parent } = this.#inodes.get(ino) as Inode;
    const kept = ino === rootIno ? undefined : (entries.find((entry) => entry.parent === parent) ?? entries[0]);
    for (const entry of entries) {
      if (entry === kept) continue;
      this.#dropEntry(entry);
      this.#noteDown(entry, ino);
    }
    if (kept) this.#change(ino, () => ({ parent: kept.parent }));
    return this.#step('DIRECTORY_NAMES', ino, 'one name stays, the others are recorded in lost+found');
  }

  /** Makes a lost inode again from what still refers to it. */
  #repairMissing(code: FindingCode, ino: Ino): boolean {
    if (this.#remade.has(ino)) return true;
    this.#remade.add(ino);
    const entries = this.#facts.entries.get(ino) ?? [];
    const { entries: held, subdirectories, covered, dataEnd } = this.#facts.contents.get(ino) ?? noContents;
    const wasFile = covered > 0 || this.#facts.findings.some((finding) => finding.code === 'XATTR_STRAY' && finding.ino === ino);
    if (held === 0 && !wasFile) {
      for (const entry of entries) {
        this.#dropEntry(entry);
        this.#noteDown(entry, ino);
      }
      return this.#step(code, ino, 'the entry, which points nowhere, becomes a note in lost+found that holds its name');
    }
    // If entries belong to it, it was a directory.
    const mode = held > 0 ? S_IFDIR | 0o700 : S_IFREG | 0o600;
    this.#create(ino, { mode, nlink: held > 0 ? 2 + subdirectories : entries.length, size: held > 0 ? 0 : dataEnd, allocated: covered });
    const type = mode & S_IFMT;
    const kept = held > 0 ? entries.slice(0, 1) : entries;
    for (const entry of entries) {
      if (kept.includes(entry)) this.#retype(entry, ino, type);
      else {
        this.#dropEntry(entry);
        this.#noteDown(entry, ino);
      }
    }
    const [first] = kept;
    if (first) this.#change(ino, () => ({ parent: first.parent }));
    else this.#nameLost(ino);
    const where = first ? 'under its name' : 'in lost+found';
    return this.#step(code, ino, `it is made again ${where}, as a ${held > 0 ? 'directory' : 'file'} of what is left; modes and times are lost`);
  }

  // Entries.

  #putEntry(entry: KnownEntry, ino: Ino, type: number): void {
    putEntry(this.#target, entry.parent, { name: entry.name, ino, type, number: this.#numberOf(entry) });
  }

  #retype(entry: KnownEntry, ino: Ino, type: number): void {
    if (entry.type === type) return;
    this.#putEntry(entry, ino, type);
    const delta = (type === S_IFDIR ? 1 : 0) - (entry.type === S_IFDIR ? 1 : 0);
    this.#change(entry.parent, (directory) => ({ nlink: directory.nlink + delta }));
  }

  #dropEntry(entry: KnownEntry): void {
    deleteEntry(this.#target, entry.parent, { name: entry.name, number: this.#numberOf(entry) });
    if (entry.type === S_IFDIR) this.#change(entry.parent, (directory) => ({ nlink: directory.nlink - 1 }));
  }

  #numberOf({ parent, name, number }: KnownEntry): number {
    return this.#renumbered.get(direntKey(parent, name)) ?? number;
  }

  // Listings.

  /** Lists a directory as its names say. Those that have the number of another entry get a new one. */
  #repairListing(parent: Ino): void {
    const entries = this.#facts.directories.get(parent);
    if (!entries || this.#listed.has(parent)) return;
    this.#listed.add(parent);
    const { findings, allocateIno } = this.#facts;
    const twice = new Set(findings.filter((finding) => finding.code === 'ENTRY_NUMBER' && finding.parent === parent).map(({ ino }) => ino));
    for (const { number } of entries.numbered) this.#changed.set(numberedKey(parent, number), null);
    for (const named of entries.named) {
      const number = twice.has(named.ino) ? allocateIno() : named.number;
      if (number !== named.number) this.#renumbered.set(direntKey(parent, named.name), number);
      putEntry(this.#target, parent, { ...named, number });
    }
    const names = new Set(entries.named.map(({ name }) => name));
    for (const { ino, name, type, number } of entries.numbered) {
      if (!names.has(name) && !this.#isUnreachable(ino)) this.#noteDown({ parent, name, type, number }, ino);
    }
  }

  #isUnreachable(ino: Ino): boolean {
    return this.#facts.findings.some((finding) => finding.code === 'INODE_UNREACHABLE' && finding.ino === ino);
  }

  /** Gives an inode without a name the one under which a directory still lists it. Returns whether there is one. */
  #nameAsListed(ino: Ino): boolean {
    for (const [parent, { named, numbered }] of this.#facts.directories) {
      const directory = this.#inodes.get(parent);
      const listed = numbered.find((entry) => entry.ino === ino);
      if (!directory || !isDirectory(directory) || !listed) continue;
      const { name } = listed;
      if (named.some((entry) => entry.name === name) || this.#changed.get(direntKey(parent, name))) continue;
      this.#restore(parent, name, ino);
      return true;
    }
    return false;
  }

  // lost+found.

  #create(ino: Ino, fields: Pick<Inode, 'mode' | 'nlink' | 'size' | 'allocated'> & { readonly inline?: Plaintext }): void {
    const { time } = this.#facts;
    const { uid, gid } = this.#inodes.get(rootIno) as Inode;
    const times = { atime: time, mtime: time, ctime: time, btime: time };
    const rest = { uid, gid, rdev: 0, flags: 0, generation: 0, parent: 0 as const, stamp: { deviceIndex: 0, counter: 0 } };
    this.#inodes.set(ino, { ...rest, ...times, inline: noBytes, ...fields });
    this.#touched.add(ino);
    this.#created++;
  }

  /** lost+found: the existing one, or a new one. */
  #lostDirectory(): Ino {
    if (this.#place !== undefined) return this.#place;
    const { places, inodes, allocateIno } = this.#facts;
    for (const name of placeNames) {
      const there = places.get(name);
      if (there === undefined) {
        const ino = allocateIno();
        this.#create(ino, { mode: S_IFDIR | 0o700, nlink: 2, size: 0, allocated: 0 });
        this.#attach(rootIno, name, ino, ino);
        this.#place = ino;
        return ino;
      }
      const inode = inodes.get(there);
      if (inode && isDirectory(inode)) {
        this.#place = there;
        return there;
      }
    }
    throw new Error('every name for lost+found is taken by something that is not a directory');
  }

  #attach(parent: Ino, name: ByteString, ino: Ino, number: number): void {
    const type = (this.#inodes.get(ino)?.mode ?? 0) & S_IFMT;
    putEntry(this.#target, parent, { name, ino, type, number });
    this.#change(ino, () => ({ parent }));
    this.#change(parent, (directory) => ({ nlink: directory.nlink + (type === S_IFDIR ? 1 : 0), mtime: this.#facts.time }));
  }

  /** Gives an inode a name in lost+found. */
  #nameLost(ino: Ino): void {
    // Inode numbers are unique, and the time distinguishes the names of several repairs.
    this.#restore(this.#lostDirectory(), `inode-${ino.toString(16)}-${this.#facts.time.sec.toString(16)}`, ino);
  }

  /** Gives an inode its only name. */
  #restore(parent: Ino, name: ByteString, ino: Ino): void {
    const { subdirectories } = this.#facts.contents.get(ino) ?? noContents;
    this.#change(ino, (inode) => ({ nlink: isDirectory(inode) ? 2 + subdirectories : 1 }));
    // The number of its former name may belong to another entry by now.
    this.#attach(parent, name, ino, this.#facts.allocateIno());
  }

  /** Makes a small file that records the name of a removed entry. */
  #noteDown(entry: KnownEntry, to: Ino): void {
    const place = this.#lostDirectory();
    const ino = this.#facts.allocateIno();
    const head = byteStringOf(`An entry of directory inode ${entry.parent} was removed by repair. It pointed to inode ${to}. Its name was:\n`);
    const inline = Buffer.from(`${head}${entry.name}\n`.slice(0, inlineMax), 'latin1') as Uint8Array as Plaintext;
    this.#create(ino, { mode: S_IFREG | 0o600, nlink: 1, size: inline.byteLength, allocated: inline.byteLength, inline });
    this.#attach(place, `entry-${ino.toString(16)}`, ino, ino);
  }
}
