/**
 * The snapshots of a volume as folders: in each folder of the present one that lists the snapshots, and in that one for
 * each snapshot the folder as it was then (doc/past.md, "The folder of snapshots"). Everything can only be read. It
 * knows no FUSE; inode numbers are those of `snapshot-numbers.ts`, except of the present folder around it all.
 *
 * Fails with VfsError or VolumeError. What is in memory is answered synchronously.
 */
import type { ByteString } from '../base/brand.js';
import { latin1Slice } from '../base/bytes.js';
import { timespecOfMs } from '../base/clock.js';
import { andThen, type MaybePromise } from '../base/maybe-promise.js';
import { type Inode, isDirectory, isSymlink, S_IFDIR } from '../meta/inode.js';
import type { Ino } from '../meta/key.js';
import { findEntry } from '../operation/inode-view.js';
import type { PastVolume } from '../volume/past-volume.js';
import { findSnapshot, type NamedSnapshot, scanSnapshots } from '../volume/snapshots.js';
import type { Volume } from '../volume/volume.js';
import { attributesOf, type InodeAttributes } from './attributes.js';
import type { Caller } from './caller.js';
import { readFile, seekContent } from './content.js';
import { DirectoryListings, dotCookie, dotDotCookie, type ListedEntry } from './directory-listing.js';
import { getXattr, listXattrs } from './extended-attribute.js';
import type { DirectoryEntry } from './filesystem.js';
import { getInodeFlags } from './inode-flags.js';
import { heldDirectory, heldInode, inoNamed } from './protection.js';
import { type SnapshotId, type SnapshotNode, SnapshotNumbers } from './snapshot-numbers.js';
import { VfsError } from './vfs-error.js';

/** The volume, as far as snapshots need it. */
export type SnapshotSource = Pick<Volume, 'read' | 'inode' | 'past' | 'hasStopped' | 'readContent' | 'seek' | 'nextIno'>;

interface OpenSnapshot extends SnapshotId {
  readonly volume: PastVolume;
  readonly listings: DirectoryListings;
}

/** A node in a snapshot that is there. */
interface Place extends SnapshotNode {
  readonly snapshot: SnapshotId;
  readonly opened: OpenSnapshot;
}

type Take = (entry: DirectoryEntry) => boolean;

const openMax = 64;

export class SnapshotTree {
  readonly #source: SnapshotSource;
  readonly #numbers: SnapshotNumbers;
  /** By name, the least recently used first. */
  readonly #open = new Map<ByteString, OpenSnapshot>();

  constructor(source: SnapshotSource, numbers = new SnapshotNumbers()) {
    this.#source = source;
    this.#numbers = numbers;
  }

  /** The folder that lists the snapshots, in `folder`. `undefined` if that is no directory. */
  listIn(folder: Ino): MaybePromise<InodeAttributes | undefined> {
    return this.#source.read((view) => {
      const inode = this.#source.inode(view, folder);
      return inode && isDirectory(inode) ? this.#listAttributes(folder, inode, [...scanSnapshots(view)]) : undefined;
    });
  }

  /** Whether the number is that of a folder that lists the snapshots. */
  isList(number: number): boolean {
    const node = this.#numbers.nodeOf(number);
    return node !== undefined && node.snapshot === undefined;
  }

  /** What changes with the list is its time of change, by which a cached listing is found to be old. */
  #listAttributes(folder: Ino, inode: Inode, snapshots: readonly NamedSnapshot[]): InodeAttributes {
    const newest = timespecOfMs(Math.max(0, ...snapshots.map(({ timeMs }) => timeMs)));
    const time = { sec: newest.sec, nsec: snapshots.length };
    const like = { ...inode, mode: S_IFDIR | (inode.mode & 0o555), nlink: 2, atime: time, mtime: time, ctime: time, btime: inode.btime };
    return attributesOf(this.#numbers.numberOf({ snapshot: undefined, folder, ino: folder }), like, time);
  }

  /**
   * Undefined if there is no such name; the number of a present folder for the one around the list. `.` and `..` as in
   * `Filesystem`.
   */
  lookup(parent: number, name: ByteString): MaybePromise<InodeAttributes | Ino | undefined> {
    const node = this.#node(parent);
    if (node.snapshot === undefined) {
      if (name === '..') return node.folder;
      return name === '.' ? this.listIn(node.folder) : this.#enter(node.folder, name);
    }
    return andThen(this.#place(node), (place) => {
      if (name === '..' && place.ino === place.folder) return this.listIn(place.folder);
      const { volume } = place.opened;
      return volume.read((view) => {
        const parentInode = heldDirectory(volume, view, place.ino);
        const ino = name === '.' ? place.ino : name === '..' ? parentInode.parent || undefined : inoNamed(view, place.ino, name);
        return ino === undefined ? undefined : this.#attributes({ ...place, ino }, heldInode(volume, view, ino));
      });
    });
  }

  /** The folder as it was in that snapshot, if both were there. */
  #enter(folder: Ino, name: ByteString): MaybePromise<InodeAttributes | undefined> {
    return andThen(this.#opened(name), (opened) => opened && this.#entered(folder, opened));
  }

  #entered(folder: Ino, { name, sequence, volume }: OpenSnapshot): MaybePromise<InodeAttributes | undefined> {
    return volume.read((view) => {
      const inode = volume.inode(view, folder);
      return inode && isDirectory(inode) ? this.#attributes({ snapshot: { name, sequence }, folder, ino: folder }, inode) : undefined;
    });
  }

  getattr(number: number): MaybePromise<InodeAttributes> {
    const node = this.#node(number);
    if (node.snapshot === undefined) return andThen(this.listIn(node.folder), required);
    return andThen(this.#place(node), (place) => {
      const { volume } = place.opened;
      return volume.read((view) => this.#attributes(place, heldInode(volume, view, place.ino)));
    });
  }

  #attributes(node: SnapshotNode, inode: Inode): InodeAttributes {
    return attributesOf(this.#numbers.numberOf(node), inode, inode.atime);
  }

  readlink(number: number): MaybePromise<ByteString> {
    return this.#within(number, ({ ino, opened: { volume } }) =>
      volume.read((view) => {
        const inode = heldInode(volume, view, ino);
        if (!isSymlink(inode)) throw new VfsError('EINVAL', 'not a link');
        return latin1Slice(inode.inline, 0, inode.inline.byteLength);
      }),
    );
  }

  /** Up to `size` bytes, short only at the end of the file. The pieces are borrowed: use them at once. */
  read(caller: Caller, number: number, offset: number, size: number): MaybePromise<readonly Uint8Array[]> {
    return this.#within(number, ({ ino, opened: { volume } }) => readFile(volume, undefined, ino, offset, size, caller.signal));
  }

  seek(number: number, offset: number, whence: number): MaybePromise<number> {
    return this.#within(number, ({ ino, opened: { volume } }) => seekContent(volume, ino, offset, whence));
  }

  getxattr(number: number, name: ByteString): MaybePromise<Uint8Array> {
    if (this.#node(number).snapshot === undefined) throw new VfsError('ENODATA', 'no such attribute');
    return this.#within(number, ({ ino, opened: { volume } }) => getXattr(volume, ino, name));
  }

  listxattr(caller: Caller, number: number): MaybePromise<readonly ByteString[]> {
    if (this.#node(number).snapshot === undefined) return [];
    return this.#within(number, ({ ino, opened: { volume } }) => listXattrs(volume, caller, ino));
  }

  getflags(number: number): MaybePromise<number> {
    if (this.#node(number).snapshot === undefined) return 0;
    return this.#within(number, ({ ino, opened: { volume } }) => getInodeFlags(volume, ino));
  }

  /** As `Filesystem.readdir`. */
  readdir(number: number, cookie: number, withAttributes: boolean, take: Take): MaybePromise<void> {
    const node = this.#node(number);
    if (node.snapshot === undefined) return this.#list(node.folder, cookie, withAttributes, take);
    return andThen(this.#place(node), (place) => {
      const { volume, listings } = place.opened;
      const numberOf = (ino: Ino): Ino => this.#numbers.numberOf({ ...place, ino });
      const takeListed = ({ dirent: { name, ino, type, number: at }, inode }: ListedEntry): boolean =>
        take({ name, ino: numberOf(ino), mode: type, cookie: at, attributes: inode && this.#attributes({ ...place, ino }, inode) });
      if (cookie >= dotDotCookie) return listings.list(place.ino, cookie, withAttributes, takeListed);
      const inode = volume.read((view) => heldDirectory(volume, view, place.ino));
      return andThen(inode, ({ parent }) => {
        const isTop = place.ino === place.folder;
        const above = isTop ? this.#numbers.numberOf({ snapshot: undefined, folder: place.folder, ino: place.folder }) : numberOf(parent as Ino);
        if (!takeDots(number as Ino, above, cookie, take)) return undefined;
        return listings.list(place.ino, dotDotCookie, withAttributes, takeListed);
      });
    });
  }

  /** The snapshots in which the folder was there. The cookie counts them. */
  async #list(folder: Ino, cookie: number, withAttributes: boolean, take: Take): Promise<void> {
    const number = this.#numbers.numberOf({ snapshot: undefined, folder, ino: folder });
    if (cookie < dotDotCookie && !takeDots(number, folder, cookie, take)) return;
    const snapshots = await this.#source.read((view) => [...scanSnapshots(view)]);
    for (let at = Math.max(0, cookie - dotDotCookie); at < snapshots.length; at++) {
      const snapshot = snapshots[at];
      const attributes = snapshot && (await this.#entered(folder, this.#openedAs(snapshot)));
      if (!attributes) continue;
      const { ino, mode } = attributes;
      const entry = { name: snapshot.name, ino, mode, cookie: dotDotCookie + at + 1, attributes: withAttributes ? attributes : undefined };
      if (!take(entry)) return;
    }
  }

  /** Whoever looks this file up again gets another number for it. Answers by which names it may be known. */
  async renew(number: number): Promise<readonly { readonly parent: Ino; readonly name: ByteString }[]> {
    return this.#within(number, async (place) => {
      const { volume } = place.opened;
      const found = await volume.read((view) => {
        const { parent } = heldInode(volume, view, place.ino);
        return parent === 0 ? undefined : { parent, name: findEntry(view, parent, place.ino)?.name };
      });
      this.#numbers.renew(number);
      const { parent, name } = found ?? {};
      if (parent === undefined || name === undefined) return [];
      return this.#numbers.numbersOf({ ...place, ino: parent }).map((known) => ({ parent: known, name }));
    });
  }

  #node(number: number): SnapshotNode {
    const node = this.#numbers.nodeOf(number);
    if (!node) throw new VfsError('ESTALE', 'the number was forgotten');
    return node;
  }

  #within<T>(number: number, use: (place: Place) => MaybePromise<T>): MaybePromise<T> {
    const node = this.#node(number);
    if (node.snapshot === undefined) throw new VfsError('EINVAL', 'the list of snapshots is no file');
    return andThen(this.#place(node), use);
  }

  #place(node: SnapshotNode): MaybePromise<Place> {
    const { snapshot } = node;
    if (snapshot === undefined) throw new VfsError('EINVAL', 'not in a snapshot');
    return andThen(this.#opened(snapshot.name), (opened) => {
      if (opened?.sequence !== snapshot.sequence) throw new VfsError('ESTALE', 'the snapshot was removed');
      return { ...node, snapshot, opened };
    });
  }

  #opened(name: ByteString): MaybePromise<OpenSnapshot | undefined> {
    const found = this.#source.read((view) => findSnapshot(view, name));
    return andThen(found, (snapshot) => snapshot && this.#openedAs(snapshot));
  }

  #openedAs(snapshot: NamedSnapshot): OpenSnapshot {
    const { name, sequence } = snapshot;
    const known = this.#open.get(name);
    this.#open.delete(name);
    const volume = known?.sequence === sequence ? known.volume : this.#source.past.ofSnapshot(snapshot);
    const opened = known?.sequence === sequence ? known : { name, sequence, volume, listings: new DirectoryListings(volume) };
    this.#open.set(name, opened);
    for (const oldest of this.#open.keys()) {
      if (this.#open.size <= openMax) break;
      this.#open.delete(oldest);
    }
    return opened;
  }
}

/** Whether both fitted, as far as they were asked for. */
function takeDots(own: Ino, above: Ino, cookie: number, take: Take): boolean {
  if (cookie < dotCookie && !take({ name: '.', ino: own, mode: S_IFDIR, cookie: dotCookie, attributes: undefined })) return false;
  return take({ name: '..', ino: above, mode: S_IFDIR, cookie: dotDotCookie, attributes: undefined });
}

function required(attributes: InodeAttributes | undefined): InodeAttributes {
  if (!attributes) throw new VfsError('ESTALE', 'the folder is gone');
  return attributes;
}
