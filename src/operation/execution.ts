/**
 * One running operation's access to its transaction: who runs it, and what it adds to the volume's totals. This is the
 * only place that encodes inodes, entries and orphans into the tree (doc/format.md, "Tree keys"); `operation-*.ts`
 * decide what to write.
 */
import { assert } from '../base/assert.js';
import type { ByteString } from '../base/brand.js';
import { ByteWriter } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import { deleteEntry, type NamedDirent, putEntry } from '../meta/dirent.js';
import { encodeInode, type Inode, isDirectory } from '../meta/inode.js';
import { type Ino, inodeKey, isFileName, orphanKey } from '../meta/key.js';
import { readInode, requireInode } from './inode-view.js';
import { OperationError } from './operation.js';
import type { StatisticsDelta } from './statistics.js';
import type { Transaction } from './view.js';

/** The most names of a file or directory (EMLINK). */
export const nlinkMax = 2 ** 31;

export class Execution {
  readonly view: Transaction;
  /** The device that runs it: it holds the orphans that the operation makes, and frees them later. */
  readonly deviceIndex: number;
  #files = 0;
  #bytes = 0;

  constructor(view: Transaction, deviceIndex: number) {
    this.view = view;
    this.deviceIndex = deviceIndex;
  }

  get delta(): StatisticsDelta {
    return { files: this.#files, bytes: this.#bytes };
  }

  createInode(ino: Ino, inode: Inode): void {
    assert(readInode(this.view, ino) === undefined, 'an inode number is given once');
    this.#files++;
    this.#bytes += inode.allocated;
    this.view.put(inodeKey(ino), encodeInode(inode));
  }

  /**
   * Reads, changes and writes an inode; sees what the same operation wrote before. Throws ESTALE when there is no such
   * inode.
   */
  changeInode(ino: Ino, changed: (inode: Inode) => Partial<Inode>): void {
    const before = requireInode(this.view, ino);
    const after = { ...before, ...changed(before) };
    this.#bytes += after.allocated - before.allocated;
    this.view.put(inodeKey(ino), encodeInode(after));
  }

  deleteInode(ino: Ino, inode: Inode): void {
    this.#files--;
    this.#bytes -= inode.allocated;
    this.view.delete(inodeKey(ino));
  }

  /** An entry of the same name must have the same number. */
  putEntry(parent: Ino, entry: NamedDirent): void {
    putEntry(this.view, parent, entry);
  }

  deleteEntry(parent: Ino, entry: Pick<NamedDirent, 'name' | 'number'>): void {
    deleteEntry(this.view, parent, entry);
  }

  putOrphan(ino: Ino): void {
    this.view.put(orphanKey(ino), new ByteWriter(4).varint(this.deviceIndex).finish());
  }

  deleteOrphan(ino: Ino): void {
    this.view.delete(orphanKey(ino));
  }

  isOrphan(ino: Ino): boolean {
    return this.view.get(orphanKey(ino)) !== undefined;
  }

  /** Requires a directory that still has a name. Throws ESTALE, ENOTDIR or (removed) ENOENT. */
  requireDirectory(ino: Ino): Inode {
    const inode = requireInode(this.view, ino);
    if (!isDirectory(inode)) throw new OperationError('ENOTDIR', 'the parent is not a directory');
    if (inode.nlink === 0) throw new OperationError('ENOENT', 'the directory was removed');
    return inode;
  }

  /** Updates a directory after its content changed: its times and its count of subdirectories. */
  touchDirectory(ino: Ino, time: Timespec, subdirectories: number): void {
    this.changeInode(ino, (directory) => ({ nlink: directory.nlink + subdirectories, mtime: time, ctime: time }));
  }
}

/** Throws ENAMETOOLONG, ENOENT (empty) or EINVAL. */
export function checkName(name: ByteString): void {
  if (isFileName(name)) return;
  if (name.length > 255) throw new OperationError('ENAMETOOLONG', 'a name has at most 255 bytes');
  if (name.length === 0) throw new OperationError('ENOENT', 'a name is not empty');
  throw new OperationError('EINVAL', 'not a file name');
}
