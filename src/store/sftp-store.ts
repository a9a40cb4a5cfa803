/**
 * An object store in a directory of an SSH server, with the layout of the directory store, so that the same directory
 * can also be used locally. An object is written under a temporary name, synced, and hard-linked to its key, which
 * fails when the key is taken; on servers without links it is renamed, which version 3 of the protocol also refuses for
 * a taken name (doc/stores.md, "SFTP").
 */
import { assert } from '../base/assert.js';
import type { Sealed } from '../base/brand.js';
import { systemClock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { Bandwidth } from '../base/rate-limit.js';
import type { Disk } from '../disk/disk.js';
import { isTemporaryName, temporaryName } from '../disk/temporary-file.js';
import { bodyPieces, bodySize } from './file-body.js';
import type { FolderAccess } from './folder-access.js';
import { accessIn } from './folder-access.js';
import { describeNames, namesInTheWay } from './folder-leftovers.js';
import { ListingBudget, listWithin } from './listing-budget.js';
import type { GetOptions, ListedObject, ListOptions, ObjectBody, ObjectKey, ObjectStore, PutOutcome } from './object-store.js';
import { defaultSizeMax, isObjectKey, StoreError } from './object-store.js';
import type { SftpConnection, SftpEntry, SftpHandle } from './sftp-connection.js';
import { sftpStatus } from './sftp-connection.js';
import type { SftpSessionOptions } from './sftp-session.js';
import { SftpSession } from './sftp-session.js';

export interface SftpStoreOptions extends SftpSessionOptions {
  /** Path on the server; a relative one starts at the home directory there. */
  readonly path: string;
  readonly disk: Disk;
  readonly random: Random;
  /** Limits content in both directions. Default: no limit. */
  readonly bandwidth?: Bandwidth | undefined;
}

/** Bytes that every server accepts in one request. */
const pieceSize = 32 * 1024;
/** Pieces under way for one object: one MiB per round trip of 30 ms is 35 MB/s. */
const piecesAtOnce = 32;
/** Entries of one directory that are kept, to be sorted. */
const entriesMax = 1_000_000;
const temporaryPlace = '_tmp';
/** Approximate bytes of a directory entry's kind, size, owner and times. */
const attributesSize = 32;
const markerName = '_sealdrive';
const markerSize = 32;
/** A temporary file this old belongs to nobody. */
const staleSec = 24 * 60 * 60;

export class SftpStore implements ObjectStore {
  readonly description: string;
  readonly local = false;
  readonly listsWhole = true;
  readonly #options: SftpStoreOptions;
  readonly #session: SftpSession;
  /** Directories made or seen by us. */
  readonly #directories = new Set<string>();
  #hasLinks = true;
  #hasSync = true;
  #isClean = false;
  /** Who may use what is made in the store. */
  #access: FolderAccess | undefined;

  /** Makes no connection. */
  constructor(options: SftpStoreOptions) {
    this.#options = options;
    this.description = `directory ${options.path} of ${options.where}`;
    this.#session = new SftpSession(options, this.description);
  }

  /**
   * Makes the directory (not its parents) where there is none, and a store in it; opens the store that is there. Throws
   * {@link StoreError}.
   */
  create(): Promise<void> {
    const { path, random } = this.#options;
    return this.#session.run('making the store', undefined, async (connection) => {
      await connection.makeDirectory(path).catch((error: unknown) => {
        if (sftpStatus(error) === 'NO_SUCH_FILE') throw new StoreError('NOT_A_STORE', `there is no directory to make ${path} in`, { cause: error });
        // It may exist already; reading it will show that.
        if (sftpStatus(error) !== 'FAILURE') throw error;
      });
      const names = namesInTheWay((await this.#allEntries(connection, path, 'making the store')).map(({ filename }) => filename));
      if (names.includes(markerName) || names.includes('keys')) return;
      if (names.length > 0) {
        throw new StoreError('NOT_A_STORE', `${path} holds other files (${describeNames(names)}): a store is made in an empty directory`);
      }
      await this.#place(connection, `${path}/${markerName}`, random.bytes(markerSize) as Sealed);
    });
  }

  get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    const { range, signal } = options;
    const path = this.#path(key);
    return this.#session.run(`reading ${key}`, signal, async (connection) => {
      let handle: SftpHandle;
      try {
        handle = await connection.openFile(path, 'r');
      } catch (error) {
        if (sftpStatus(error) !== 'NO_SUCH_FILE') throw error;
        await this.#checkRoot(connection);
        return undefined;
      }
      try {
        const { size } = await connection.sizeOf(handle);
        const start = Math.min(range?.offset ?? 0, size);
        const length = Math.min(range?.length ?? Infinity, size - start);
        const sizeMax = Math.min(options.sizeMax ?? Infinity, range?.length ?? options.sizeMax ?? defaultSizeMax);
        if (length > sizeMax) throw new StoreError('PROTOCOL', `object ${key} has ${length} bytes, at most ${sizeMax} are expected`);
        const bytes = Buffer.allocUnsafeSlow(length);
        await this.#readAll(connection, handle, bytes, start, signal);
        return bytes;
      } finally {
        void connection.closeFile(handle).catch(() => {});
      }
    });
  }

  async #readAll(connection: SftpConnection, handle: SftpHandle, bytes: Uint8Array, start: number, signal: AbortSignal | undefined): Promise<void> {
    let next = 0;
    const work = async (): Promise<void> => {
      while (next < bytes.byteLength) {
        signal?.throwIfAborted();
        const end = Math.min(next + pieceSize, bytes.byteLength);
        let at = next;
        next = end;
        if (bytes.byteLength > pieceSize) await this.#options.bandwidth?.download.take(end - at, signal);
        else this.#options.bandwidth?.download.charge(end - at);
        while (at < end) {
          const count = await connection.read(handle, bytes.subarray(at, end), start + at);
          if (count <= 0 || count > end - at) throw new StoreError('UNAVAILABLE', 'the server has less of a file than it said');
          at += count;
        }
      }
    };
    await Promise.all(Array.from({ length: Math.min(piecesAtOnce, Math.ceil(bytes.byteLength / pieceSize)) }, work));
  }

  put(key: ObjectKey, body: ObjectBody, options: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal } = {}): Promise<PutOutcome> {
    const { signal } = options;
    const path = this.#path(key);
    const parent = path.slice(0, path.lastIndexOf('/'));
    return this.#session.run(`writing ${key}`, signal, async (connection) => {
      await this.#removeStale(connection).catch(() => {});
      await this.#ensureDirectory(connection, parent);
      try {
        return await this.#place(connection, path, body, signal);
      } catch (error) {
        if (sftpStatus(error) !== 'NO_SUCH_FILE') throw error;
        // Someone removed a directory that we had seen, so all of them are made again.
        this.#directories.clear();
        await this.#checkRoot(connection);
        await this.#ensureDirectory(connection, parent);
        return await this.#place(connection, path, body, signal);
      }
    });
  }

  /** Writes `body` under a name of its own, and gives it the name `path` unless that is taken. */
  async #place(connection: SftpConnection, path: string, body: ObjectBody, signal?: AbortSignal): Promise<PutOutcome> {
    const { path: root, random } = this.#options;
    await this.#ensureDirectory(connection, `${root}/${temporaryPlace}`);
    const temporary = `${root}/${temporaryPlace}/${temporaryName(random)}`;
    const handle = await connection.openFile(temporary, 'wx');
    let isRenamed = false;
    try {
      try {
        await this.#writeAll(connection, handle, body, signal);
        await this.#share(connection, handle, 'file');
        if (this.#hasSync) {
          await connection.sync(handle).catch((error: unknown) => {
            if (sftpStatus(error) !== 'UNSUPPORTED') throw error;
            this.#hasSync = false;
          });
        }
      } finally {
        await connection.closeFile(handle);
      }
      try {
        if (this.#hasLinks) await connection.link(temporary, path);
        else {
          await connection.rename(temporary, path);
          isRenamed = true;
        }
        return 'created';
      } catch (error) {
        const status = sftpStatus(error);
        if (status !== 'FAILURE' && status !== 'UNSUPPORTED' && status !== 'PERMISSION_DENIED' && status !== 'OTHER') throw error;
        if (await this.#isThere(connection, path)) return 'exists';
        if (!this.#hasLinks) throw error;
        // The filesystem there has no hard links.
        await connection.rename(temporary, path).catch(async (second: unknown) => {
          if (sftpStatus(second) === 'FAILURE' && (await this.#isThere(connection, path))) return;
          throw second;
        });
        isRenamed = !(await this.#isThere(connection, temporary));
        this.#hasLinks = false;
        return isRenamed ? 'created' : 'exists';
      }
    } finally {
      // A file that stays behind is removed as stale one day; a failure here says nothing about the object.
      if (!isRenamed) await connection.unlink(temporary).catch(() => {});
    }
  }

  async #writeAll(connection: SftpConnection, handle: SftpHandle, body: ObjectBody, signal: AbortSignal | undefined): Promise<void> {
    const underWay = new Set<Promise<void>>();
    let position = 0;
    let failure: { readonly error: unknown } | undefined;
    for await (const piece of bodyPieces(this.#options.disk, body, pieceSize)) {
      signal?.throwIfAborted();
      if (failure) break;
      await this.#options.bandwidth?.upload.take(piece.byteLength, signal);
      const write: Promise<void> = connection.write(handle, piece, position).then(
        () => void underWay.delete(write),
        (error: unknown) => {
          failure ??= { error };
          underWay.delete(write);
        },
      );
      underWay.add(write);
      position += piece.byteLength;
      if (underWay.size >= piecesAtOnce) await Promise.race(underWay);
    }
    await Promise.all(underWay);
    if (!failure) return;
    // The protocol has no status for a full disk.
    const free = await connection.freeSpace(this.#options.path).catch(() => Infinity);
    if (sftpStatus(failure.error) === 'FAILURE' && free < bodySize(body) + pieceSize) {
      throw new StoreError('FULL', 'the disk of the server is full', { cause: failure.error });
    }
    throw failure.error;
  }

  async #isThere(connection: SftpConnection, path: string): Promise<boolean> {
    try {
      await connection.stat(path);
      return true;
    } catch (error) {
      if (sftpStatus(error) === 'NO_SUCH_FILE') return false;
      throw error;
    }
  }

  async #ensureDirectory(connection: SftpConnection, path: string): Promise<void> {
    if (path === this.#options.path || this.#directories.has(path)) return;
    await this.#ensureDirectory(connection, path.slice(0, path.lastIndexOf('/')));
    try {
      await connection.makeDirectory(path);
      await this.#share(connection, path, 'folder');
    } catch (error) {
      // Servers report only a failure; the next put there shows whether the directory exists.
      if (sftpStatus(error) !== 'FAILURE') throw error;
    }
    this.#directories.add(path);
  }

  /**
   * Gives a new file or folder the rights of the root, where others share it. A server that refuses them has rules of
   * its own.
   */
  async #share(connection: SftpConnection, made: SftpHandle | string, kind: 'file' | 'folder'): Promise<void> {
    if (!this.#access) {
      const { mode, gid } = await connection.stat(this.#options.path);
      this.#access = accessIn({ mode, group: gid });
    }
    if (!this.#access.isShared) return;
    await connection.setAccess(made, this.#access[kind]).catch((error: unknown) => {
      if (!['PERMISSION_DENIED', 'UNSUPPORTED', 'FAILURE'].includes(sftpStatus(error) ?? '')) throw error;
    });
  }

  list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    return listWithin(prefix, options, systemClock, (after, budget) => this.#walk(prefix, after, budget));
  }

  /** One directory at a time is in memory. */
  async *#walk(prefix: string, after: string, budget: ListingBudget): AsyncGenerator<ListedObject> {
    const { doing } = budget;
    const found: { readonly key: string; readonly sort: string; readonly size: number; readonly isFolder: boolean }[] = [];
    const take = ({ filename, attrs }: SftpEntry): void => {
      const key = prefix + filename;
      // Foreign names are ignored.
      if (!isObjectKey(key)) return;
      if (attrs.isFile()) budget.found();
      if (attrs.isFile() && key > after) found.push({ key, sort: key, size: attrs.size, isFolder: false });
      // Everything below sorts between `key/` and `key0`.
      else if (attrs.isDirectory() && `${key}0` > after) found.push({ key, sort: `${key}/`, size: 0, isFolder: true });
      if (found.length > entriesMax) throw new StoreError('PROTOCOL', `${doing}: a directory has more than ${entriesMax} entries`);
    };
    budget.request();
    await this.#session.run(doing, budget.signal, async (connection) => {
      try {
        await readWithin(connection, `${this.#options.path}/${prefix}`, budget, take);
      } catch (error) {
        if (sftpStatus(error) !== 'NO_SUCH_FILE') throw error;
        await this.#checkRoot(connection);
      }
    });
    found.sort((a, b) => (a.sort < b.sort ? -1 : 1));
    for (const { key, size, isFolder } of found) {
      budget.signal.throwIfAborted();
      if (isFolder) yield* this.#walk(`${key}/`, after, budget);
      else yield { key, size };
    }
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    const paths = keys.map((key) => this.#path(key));
    if (paths.length === 0) return;
    await this.#session.run(`removing ${paths.length} objects`, undefined, async (connection) => {
      const queue = [...paths];
      const work = async (): Promise<void> => {
        for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
          await connection.unlink(path).catch((error: unknown) => {
            if (sftpStatus(error) !== 'NO_SUCH_FILE') throw error;
          });
        }
      };
      await Promise.all(Array.from({ length: Math.min(piecesAtOnce, paths.length) }, work));
    });
  }

  head(key: ObjectKey): Promise<number | undefined> {
    const path = this.#path(key);
    return this.#session.run(`looking for ${key}`, undefined, async (connection) => {
      try {
        const stat = await connection.stat(path);
        return stat.isFile() ? stat.size : undefined;
      } catch (error) {
        if (sftpStatus(error) !== 'NO_SUCH_FILE') throw error;
        await this.#checkRoot(connection);
        return undefined;
      }
    });
  }

  async close(): Promise<void> {
    await this.#session.close();
  }

  #path(key: ObjectKey): string {
    assert(isObjectKey(key), 'an object key is made of plain segments');
    return `${this.#options.path}/${key}`;
  }

  /**
   * Throws `NOT_A_STORE` when the directory is gone, or holds no store because its disk is not mounted: nothing may be
   * called absent then.
   */
  async #checkRoot(connection: SftpConnection): Promise<void> {
    const { path } = this.#options;
    if ((await this.#isThere(connection, `${path}/${markerName}`)) || (await this.#isThere(connection, `${path}/keys`))) return;
    throw new StoreError('NOT_A_STORE', `${this.description} holds no Sealdrive store; is the disk that holds it mounted on the server?`);
  }

  async #removeStale(connection: SftpConnection): Promise<void> {
    if (this.#isClean) return;
    this.#isClean = true;
    const { path: root } = this.#options;
    // Only a listing distinguishes a link from a folder, and a link leads to files that are not ours.
    const isFolder = (await this.#allEntries(connection, root, 'looking for leftovers')).some(
      ({ filename, attrs }) => filename === temporaryPlace && attrs.isDirectory(),
    );
    if (!isFolder) return;
    const place = `${root}/${temporaryPlace}`;
    const entries = await this.#allEntries(connection, place, 'looking for leftovers').catch(() => []);
    const newest = entries.reduce((latest, { attrs }) => Math.max(latest, attrs.mtime), 0);
    // Ages are computed by the clock of the server alone, from which ours may differ by any amount.
    for (const { filename, attrs } of entries) {
      if (attrs.isFile() && isTemporaryName(filename) && newest - attrs.mtime > staleSec)
        await connection.unlink(`${place}/${filename}`).catch(() => {});
    }
  }

  /** For directories with few entries. */
  async #allEntries(connection: SftpConnection, path: string, doing: string): Promise<SftpEntry[]> {
    const budget = new ListingBudget(doing, systemClock);
    const entries: SftpEntry[] = [];
    try {
      await readWithin(connection, path, budget, (entry) => void entries.push(entry));
      return entries;
    } finally {
      budget.end();
    }
  }
}

/** Hands each entry of a directory to `take`, within the budget. Throws StoreError, and errors of the connection. */
export async function readWithin(
  connection: Pick<SftpConnection, 'readDirectory'>,
  path: string,
  budget: ListingBudget,
  take: (entry: SftpEntry) => void,
): Promise<void> {
  await connection.readDirectory(path, (entries) => {
    budget.request();
    for (const entry of entries) {
      budget.received(entry.filename.length + entry.longname.length + attributesSize);
      // Paths would all be taken for foreign names, and a directory with a volume for an empty one.
      if (entry.filename.includes('/')) throw new StoreError('PROTOCOL', `${budget.doing}: the server lists paths where names belong`);
      take(entry);
    }
  });
}
