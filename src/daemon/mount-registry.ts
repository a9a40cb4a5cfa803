/**
 * The mounts of this user: one small file for each running daemon, in one folder per user, so that `status`, `flush`
 * and `unmount` find the daemon of a mount point whatever its state directory is. It holds no secret.
 *
 * A record has a random name, and its daemon holds a lock (flock(2)) on it for as long as it lives. Containers and
 * machines that share a home therefore do not overwrite each other's records, and the lock shows whether a daemon lives
 * even where its process cannot be seen. Where files cannot be locked (without the addon), the identity of the process
 * has to do.
 */
import { closeSync, fstatSync } from 'node:fs';
import { join } from 'node:path';
import { mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from '../disk/files.js';
import type { ProcessIdentity } from './process-identity.js';
import { identifyThisProcess, isOfThisBoot, stateOfProcess } from './process-identity.js';

export interface MountRecord {
  readonly pid: number;
  readonly mountPoint: string;
  readonly stateDirectory: string;
  readonly socket: string;
  readonly volumeId: string;
  readonly store: string;
}

/** File locks that end with the process, however it ends. The addon has them. */
export interface FileLocks {
  lockExclusive(fd: number): boolean;
  isLocked(fd: number): boolean;
}

/**
 * - `alive`: its process runs, here or in another container of this machine
 * - `dead`: it has ended
 * - `elsewhere`: it belongs to another machine that shares this home, or to a time before a restart; its mount is not
 *   on this machine
 * - `unknown`: an older version wrote the record, and only asking helps
 */
export type RecordLife = 'alive' | 'dead' | 'elsewhere' | 'unknown';

export interface FoundRecord {
  readonly record: MountRecord;
  readonly life: RecordLife;
  /** Left out in records of older versions. */
  readonly process: ProcessIdentity | undefined;
}

const recordName = /^[0-9a-f]+\.json$/;

/** The record of a running daemon, from its start to its end. */
export class Registration {
  readonly #folder: string;
  readonly #path: string;
  readonly #locks: FileLocks | undefined;
  readonly #process = identifyThisProcess();
  #record: MountRecord;
  /** Stays open for as long as the lock should last. */
  #fd: number | undefined;

  private constructor(folder: string, id: string, record: MountRecord, locks: FileLocks | undefined) {
    this.#folder = folder;
    this.#path = join(folder, `${id}.json`);
    this.#record = record;
    this.#locks = locks;
  }

  /**
   * `id` is random, in lower-case hex. Makes `folder` if it is absent, and removes the records of daemons that have
   * ended.
   */
  static add(folder: string, id: string, record: MountRecord, locks: FileLocks | undefined): Registration {
    const registration = new Registration(folder, id, record, locks);
    registration.#write();
    removeDeadRecords(folder, locks);
    return registration;
  }

  /** The folder also holds control sockets that have no place elsewhere. */
  makeFolder(): void {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
  }

  #write(): void {
    this.makeFolder();
    const temporary = `${this.#path}.new`;
    // The file is locked before it gets its name by a rename: a reader sees neither half a record nor one that nobody
    // seems to hold.
    rmSync(temporary, { force: true });
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      const isLocked = asked(() => this.#locks?.lockExclusive(fd)) ?? false;
      writeFileSync(fd, `${JSON.stringify({ ...this.#record, process: this.#process, isLocked })}\n`);
      renameSync(temporary, this.#path);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = fd;
  }

  /** Makes the record say `socket`, and writes it anew if somebody removed it. Answers whether it had to. */
  keep(socket: string): boolean {
    if (this.#record.socket === socket && this.#isInPlace()) return false;
    this.#record = { ...this.#record, socket };
    this.#write();
    return true;
  }

  #isInPlace(): boolean {
    if (this.#fd === undefined) return false;
    const own = fstatSync(this.#fd);
    try {
      const found = statSync(this.#path);
      return found.ino === own.ino && found.dev === own.dev;
    } catch {
      return false;
    }
  }

  remove(): void {
    if (this.#isInPlace()) rmSync(this.#path, { force: true });
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** All records by mount point, including those of daemons that have ended. Files that are not records are skipped. */
export function readMountRecords(folder: string, locks: FileLocks | undefined): FoundRecord[] {
  const found: FoundRecord[] = [];
  for (const name of namesIn(folder)) {
    const one = recordName.test(name) ? readRecord(join(folder, name), locks) : undefined;
    if (one) found.push(one);
  }
  return found.toSorted((a, b) => (a.record.mountPoint < b.record.mountPoint ? -1 : 1));
}

/**
 * Removes only records that are proved dead (the lock is free, or the process would be seen here), and the socket
 * beside each.
 */
function removeDeadRecords(folder: string, locks: FileLocks | undefined): void {
  for (const name of namesIn(folder)) {
    const path = join(folder, name);
    if (!recordName.test(name) || readRecord(path, locks)?.life !== 'dead') continue;
    rmSync(path, { force: true });
    rmSync(path.replace(/\.json$/, '.sock'), { force: true });
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function readRecord(path: string, locks: FileLocks | undefined): FoundRecord | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    // Removed meanwhile, or not ours to read: in both cases there is nothing to ask.
    return undefined;
  }
  try {
    const value: unknown = JSON.parse(readFileSync(fd, 'utf8'));
    if (typeof value !== 'object' || value === null) return undefined;
    const fields = value as Readonly<Record<string, unknown>>;
    const record = decodeRecord(fields);
    if (!record) return undefined;
    const identity = decodeIdentity(fields['process']);
    return { record, process: identity, life: lifeOf(fd, fields['isLocked'] === true, identity, locks) };
  } catch {
    return undefined;
  } finally {
    closeSync(fd);
  }
}

function decodeRecord(fields: Readonly<Record<string, unknown>>): MountRecord | undefined {
  const text = (name: string): string => (typeof fields[name] === 'string' ? fields[name] : '');
  const pid = typeof fields['pid'] === 'number' ? fields['pid'] : 0;
  const record = {
    pid,
    mountPoint: text('mountPoint'),
    stateDirectory: text('stateDirectory'),
    socket: text('socket'),
    volumeId: text('volumeId'),
    store: text('store'),
  };
  return pid > 0 && record.mountPoint !== '' && record.socket !== '' ? record : undefined;
}

function decodeIdentity(value: unknown): ProcessIdentity | undefined {
  if (typeof value !== 'object' || value === null) return undefined;
  const { pid, startTicks, pidNamespace, bootId } = value as Partial<Record<keyof ProcessIdentity, unknown>>;
  if (typeof pid !== 'number' || typeof startTicks !== 'string' || typeof pidNamespace !== 'string' || typeof bootId !== 'string') return undefined;
  return { pid, startTicks, pidNamespace, bootId };
}

function lifeOf(fd: number, isLockable: boolean, identity: ProcessIdentity | undefined, locks: FileLocks | undefined): RecordLife {
  if (!identity) return 'unknown';
  const isLocked = isLockable ? asked(() => locks?.isLocked(fd)) : undefined;
  if (isLocked === false) return 'dead';
  if (!isOfThisBoot(identity)) return 'elsewhere';
  return isLocked === undefined && stateOfProcess(identity) === 'gone' ? 'dead' : 'alive';
}

/** `undefined`: this file system has no locks, or this machine no addon. */
function asked(ask: () => boolean | undefined): boolean | undefined {
  try {
    return ask();
  } catch {
    return undefined;
  }
}
