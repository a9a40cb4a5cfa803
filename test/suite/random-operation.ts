/** Random operations such as applications make, over the entries of a view. */
import { isDirectory, isRegular, S_IFDIR, S_IFLNK, S_IFREG } from '../../src/meta/inode.js';
import { firstCounter, type Ino, makeIno, orphanEnd, orphanStart, rootIno } from '../../src/meta/key.js';
import { lookup, readInode, scanEntries } from '../../src/operation/inode-view.js';
import type { Operation } from '../../src/operation/operation.js';
import type { ReadView } from '../../src/operation/view.js';
import { fakeExtent } from './fake-content.js';
import type { SeededRandom } from './seeded-random.js';

interface Entry {
  readonly parent: Ino;
  readonly name: string;
  readonly ino: Ino;
  readonly path: string;
}

/** Every name below the root, parents first. */
export function allEntries(view: ReadView): Entry[] {
  const found: Entry[] = [];
  const walk = (directory: Ino, path: string): void => {
    for (const { name, ino, type } of scanEntries(view, directory)) {
      found.push({ parent: directory, name, ino, path: `${path}/${name}` });
      if (type === S_IFDIR) walk(ino, `${path}/${name}`);
    }
  };
  walk(rootIno, '');
  return found;
}

const names = ['a', 'b', 'c.txt', 'd'];

/** The applications of one device. */
export class RandomApplications {
  readonly deviceIndex: number;
  readonly #random: SeededRandom;
  #inos = firstCounter;
  #stamps = 0;
  #sec = 1_700_000_000;

  constructor(deviceIndex: number, random: SeededRandom) {
    this.deviceIndex = deviceIndex;
    this.#random = random;
  }

  /** Applications that go on with the same numbers, as those of a copied installation do. */
  copy(): RandomApplications {
    const copy = new RandomApplications(this.deviceIndex, this.#random);
    [copy.#inos, copy.#stamps, copy.#sec] = [this.#inos, this.#stamps, this.#sec];
    return copy;
  }

  newIno(): Ino {
    return makeIno(this.deviceIndex, this.#inos++);
  }

  #stamp(): { deviceIndex: number; counter: number } {
    return { deviceIndex: this.deviceIndex, counter: ++this.#stamps };
  }

  #pick<T>(items: readonly T[]): T | undefined {
    return items.length === 0 ? undefined : items[this.#random.below(items.length)];
  }

  /**
   * It may fail, as operations of applications do; `undefined` when the view has nothing that the drawn operation
   * needs.
   */
  next(view: ReadView): Operation | undefined {
    const random = this.#random;
    const time = { sec: this.#sec++, nsec: 0 };
    const entries = allEntries(view);
    const directories = [rootIno, ...entries.filter((entry) => lookup(view, entry.parent, entry.name)?.type === S_IFDIR).map((entry) => entry.ino)];
    const files = entries.filter((entry) => lookup(view, entry.parent, entry.name)?.type === S_IFREG);
    const parent = this.#pick(directories) as Ino;
    const name = this.#pick(names) as string;
    const owner = { uid: 0, gid: 0, rdev: 0, xattrs: [] };
    switch (random.below(16)) {
      case 0:
      case 1:
        return { type: 'create', parent, name, ino: this.newIno(), mode: S_IFREG | 0o644, ...owner, target: undefined, time };
      case 2:
        return { type: 'create', parent, name, ino: this.newIno(), mode: S_IFDIR | 0o755, ...owner, target: undefined, time };
      case 3:
        return { type: 'create', parent, name, ino: this.newIno(), mode: S_IFLNK | 0o777, ...owner, target: 'somewhere', time };
      case 4: {
        const file = this.#pick(files);
        return file && { type: 'link', ino: file.ino, parent, name, number: this.newIno(), time };
      }
      case 5:
      case 6: {
        const entry = this.#pick(entries);
        const inode = entry && readInode(view, entry.ino);
        return entry && inode && { type: isDirectory(inode) ? 'rmdir' : 'unlink', parent: entry.parent, name: entry.name, ino: entry.ino, time };
      }
      case 7:
      case 8:
      case 9: {
        const entry = this.#pick(entries);
        if (!entry) return undefined;
        const replacedIno = lookup(view, parent, name)?.ino;
        const flags = [0, 0, 0, 1, 2][random.below(5)]!;
        const from = { parent: entry.parent, name: entry.name, ino: entry.ino };
        return { type: 'rename', ...from, newParent: parent, newName: name, flags, replacedIno, whiteoutIno: undefined, time };
      }
      case 10: {
        const file = this.#pick(files);
        if (!file) return undefined;
        if (random.below(2) === 0) return { type: 'setattr', ino: file.ino, mode: 0o600 + random.below(64), time };
        return { type: 'setattr', ino: file.ino, size: random.below(200), stamp: this.#stamp(), time };
      }
      case 11: {
        const from = this.#pick(files);
        const to = this.#pick(files);
        if (!from || !to) return undefined;
        return { type: 'clone', from: from.ino, fromOffset: 0, to: to.ino, toOffset: 0, length: 1e9, stamp: this.#stamp(), time };
      }
      case 12: {
        const orphan = [...view.scan(orphanStart, orphanEnd)].map(([key]) => key)[0];
        if (orphan === undefined || random.below(2) === 0) return undefined;
        let ino = 0;
        for (const char of orphan.slice(1)) ino = ino * 256 + char.charCodeAt(0);
        return { type: 'reclaim', ino: ino as Ino };
      }
      case 13: {
        const entry = this.#pick(entries);
        return entry && { type: 'setxattr', ino: entry.ino, name: 'user.x', value: random.bytes(3), flags: 0, mode: undefined, time };
      }
      default: {
        const file = this.#pick(files);
        const inode = file && readInode(view, file.ino);
        if (!file || !inode || !isRegular(inode)) return undefined;
        const base = { ino: file.ino, mtime: time, stamp: this.#stamp(), baseStamp: inode.stamp, upTo: 0 };
        if (random.below(2) === 0) {
          const content = random.bytes(1 + random.below(40));
          return { type: 'inline', ...base, content, size: content.byteLength };
        }
        const offset = inode.inline.byteLength > 0 ? 0 : random.below(300);
        const extent = fakeExtent(random, Math.max(inode.inline.byteLength, 1 + random.below(200)));
        return { type: 'write', ...base, pieces: [{ offset, extent }], size: offset + extent.length };
      }
    }
  }
}
