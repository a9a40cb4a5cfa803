/**
 * A disk in memory that records every operation and can stop the process or cut the power at any of them. After power
 * loss it keeps only what POSIX promises, namely synced content and names in synced directories, and an adversarial but
 * seeded part of everything else. `SimulatedDisk.crash` gives the disk that the next process finds.
 */
import { createHash } from 'node:crypto';
import { posix } from 'node:path';
import type { Disk, DiskDirectory, DiskEntry, DiskFile, DiskStat, OpenMode } from '../../src/disk/disk.js';
import { SeededRandom } from './seeded-random.js';

/** The process is gone: its pending calls never return. */
export class SimulatedCrashError extends Error {
  override readonly name = 'SimulatedCrashError';
}

export type CrashKind = 'process' | 'power';
export type DiskOperationKind =
  | 'open'
  | 'create'
  | 'write'
  | 'truncate'
  | 'datasync'
  | 'sync'
  | 'link'
  | 'unlink'
  | 'rename'
  | 'mkdir'
  | 'rmdir'
  | 'sync-directory'
  | 'read'
  | 'stat'
  | 'readdir';

export interface DiskOperation {
  readonly kind: DiskOperationKind;
  readonly path: string;
}

/** The operations that change something. Crash points are counted over them. */
const changing: ReadonlySet<DiskOperationKind> = new Set([
  'create',
  'write',
  'truncate',
  'datasync',
  'sync',
  'link',
  'unlink',
  'rename',
  'mkdir',
  'rmdir',
  'sync-directory',
]);

type Change = { readonly at: number; readonly bytes: Buffer } | { readonly size: number };

class FileNode {
  readonly kind = 'file';
  readonly ino: number;
  content: Buffer;
  durable: Buffer;
  unsynced: Change[] = [];
  linkCount = 0;
  /**
   * It was renamed since it was last synced, so that the new name does not know its place on the disk yet (without hard
   * links, as on FAT).
   */
  isMoved = false;
  mtimeMs = 0;

  constructor(ino: number, content: Buffer = Buffer.alloc(0)) {
    this.ino = ino;
    this.content = content;
    this.durable = content;
  }

  apply(change: Change): void {
    this.content = applied(this.content, change);
    this.unsynced.push(change);
  }

  sync(): void {
    this.durable = this.content;
    this.unsynced = [];
    this.isMoved = false;
  }
}

class DirectoryNode {
  readonly kind = 'directory';
  readonly ino: number;
  readonly entries = new Map<string, Inode>();
  readonly durable = new Map<string, Inode>();
  /** As that of a file. */
  isMoved = false;

  constructor(ino: number) {
    this.ino = ino;
  }
}

type Inode = FileNode | DirectoryNode;

interface NameEdit {
  readonly directory: DirectoryNode;
  readonly name: string;
  /** `undefined`: the name is removed. */
  readonly inode: Inode | undefined;
}
/** Edits of directories that reach the disk together or not at all. */
type NameChange = readonly NameEdit[];

function applied(content: Buffer, change: Change): Buffer {
  if ('size' in change) {
    const cut = Buffer.alloc(change.size);
    content.copy(cut, 0, 0, Math.min(change.size, content.length));
    return cut;
  }
  const grown = Buffer.alloc(Math.max(content.length, change.at + change.bytes.length));
  content.copy(grown);
  change.bytes.copy(grown, change.at);
  return grown;
}

/** An inode and everything that its names lead to or led to, each once. */
function* inodesBelow(inode: Inode, seen: Set<Inode> = new Set()): Generator<Inode> {
  if (seen.has(inode)) return;
  seen.add(inode);
  yield inode;
  if (inode.kind === 'file') return;
  for (const names of [inode.durable, inode.entries]) for (const child of names.values()) yield* inodesBelow(child, seen);
}

const halfSector = 256;

/**
 * A torn write: whole sectors of its first half, or part of a sector of a short one; the rest as it was before, or
 * zeros.
 */
function halfOf(change: Change, before: Buffer, zeros: boolean): Change {
  if ('size' in change) return change;
  const half = change.bytes.length > 4 * halfSector ? Math.ceil(change.bytes.length / 2 / 512) * 512 : Math.floor(change.bytes.length / 2);
  if (!zeros) return { at: change.at, bytes: change.bytes.subarray(0, half) };
  const bytes = Buffer.alloc(change.bytes.length);
  before.copy(bytes, 0, Math.min(before.length, change.at), Math.min(before.length, change.at + bytes.length));
  change.bytes.copy(bytes, 0, 0, half);
  return { at: change.at, bytes };
}

const digests = new WeakMap<Buffer, string>();

function digestOf(content: Buffer): string {
  const digest = digests.get(content) ?? createHash('sha256').update(content).digest('base64');
  digests.set(content, digest);
  return digest;
}

function systemError(code: string, call: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${call} '${path}'`), { code, syscall: call, path });
}

export interface SimulatedDiskOptions {
  readonly seed?: number;
  /**
   * A filesystem without hard links (vfat): link fails with EPERM, and a file that was moved and not synced since may
   * be empty after power loss.
   */
  readonly links?: boolean;
  readonly freeBytes?: number;
  /** The time that files get, in milliseconds since 1970. */
  readonly nowMs?: () => number;
}

/** The fate of one unsynced change at a power loss. A name is there or not; a write can also be torn. */
export type Fate = 'missing' | 'present' | 'half' | 'half and zeros';
const safeFates = ['present'] as const;
const nameFates = ['missing', 'present'] as const;
const writeFates = ['missing', 'present', 'half', 'half and zeros'] as const;

export class SimulatedDisk implements Disk {
  readonly #options: SimulatedDiskOptions;
  readonly #random: SeededRandom;
  readonly #root: DirectoryNode;
  #names: NameChange[] = [];
  #inoNext: number;
  #crashed = false;
  #changeCount = 0;
  #crashAt = Infinity;
  /** Every operation, in order. */
  readonly operations: DiskOperation[] = [];
  /** Files and directories that are open. */
  readonly openPaths = new Set<{ readonly path: string }>();
  /** Called before each operation: a returned error code is thrown instead of doing it. */
  fault: ((operation: DiskOperation) => string | undefined) | undefined;
  /**
   * Called before each operation that changes something: a crash point, of which {@link clone} takes a picture. `tear`
   * performs half of a write.
   */
  onChange: ((operation: DiskOperation, tear: ((disk: SimulatedDisk) => void) | undefined) => void) | undefined;

  constructor(options: SimulatedDiskOptions = {}, survived?: { root: DirectoryNode; random: SeededRandom; inoNext: number }) {
    this.#options = options;
    this.#random = survived?.random ?? new SeededRandom(options.seed ?? 1);
    this.#root = survived?.root ?? new DirectoryNode(1);
    this.#inoNext = survived?.inoNext ?? 2;
  }

  /** The number of operations that changed something: the crash points of this run are 0 .. changeCount - 1. */
  get changeCount(): number {
    return this.#changeCount;
  }

  get crashed(): boolean {
    return this.#crashed;
  }

  /** The process stops in the middle of changing operation number `index` (counted from 0 since this disk was made). */
  crashAt(index: number): void {
    this.#crashAt = index;
  }

  /** The process stops now. */
  stop(): void {
    this.#crashed = true;
  }

  /**
   * Another disk with the same content and the same durable part; its random choices come from `seed`. Files open here
   * are not open there.
   */
  clone(seed: number): SimulatedDisk {
    const copies = new Map<Inode, Inode>();
    const copyOf = <T extends Inode>(inode: T): T => {
      const known = copies.get(inode);
      if (known) return known as T;
      if (inode.kind === 'file') {
        // Contents are replaced and never changed in place.
        const file = Object.assign(new FileNode(inode.ino, inode.content), { durable: inode.durable, linkCount: inode.linkCount });
        file.unsynced = [...inode.unsynced];
        file.mtimeMs = inode.mtimeMs;
        file.isMoved = inode.isMoved;
        copies.set(inode, file);
        return file as Inode as T;
      }
      const directory = new DirectoryNode(inode.ino);
      directory.isMoved = inode.isMoved;
      copies.set(inode, directory);
      for (const [name, child] of inode.entries) directory.entries.set(name, copyOf(child));
      for (const [name, child] of inode.durable) directory.durable.set(name, copyOf(child));
      return directory as Inode as T;
    };
    const disk = new SimulatedDisk(this.#options, { root: copyOf(this.#root), random: new SeededRandom(seed), inoNext: this.#inoNext });
    disk.#names = this.#names.map((change) =>
      change.map((edit) => ({ directory: copyOf(edit.directory), name: edit.name, inode: edit.inode && copyOf(edit.inode) })),
    );
    return disk;
  }

  /**
   * The disk that the next process finds. Everything on this disk fails with {@link SimulatedCrashError} from now on.
   */
  crash(kind: CrashKind): SimulatedDisk {
    this.#crashed = true;
    if (kind === 'power') this.#losePower();
    const next = new SimulatedDisk(this.#options, { root: this.#root, random: this.#random, inoNext: this.#inoNext });
    // Unsynced data stays in danger after the process is dead.
    next.#names = this.#names;
    return next;
  }

  /**
   * The disks that the next process can find after a power loss now: every combination of fates of the unsynced
   * changes, when there are at most `max` (then `exhaustive`); otherwise no changes, all, each prefix with its last
   * write whole or torn, each change alone missing or alone present, and `sampled` random combinations. Names keep the
   * order of changes to one name. What lies below `spared` loses nothing. This disk stays as it is.
   */
  powerLosses(
    max: number,
    sampled: number,
    random: SeededRandom,
    spared: readonly string[] = [],
  ): { readonly exhaustive: boolean; readonly disks: Iterable<SimulatedDisk> } {
    const safe = new Set<Inode>();
    for (const path of spared) for (const inode of inodesBelow(this.#lookup(path, 'stat'))) safe.add(inode);
    const kinds: (readonly Fate[])[] = this.#names.map((change) => (change.every(({ directory }) => safe.has(directory)) ? safeFates : nameFates));
    for (const file of this.#files())
      for (const change of file.unsynced) kinds.push(safe.has(file) ? safeFates : 'size' in change ? nameFates : writeFates);
    const combinations = kinds.reduce((product, { length }) => product * length, 1);
    const exhaustive = combinations <= max;
    const survive = (fates: readonly Fate[]): SimulatedDisk => {
      const disk = this.clone(1);
      disk.#settle(fates);
      return disk;
    };
    const all = function* (): Generator<SimulatedDisk> {
      for (let number = 0; number < combinations; number++) {
        let rest = number;
        yield survive(
          kinds.map((fates) => {
            const fate = fates[rest % fates.length]!;
            rest = Math.floor(rest / fates.length);
            return fate;
          }),
        );
      }
    };
    const some = function* (): Generator<SimulatedDisk> {
      const uniform = (fate: Fate): Fate[] => kinds.map((fates) => (fates.includes(fate) ? fate : 'present'));
      yield survive(uniform('missing'));
      yield survive(uniform('present'));
      for (const [index, fates] of kinds.entries()) {
        if (fates === safeFates) continue;
        const before = uniform('present').slice(0, index);
        for (const fate of fates.slice(1)) yield survive([...before, fate, ...uniform('missing').slice(index + 1)]);
        yield survive(uniform('present').with(index, 'missing'));
        yield survive(uniform('missing').with(index, 'present'));
      }
      for (let count = 0; count < sampled; count++) yield survive(kinds.map((fates) => fates[random.below(fates.length)]!));
    };
    return { exhaustive, disks: exhaustive ? all() : some() };
  }

  /** All files that a name or an unfinished change of names leads to, always in the same order. */
  #files(): FileNode[] {
    const files: FileNode[] = [];
    const seen = new Set<Inode>();
    const visit = (inode: Inode | undefined): void => {
      for (const one of inode ? inodesBelow(inode, seen) : []) if (one.kind === 'file') files.push(one);
    };
    visit(this.#root);
    for (const change of this.#names) for (const { inode } of change) visit(inode);
    return files;
  }

  /**
   * Each unsynced change gets its fate: names first, then contents in the order of {@link #files}. The rest is durable.
   */
  #settle(fates: readonly Fate[]): void {
    const files = this.#files();
    const kept = new Set(this.#names.filter((_, index) => fates[index] === 'present'));
    let next = this.#names.length;
    this.#commitNames((change) => kept.has(change));
    this.#names = [];
    for (const file of files) {
      let content = file.durable;
      for (const change of file.unsynced) {
        const fate = fates[next++];
        if (fate !== 'missing') content = applied(content, fate === 'present' ? change : halfOf(change, content, fate === 'half and zeros'));
      }
      file.content = content;
      file.sync();
    }
    this.#forgetNames();
  }

  /** Only durable names are left. */
  #forgetNames(): void {
    const seen = new Set<Inode>();
    const visit = (inode: Inode): void => {
      if (inode.kind === 'file' || seen.has(inode)) return;
      seen.add(inode);
      inode.entries.clear();
      for (const [name, child] of inode.durable) {
        inode.entries.set(name, child);
        visit(child);
      }
    };
    visit(this.#root);
  }

  /** Disks with the same names and contents have the same fingerprint, whatever part is durable. */
  digest(): string {
    const lines: string[] = [];
    const visit = (path: string, inode: Inode): void => {
      if (inode.kind === 'file') lines.push(`${path} ${digestOf(inode.content)}`);
      else for (const [name, child] of [...inode.entries].toSorted(([a], [b]) => (a < b ? -1 : 1))) visit(`${path}/${name}`, child);
      if (inode.kind === 'directory') lines.push(path);
    };
    visit('', this.#root);
    return createHash('sha256').update(lines.join('\n')).digest('base64');
  }

  #losePower(): void {
    // Names first: all, none, a prefix, or any part that keeps the order of changes to one name.
    const pending = this.#names;
    const choice = this.#random.below(4);
    const prefix = this.#random.below(pending.length + 1);
    const kept = new Set<NameChange>();
    for (let index = pending.length - 1; index >= 0; index--) {
      const wanted = choice === 0 ? false : choice === 1 ? true : choice === 2 ? index < prefix : this.#random.below(2) === 0;
      if (wanted) kept.add(pending[index]!);
    }
    this.#commitNames((change) => kept.has(change));
    this.#names = [];
    const seen = new Set<Inode>();
    const visit = (inode: Inode): void => {
      if (seen.has(inode)) return;
      seen.add(inode);
      const isLost = inode.isMoved && this.#random.below(2) === 0;
      inode.isMoved = false;
      if (isLost && inode.kind === 'directory') {
        inode.entries.clear();
        inode.durable.clear();
      } else if (isLost && inode.kind === 'file') {
        inode.content = Buffer.alloc(0);
        inode.sync();
      } else if (inode.kind === 'directory') {
        inode.entries.clear();
        for (const [name, child] of inode.durable) {
          inode.entries.set(name, child);
          visit(child);
        }
      } else {
        let content = inode.durable;
        const mode = this.#random.below(3);
        for (const change of inode.unsynced) {
          if (mode === 0 || (mode === 2 && this.#random.below(2) === 0)) continue;
          content = applied(content, mode === 2 ? this.#torn(change, content) : change);
        }
        inode.content = content;
        inode.sync();
      }
    };
    visit(this.#root);
  }

  /**
   * Part of a write: some whole sectors, and otherwise the former content, or zeros where the file was grown for it.
   */
  #torn(change: Change, before: Buffer): Change {
    if ('size' in change || this.#random.below(2) === 0) return change;
    const keep = Math.min(change.bytes.length, this.#random.below(Math.ceil(change.bytes.length / 512) + 1) * 512);
    if (this.#random.below(2) === 0) return { at: change.at, bytes: change.bytes.subarray(0, keep) };
    const bytes = Buffer.alloc(change.bytes.length);
    before.copy(bytes, 0, Math.min(before.length, change.at), Math.min(before.length, change.at + bytes.length));
    change.bytes.copy(bytes, 0, 0, keep);
    return { at: change.at, bytes };
  }

  /** Makes the wanted name changes durable, with all earlier ones that touch the same names. */
  #commitNames(wanted: (change: NameChange) => boolean): void {
    const touched = new Map<DirectoryNode, Set<string>>();
    const committed = new Set<NameChange>();
    for (const change of this.#names.toReversed()) {
      if (!wanted(change) && !change.some((edit) => touched.get(edit.directory)?.has(edit.name))) continue;
      committed.add(change);
      for (const { directory, name } of change) {
        const names = touched.get(directory) ?? new Set();
        touched.set(directory, names.add(name));
      }
    }
    for (const change of this.#names) {
      if (!committed.has(change)) continue;
      for (const { directory, name, inode } of change) {
        if (inode) directory.durable.set(name, inode);
        else directory.durable.delete(name);
      }
    }
    this.#names = this.#names.filter((change) => !committed.has(change));
  }

  /** Every operation passes through here; `partly` performs the part that a crash in its middle leaves behind. */
  #enter(kind: DiskOperationKind, path: string, partly?: () => void, tear?: (disk: SimulatedDisk) => void): void {
    if (this.#crashed) throw new SimulatedCrashError(`${kind} ${path} after the crash`);
    const operation = { kind, path };
    this.operations.push(operation);
    if (this.onChange && changing.has(kind)) this.onChange(operation, tear);
    if (changing.has(kind) && this.#changeCount++ === this.#crashAt) {
      partly?.();
      this.#crashed = true;
      throw new SimulatedCrashError(`crashed in ${kind} ${path}`);
    }
    const code = this.fault?.(operation);
    if (code !== undefined) throw systemError(code, kind, path);
  }

  #lookup(path: string, call: string): Inode {
    let at: Inode = this.#root;
    for (const name of posix.normalize(path).split('/')) {
      if (name === '') continue;
      if (at.kind !== 'directory') throw systemError('ENOTDIR', call, path);
      const next = at.entries.get(name);
      if (!next) throw systemError('ENOENT', call, path);
      at = next;
    }
    return at;
  }

  #parent(path: string, call: string): { directory: DirectoryNode; name: string; inode: Inode | undefined } {
    const directory = this.#lookup(posix.dirname(path), call);
    if (directory.kind !== 'directory') throw systemError('ENOTDIR', call, path);
    const name = posix.basename(path);
    return { directory, name, inode: directory.entries.get(name) };
  }

  #change(change: NameChange): void {
    for (const { directory, name, inode } of change) {
      const before = directory.entries.get(name);
      if (before?.kind === 'file') before.linkCount--;
      if (inode?.kind === 'file') inode.linkCount++;
      if (inode) directory.entries.set(name, inode);
      else directory.entries.delete(name);
    }
    this.#names.push(change);
  }

  #nowMs(): number {
    return this.#options.nowMs?.() ?? 0;
  }

  #stat(inode: Inode): DiskStat {
    const size = inode.kind === 'file' ? inode.content.length : 0;
    const linkCount = inode.kind === 'file' ? inode.linkCount : 1;
    const mode = inode.kind === 'file' ? 0o600 : 0o700;
    const mtimeMs = inode.kind === 'file' ? inode.mtimeMs : 0;
    return { kind: inode.kind, size, allocated: size, device: 1, ino: inode.ino, linkCount, mode, group: 0, mtimeMs };
  }

  async open(path: string, mode: OpenMode): Promise<DiskFile> {
    const { directory, name, inode } = this.#parent(path, 'open');
    let file: FileNode;
    if (inode) {
      this.#enter('open', path);
      if (mode === 'create-new') throw systemError('EEXIST', 'open', path);
      if (inode.kind === 'directory') throw systemError('EISDIR', 'open', path);
      file = inode;
    } else {
      if (mode === 'read' || mode === 'write') {
        this.#enter('open', path);
        throw systemError('ENOENT', 'open', path);
      }
      this.#enter('create', path);
      file = new FileNode(this.#inoNext++);
      file.mtimeMs = this.#nowMs();
      this.#change([{ directory, name, inode: file }]);
    }
    return this.#handle(file, path);
  }

  #handle(file: FileNode, path: string): DiskFile {
    let closed = false;
    const opened = { path };
    this.openPaths.add(opened);
    const enter = (kind: DiskOperationKind, partly?: () => void, tear?: (disk: SimulatedDisk) => void): void => {
      if (closed) throw systemError('EBADF', kind, path);
      this.#enter(kind, path, partly, tear);
    };
    const write = (bytes: Uint8Array, position: number): void => {
      const copy = Buffer.from(bytes);
      enter(
        'write',
        () => file.apply({ at: position, bytes: copy.subarray(0, this.#random.below(copy.length + 1)) }),
        (disk) => disk.#fileOf(file.ino)?.apply({ at: position, bytes: copy.subarray(0, Math.ceil(copy.length / 2)) }),
      );
      if (this.#options.freeBytes !== undefined && this.#used() + copy.length > this.#options.freeBytes) throw systemError('ENOSPC', 'write', path);
      file.apply({ at: position, bytes: copy });
      file.mtimeMs = this.#nowMs();
    };
    return {
      read: async (target, position) => {
        enter('read');
        return file.content.copy(target, 0, position, Math.min(file.content.length, position + target.byteLength));
      },
      write: async (bytes, position) => write(bytes, position),
      writeSync: write,
      datasync: async () => {
        enter('datasync');
        file.sync();
      },
      sync: async () => {
        enter('sync');
        file.sync();
      },
      truncate: async (size) => {
        enter('truncate');
        file.apply({ size });
      },
      allocate: async (size) => {
        enter('truncate');
        if (size > file.content.length) file.apply({ size });
      },
      setAccess: async () => {},
      stat: async () => {
        enter('stat');
        return this.#stat(file);
      },
      isUnlinked: () => file.linkCount === 0,
      isAt: async (where) => {
        enter('stat');
        try {
          return this.#lookup(where, 'stat') === file;
        } catch {
          return false;
        }
      },
      close: async () => {
        if (closed) throw systemError('EBADF', 'close', path);
        closed = true;
        this.openPaths.delete(opened);
      },
    };
  }

  #fileOf(ino: number): FileNode | undefined {
    return this.#files().find((file) => file.ino === ino);
  }

  #used(): number {
    const seen = new Set<Inode>();
    const visit = (inode: Inode): number => {
      if (seen.has(inode)) return 0;
      seen.add(inode);
      return inode.kind === 'file' ? inode.content.length : [...inode.entries.values()].reduce((sum, child) => sum + visit(child), 0);
    };
    return visit(this.#root);
  }

  async stat(path: string): Promise<DiskStat> {
    this.#enter('stat', path);
    return this.#stat(this.#lookup(path, 'stat'));
  }

  /** There are no symbolic links. */
  async lstat(path: string): Promise<DiskStat> {
    return this.stat(path);
  }

  async openDirectory(path: string): Promise<DiskDirectory> {
    this.#enter('stat', path);
    if (this.#lookup(path, 'open').kind !== 'directory') throw systemError('ENOTDIR', 'open', path);
    const opened = { path };
    this.openPaths.add(opened);
    return { path, setAccess: async () => {}, close: () => this.openPaths.delete(opened) };
  }

  async readDirectory(path: string, isWanted: (name: string) => boolean = () => true): Promise<DiskEntry[]> {
    this.#enter('readdir', path);
    const inode = this.#lookup(path, 'readdir');
    if (inode.kind !== 'directory') throw systemError('ENOTDIR', 'readdir', path);
    // In no order, as on a real disk.
    const wanted = [...inode.entries].filter(([name]) => isWanted(name));
    return wanted.map(([name, child]): DiskEntry => ({ name, kind: child.kind })).toSorted(() => this.#random.below(3) - 1);
  }

  async makeDirectory(path: string): Promise<void> {
    const { directory, name, inode } = this.#parent(path, 'mkdir');
    this.#enter('mkdir', path);
    if (inode || path === '/') throw systemError('EEXIST', 'mkdir', path);
    this.#change([{ directory, name, inode: new DirectoryNode(this.#inoNext++) }]);
  }

  async removeDirectory(path: string): Promise<void> {
    const { directory, name, inode } = this.#parent(path, 'rmdir');
    this.#enter('rmdir', path);
    if (!inode) throw systemError('ENOENT', 'rmdir', path);
    if (inode.kind !== 'directory') throw systemError('ENOTDIR', 'rmdir', path);
    if (inode.entries.size > 0) throw systemError('ENOTEMPTY', 'rmdir', path);
    this.#change([{ directory, name, inode: undefined }]);
  }

  async rename(from: string, to: string): Promise<void> {
    const source = this.#parent(from, 'rename');
    const target = this.#parent(to, 'rename');
    this.#enter('rename', to);
    if (!source.inode) throw systemError('ENOENT', 'rename', from);
    if (source.inode === target.inode) return;
    if (source.inode.kind === 'directory' && target.inode) {
      if (target.inode.kind === 'file') throw systemError('ENOTDIR', 'rename', to);
      if (target.inode.entries.size > 0) throw systemError('ENOTEMPTY', 'rename', to);
    } else if (target.inode?.kind === 'directory') throw systemError('EISDIR', 'rename', to);
    if (this.#options.links === false) source.inode.isMoved = true;
    this.#change([
      { directory: source.directory, name: source.name, inode: undefined },
      { directory: target.directory, name: target.name, inode: source.inode },
    ]);
  }

  async link(from: string, to: string): Promise<void> {
    const source = this.#lookup(from, 'link');
    const { directory, name, inode } = this.#parent(to, 'link');
    this.#enter('link', to);
    if (this.#options.links === false || source.kind !== 'file') throw systemError('EPERM', 'link', to);
    if (inode) throw systemError('EEXIST', 'link', to);
    this.#change([{ directory, name, inode: source }]);
  }

  async unlink(path: string): Promise<void> {
    const { directory, name, inode } = this.#parent(path, 'unlink');
    this.#enter('unlink', path);
    if (!inode) throw systemError('ENOENT', 'unlink', path);
    if (inode.kind === 'directory') throw systemError('EISDIR', 'unlink', path);
    this.#change([{ directory, name, inode: undefined }]);
  }

  async syncDirectory(path: string): Promise<boolean> {
    this.#enter('sync-directory', path);
    const inode = this.#lookup(path, 'sync-directory');
    if (inode.kind !== 'directory') throw systemError('ENOTDIR', 'sync-directory', path);
    inode.isMoved = false;
    this.#commitNames((change) => change.some((edit) => edit.directory === inode));
    return true;
  }

  async space(path: string): Promise<{ free: number; total: number }> {
    this.#lookup(path, 'statfs');
    const total = this.#options.freeBytes ?? 2 ** 40;
    return { free: Math.max(0, total - this.#used()), total };
  }
}
