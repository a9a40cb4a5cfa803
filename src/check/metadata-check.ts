/**
 * Whether the metadata as a whole makes sense: a pure fold over all entries of the key space in their order, and a verdict at the end
 * (doc/format.md, "Tree keys"). One pass suffices because entries come before extents, extents before inodes, inodes before orphans and
 * xattrs: `D` `E` `I` `O` `S` `X`. It reads nothing and mends nothing.
 */
import { ByteReader, MalformedBytesError } from '../base/bytes.js';
import { type Dirent, decodeDirent } from '../meta/dirent.js';
import { decodeExtent, type Extent } from '../meta/extent.js';
import { decodeInode, type Inode, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../meta/inode.js';
import { type DecodedKey, decodeKey, type Ino, inodeKey, orphanKey, rootIno, type TreeKey } from '../meta/key.js';
import type { Findings } from './finding.js';
import { hasExtents, hasInode, hasXattrs, InodeTable, isDir, isOrphan, isUnreadable, wantsOrphan } from './inode-table.js';

const directoryType = S_IFDIR >>> 12;

/** Keys that could not be read: what they would have said must not be taken for absent. */
export interface LostKeys {
  isLost(key: string): boolean;
  /** Whether some key of this letter is. */
  isKindLost(letter: string): boolean;
}

export interface MetadataCheckOptions {
  readonly findings: Findings;
  readonly lost: LostKeys;
  /** Told of every extent that decodes. */
  readonly onExtent?: (ino: Ino, offset: number, extent: Extent) => void;
}

export interface MetadataTotals {
  /** Inodes. */
  readonly files: number;
  /** The sum of what they say is allocated. */
  readonly bytes: number;
}

export class MetadataCheck {
  readonly #findings: Findings;
  readonly #lost: LostKeys;
  readonly #onExtent: MetadataCheckOptions['onExtent'];
  readonly #table = new InodeTable();
  #files = 0;
  #bytes = 0;
  #extentIno = 0;
  #extentEnd = 0;

  constructor(options: MetadataCheckOptions) {
    this.#findings = options.findings;
    this.#lost = options.lost;
    this.#onExtent = options.onExtent;
  }

  get totals(): MetadataTotals {
    return { files: this.#files, bytes: this.#bytes };
  }

  /** Keys must ascend. Borrows `value`. */
  add(key: string, value: Uint8Array): void {
    let decoded: DecodedKey;
    try {
      decoded = decodeKey(key as TreeKey);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      this.#findings.add('KEY_MALFORMED', `a key of the tree is malformed: ${error.message}`);
      return;
    }
    try {
      this.#addDecoded(decoded, value);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      const ino = 'ino' in decoded ? decoded.ino : undefined;
      const facts = decoded.type === 'dirent' ? { parent: decoded.ino } : ino === undefined ? {} : { ino };
      this.#findings.add('VALUE_MALFORMED', `the ${decoded.type} record does not decode: ${error.message}`, facts);
      if (decoded.type === 'inode') this.#setFlag(decoded.ino, isUnreadable);
    }
  }

  #addDecoded(decoded: DecodedKey, value: Uint8Array): void {
    switch (decoded.type) {
      case 'dirent':
        return this.#addEntry(decoded.ino, decodeDirent(value));
      case 'extent':
        return this.#addExtent(decoded.ino, decoded.offset, decodeExtent(value));
      case 'inode':
        return this.#addInode(decoded.ino, decodeInode(value));
      case 'orphan':
        return this.#addOrphan(decoded.ino, value);
      case 'xattr':
        return this.#setFlag(decoded.ino, hasXattrs);
      default:
    }
  }

  #setFlag(ino: Ino, flag: number): void {
    const slot = this.#table.slotOf(ino);
    this.#table.flags[slot] |= flag;
  }

  #addEntry(parent: Ino, { ino, type }: Dirent): void {
    const table = this.#table;
    const slot = table.slotOf(ino);
    const kind = type >>> 12;
    if (table.entryType[slot] !== 0 && table.entryType[slot] !== kind)
      this.#findings.add('ENTRY_TYPE', 'two entries disagree on what kind of file this is', { ino, parent });
    table.entryType[slot] = kind;
    table.names[slot]++;
    table.namedIn[slot] = parent;
    const above = table.slotOf(parent);
    if (kind === directoryType) table.subdirectories[above]++;
    // Whether the directory is there turns out when the inodes come.
    table.mark[above] = 1;
  }

  #addExtent(ino: Ino, offset: number, extent: Extent): void {
    const slot = this.#table.slotOf(ino);
    if (this.#extentIno === ino && offset < this.#extentEnd)
      this.#findings.add('EXTENT_OVERLAP', 'two extents of a file cover the same bytes', { ino, offset });
    if (offset + extent.length > Number.MAX_SAFE_INTEGER)
      this.#findings.add('EXTENT_OVERLAP', 'an extent ends past the largest size of a file', { ino, offset });
    this.#extentEnd = Math.max(this.#extentIno === ino ? this.#extentEnd : 0, offset + extent.length);
    this.#extentIno = ino;
    this.#table.flags[slot] |= hasExtents;
    this.#table.covered[slot] += extent.length;
    if (extent.kind === 'data') this.#table.dataEnd[slot] = Math.max(this.#table.dataEnd[slot], offset + extent.length);
    this.#onExtent?.(ino, offset, extent);
  }

  #addInode(ino: Ino, inode: Inode): void {
    const table = this.#table;
    const slot = table.slotOf(ino);
    const format = inode.mode & S_IFMT;
    const kind = format >>> 12;
    table.flags[slot] |= format === S_IFDIR ? hasInode | isDir : hasInode;
    table.type[slot] = kind;
    table.nlink[slot] = Math.min(inode.nlink, 0xffffffff);
    table.parent[slot] = inode.parent;
    this.#files++;
    this.#bytes += inode.allocated;
    this.#checkContent(ino, slot, inode, format);
    const entryKind = table.entryType[slot];
    if (entryKind !== 0 && entryKind !== kind) {
      this.#findings.add('ENTRY_TYPE', 'the entry says another kind of file than the inode is', { ino, parent: table.namedIn[slot] as Ino });
      const above = table.slotOf(table.namedIn[slot]);
      // The count of subdirectories follows the inodes.
      if (kind === directoryType) table.subdirectories[above]++;
      else if (entryKind === directoryType) table.subdirectories[above]--;
    }
    if (table.names[table.find(ino)] === 0 && ino !== rootIno) this.#setFlag(ino, wantsOrphan);
  }

  #checkContent(ino: Ino, slot: number, inode: Inode, format: number): void {
    const findings = this.#findings;
    const covered = this.#table.covered[slot];
    const inline = inode.inline.byteLength;
    if (inline > 0 && covered > 0) findings.add('CONTENT_TWICE', 'a file has inline content and extents', { ino });
    if (format !== S_IFREG && covered > 0) findings.add('CONTENT_KIND', 'extents belong to something that is no regular file', { ino });
    if (format !== S_IFREG && format !== S_IFLNK && inline > 0)
      findings.add('CONTENT_KIND', 'something that is neither a file nor a link has content', { ino });
    if (inode.size < inline || (format === S_IFLNK && inode.size !== inline))
      findings.add('SIZE', 'the size does not fit the inline content', { ino, expected: inline, found: inode.size });
    if (this.#table.dataEnd[slot] > inode.size)
      findings.add('DATA_PAST_END', 'data lies past the end of the file', { ino, expected: inode.size, found: this.#table.dataEnd[slot] });
    if (inode.allocated !== covered + inline && !this.#lost.isKindLost('E'))
      findings.add('ALLOCATED', 'the space that the inode claims is not what it has', { ino, expected: covered + inline, found: inode.allocated });
  }

  #addOrphan(ino: Ino, value: Uint8Array): void {
    const reader = new ByteReader(value);
    reader.varint();
    reader.end();
    const slot = this.#table.slotOf(ino);
    this.#table.flags[slot] |= isOrphan;
  }

  /** The verdict on what only all entries together show. `totals`: what the commits add up to. */
  finish(totals: MetadataTotals | undefined): void {
    const table = this.#table;
    const slots = table.slots();
    const namesWhole = !this.#lost.isKindLost('D');
    const root = table.find(rootIno);
    const hasRoot = root >= 0 && (table.flags[root] & (hasInode | isDir)) === (hasInode | isDir);
    if (!hasRoot && !this.#lost.isLost(inodeKey(rootIno))) this.#findings.add('ROOT_MISSING', 'the root directory is not there', { ino: rootIno });
    for (const slot of slots) {
      if ((table.flags[slot] & hasInode) === 0) this.#judgeMissing(slot);
      else this.#judgeInode(slot, namesWhole);
    }
    this.#findCycles(slots);
    const counted = this.totals;
    if (totals && (totals.files !== counted.files || totals.bytes !== counted.bytes) && !this.#lost.isKindLost('I')) {
      if (totals.files !== counted.files)
        this.#findings.add('TOTALS', 'the count of files is wrong', { expected: counted.files, found: totals.files });
      if (totals.bytes !== counted.bytes) this.#findings.add('TOTALS', 'the sum of bytes is wrong', { expected: counted.bytes, found: totals.bytes });
    }
  }

  /** Something refers to an inode that is not there. */
  #judgeMissing(slot: number): void {
    const table = this.#table;
    const ino = table.inoAt(slot);
    // Whatever is wrong with the inode's own record was reported.
    if (this.#lost.isLost(inodeKey(ino)) || (table.flags[slot] & isUnreadable) !== 0) return;
    const names = table.names[slot];
    if (names > 0)
      this.#findings.add('ENTRY_DANGLES', 'an entry points to an inode that is not there', { ino, parent: table.namedIn[slot] as Ino, found: names });
    if (table.mark[slot] === 1) this.#findings.add('ENTRY_WITHOUT_DIRECTORY', 'entries lie in a directory that is not there', { parent: ino });
    if ((table.flags[slot] & hasExtents) !== 0) this.#findings.add('EXTENT_STRAY', 'extents belong to an inode that is not there', { ino });
    if ((table.flags[slot] & hasXattrs) !== 0) this.#findings.add('XATTR_STRAY', 'attributes belong to an inode that is not there', { ino });
    if ((table.flags[slot] & isOrphan) !== 0) this.#findings.add('ORPHAN_STRAY', 'an inode that is not there is recorded as removed', { ino });
  }

  #judgeInode(slot: number, namesWhole: boolean): void {
    const table = this.#table;
    const ino = table.inoAt(slot);
    const flags = table.flags[slot];
    const isDirectory = (flags & isDir) !== 0;
    const isRoot = ino === rootIno;
    const names = table.names[slot];
    const orphan = (flags & isOrphan) !== 0;
    if (table.mark[slot] === 1 && !isDirectory)
      this.#findings.add('ENTRY_WITHOUT_DIRECTORY', 'entries lie in something that is no directory', { parent: ino });
    if (!namesWhole) return;
    if ((flags & wantsOrphan) !== 0 && !orphan && !this.#lost.isLost(orphanKey(ino)))
      this.#findings.add('INODE_UNREACHABLE', 'an inode has no name, and is not recorded as removed', { ino });
    if (names > 0 && orphan) this.#findings.add('ORPHAN_STRAY', 'an inode that has a name is recorded as removed', { ino });
    if (isDirectory && (names > 1 || (isRoot && names > 0)))
      this.#findings.add('DIRECTORY_NAMES', 'a directory has more than one name', { ino, found: names });
    if (isDirectory && orphan && names === 0 && table.mark[slot] === 1)
      this.#findings.add('ENTRY_WITHOUT_DIRECTORY', 'entries lie in a directory that was removed', { parent: ino });
    const isNamed = names > 0 || isRoot;
    const expected = isDirectory ? (isNamed ? 2 + table.subdirectories[slot] : 0) : names;
    // What lies about without a name is one finding, not two.
    if (table.nlink[slot] !== expected && (isNamed || orphan))
      this.#findings.add('LINK_COUNT', 'the link count is wrong', { ino, expected, found: table.nlink[slot] });
    const parent = isRoot ? rootIno : table.namedIn[slot];
    if (isDirectory && (isRoot || names === 1) && table.parent[slot] !== parent)
      this.#findings.add('PARENT', 'the directory names another parent than the one that holds it', {
        ino,
        expected: parent,
        found: table.parent[slot],
      });
  }

  /** Directories that contain themselves: nobody can get there from the root. */
  #findCycles(slots: Uint32Array): void {
    const table = this.#table;
    const seen = 2;
    const done = 3;
    for (const start of slots) {
      if ((table.flags[start] & isDir) === 0 || table.mark[start] >= seen) continue;
      const path: number[] = [];
      let slot = start;
      while (slot >= 0 && table.mark[slot] < seen) {
        table.mark[slot] = seen;
        path.push(slot);
        slot = table.inoAt(slot) === rootIno || table.names[slot] === 0 ? -1 : table.find(table.namedIn[slot]);
      }
      if (slot >= 0 && table.mark[slot] === seen) {
        const cycle = path.slice(path.indexOf(slot)).map((one) => table.inoAt(one));
        const ino = cycle.reduce((least, one) => (one < least ? one : least));
        this.#findings.add('DIRECTORY_CYCLE', `${cycle.length} directories contain each other and cannot be reached`, {
          ino,
          parent: table.namedIn[table.find(ino)] as Ino,
        });
      }
      for (const one of path) table.mark[one] = done;
    }
  }
}
