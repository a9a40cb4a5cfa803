/**
 * Checks whether the metadata as a whole is consistent: a fold over all entries of the key space in their order, and a
 * verdict at the end (doc/format.md, "Tree keys"). One pass suffices because entries come before extents, extents
 * before inodes, and inodes before orphans and xattrs: `C` `D` `E` `I` `N` `O` `P` `S` `X`. Only which entries of a
 * directory lack their other key takes a second pass (`entry-pairs.ts`). It does no I/O and repairs nothing.
 */
import type { ByteString } from '../base/brand.js';
import { ByteReader, MalformedBytesError } from '../base/bytes.js';
import { decodeCollectedPack } from '../meta/collected-pack.js';
import { type Dirent, decodeDirent, decodeNumbered } from '../meta/dirent.js';
import { decodeExtent, type Extent } from '../meta/extent.js';
import { decodeInode, type Inode, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../meta/inode.js';
import { type DecodedKey, decodeKey, type Ino, inodeKey, orphanKey, rootIno, type TreeKey } from '../meta/key.js';
import { decodePackEntry, type PackEntry } from '../meta/pack-entry.js';
import { decodePolicy, decodeSnapshot, snapshotPolicyKey } from '../meta/snapshot.js';
import type { PackId } from '../pack/pack-id.js';
import { hashOfEntry } from './entry-pairs.js';
import type { Findings } from './finding.js';
import { hasExtents, hasInode, hasXattrs, InodeTable, isDir, isEntryNumber, isOrphan, isUnreadable, wantsOrphan } from './inode-table.js';

const directoryType = S_IFDIR >>> 12;

/** Keys that could not be read, and must not be taken for absent. */
interface LostKeys {
  isLost(key: string): boolean;
  /** Whether some key that begins with this letter is lost. */
  isKindLost(letter: string): boolean;
}

interface MetadataCheckOptions {
  readonly findings: Findings;
  readonly lost: LostKeys;
  /** Called for every extent that decodes. */
  readonly onExtent?: (ino: Ino, offset: number, extent: Extent) => void;
  /** Called for every entry of a pack that decodes. */
  readonly onPack?: (pack: PackId, entry: PackEntry) => void;
}

export interface MetadataTotals {
  /** How many inodes there are. */
  readonly files: number;
  /** The sum of their allocated bytes. */
  readonly bytes: number;
}

export class MetadataCheck {
  readonly #findings: Findings;
  readonly #lost: LostKeys;
  readonly #onExtent: MetadataCheckOptions['onExtent'];
  readonly #onPack: MetadataCheckOptions['onPack'];
  readonly #table = new InodeTable();
  #files = 0;
  #bytes = 0;
  #extentIno = 0;
  #extentEnd = 0;

  constructor(options: MetadataCheckOptions) {
    this.#findings = options.findings;
    this.#lost = options.lost;
    this.#onExtent = options.onExtent;
    this.#onPack = options.onPack;
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
      this.#addDecoded(key, decoded, value);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      const ino = 'ino' in decoded ? decoded.ino : undefined;
      const facts = decoded.type === 'dirent' || decoded.type === 'numbered' ? { parent: decoded.ino } : ino === undefined ? {} : { ino };
      this.#findings.add('VALUE_MALFORMED', `the ${decoded.type} record does not decode: ${error.message}`, facts);
      if (decoded.type === 'inode') this.#setFlag(decoded.ino, isUnreadable);
    }
  }

  #addDecoded(key: string, decoded: DecodedKey, value: Uint8Array): void {
    switch (decoded.type) {
      case 'dirent':
        return this.#addEntry(decoded.ino, decoded.name, decodeDirent(value));
      case 'numbered': {
        const { name, ...dirent } = decodeNumbered(decoded.number, value);
        return this.#pair(decoded.ino, -hashOfEntry(name, dirent));
      }
      case 'extent':
        return this.#addExtent(decoded.ino, decoded.offset, decodeExtent(value));
      case 'inode':
        return this.#addInode(decoded.ino, decodeInode(value));
      case 'orphan':
        return this.#addOrphan(decoded.ino, value);
      case 'xattr':
        return this.#setFlag(decoded.ino, hasXattrs);
      case 'collected':
        decodeCollectedPack(value);
        return undefined;
      case 'pack':
        return this.#onPack?.(decoded.id, decodePackEntry(value));
      case 'snapshot':
        decodeSnapshot(value);
        return undefined;
      case 'policy':
        if (key === snapshotPolicyKey) decodePolicy(value);
        return undefined;
    }
  }

  #setFlag(ino: Ino, flag: number): void {
    const slot = this.#table.slotOf(ino);
    this.#table.flags.mark(slot, flag);
  }

  #pair(directory: Ino, hash: number): void {
    const slot = this.#table.slotOf(directory);
    this.#table.pairing.add(slot, hash);
  }

  #addEntry(parent: Ino, name: ByteString, dirent: Dirent): void {
    const { ino, type, number } = dirent;
    const table = this.#table;
    this.#pair(parent, hashOfEntry(name, dirent));
    const numbered = table.slotOf(number);
    if (table.flags.has(numbered, isEntryNumber)) this.#findings.add('ENTRY_NUMBER', 'two entries have the same number', { ino, parent });
    table.flags.mark(numbered, isEntryNumber);
    const slot = table.slotOf(ino);
    const kind = type >>> 12;
    if (table.entryType.at(slot) !== 0 && table.entryType.at(slot) !== kind)
      this.#findings.add('ENTRY_TYPE', 'two entries disagree on what kind of file this is', { ino, parent });
    table.entryType.set(slot, kind);
    table.names.add(slot, 1);
    table.namedIn.set(slot, parent);
    const above = table.slotOf(parent);
    if (kind === directoryType) table.subdirectories.add(above, 1);
    // Whether the directory exists is known only when the inodes come.
    table.walked.set(above, 1);
  }

  #addExtent(ino: Ino, offset: number, extent: Extent): void {
    const slot = this.#table.slotOf(ino);
    if (this.#extentIno === ino && offset < this.#extentEnd)
      this.#findings.add('EXTENT_OVERLAP', 'two extents of a file cover the same bytes', { ino, offset });
    if (offset + extent.length > Number.MAX_SAFE_INTEGER)
      this.#findings.add('EXTENT_OVERLAP', 'an extent ends past the largest size of a file', { ino, offset });
    this.#extentEnd = Math.max(this.#extentIno === ino ? this.#extentEnd : 0, offset + extent.length);
    this.#extentIno = ino;
    this.#table.flags.mark(slot, hasExtents);
    this.#table.covered.add(slot, extent.length);
    if (extent.kind === 'data') this.#table.dataEnd.set(slot, Math.max(this.#table.dataEnd.at(slot), offset + extent.length));
    this.#onExtent?.(ino, offset, extent);
  }

  #addInode(ino: Ino, inode: Inode): void {
    const table = this.#table;
    const slot = table.slotOf(ino);
    const format = inode.mode & S_IFMT;
    const kind = format >>> 12;
    table.flags.mark(slot, format === S_IFDIR ? hasInode | isDir : hasInode);
    table.nlink.set(slot, Math.min(inode.nlink, 0xffffffff));
    table.parent.set(slot, inode.parent);
    this.#files++;
    this.#bytes += inode.allocated;
    this.#checkContent(ino, slot, inode, format);
    const entryKind = table.entryType.at(slot);
    if (entryKind !== 0 && entryKind !== kind) {
      this.#findings.add('ENTRY_TYPE', 'the entry names another kind of file than the inode', { ino, parent: table.namedIn.at(slot) as Ino });
      const above = table.slotOf(table.namedIn.at(slot));
      // Subdirectories are counted by the kind of their inodes.
      if (kind === directoryType) table.subdirectories.add(above, 1);
      else if (entryKind === directoryType) table.subdirectories.add(above, -1);
    }
    if (table.names.at(table.find(ino)) === 0 && ino !== rootIno) this.#setFlag(ino, wantsOrphan);
  }

  #checkContent(ino: Ino, slot: number, inode: Inode, format: number): void {
    const findings = this.#findings;
    const covered = this.#table.covered.at(slot);
    const inline = inode.inline.byteLength;
    if (inline > 0 && covered > 0) findings.add('CONTENT_TWICE', 'a file has inline content and extents', { ino });
    if (format !== S_IFREG && covered > 0) findings.add('CONTENT_KIND', 'something other than a regular file has extents', { ino });
    if (format !== S_IFREG && format !== S_IFLNK && inline > 0)
      findings.add('CONTENT_KIND', 'something other than a file or a link has content', { ino });
    if (inode.size < inline || (format === S_IFLNK && inode.size !== inline))
      findings.add('SIZE', 'the size does not fit the inline content', { ino, expected: inline, found: inode.size });
    if (this.#table.dataEnd.at(slot) > inode.size)
      findings.add('DATA_PAST_END', 'data lies past the end of the file', { ino, expected: inode.size, found: this.#table.dataEnd.at(slot) });
    if (inode.allocated !== covered + inline && !this.#lost.isKindLost('E'))
      findings.add('ALLOCATED', 'the inode claims another amount of space than its content takes', {
        ino,
        expected: covered + inline,
        found: inode.allocated,
      });
  }

  #addOrphan(ino: Ino, value: Uint8Array): void {
    const reader = new ByteReader(value);
    reader.varint();
    reader.end();
    const slot = this.#table.slotOf(ino);
    this.#table.flags.mark(slot, isOrphan);
  }

  /** Directories whose entries by name and by number differ. */
  get unpaired(): ReadonlySet<Ino> {
    const table = this.#table;
    const found = new Set<Ino>();
    for (const slot of table.slots()) if (table.pairing.at(slot) !== 0) found.add(table.inoAt(slot));
    return found;
  }

  /** Reports everything that only all entries together show. `totals`: those according to the commits. */
  finish(totals: MetadataTotals | undefined): void {
    const table = this.#table;
    const slots = table.slots();
    const namesWhole = !this.#lost.isKindLost('D');
    const root = table.find(rootIno);
    const hasRoot = root >= 0 && table.flags.has(root, hasInode | isDir);
    if (!hasRoot && !this.#lost.isLost(inodeKey(rootIno))) this.#findings.add('ROOT_MISSING', 'the root directory is missing', { ino: rootIno });
    for (const slot of slots) {
      if (!table.flags.has(slot, hasInode)) this.#judgeMissing(slot);
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

  /** Reports references to an inode that does not exist. */
  #judgeMissing(slot: number): void {
    const table = this.#table;
    const ino = table.inoAt(slot);
    // The record of the inode itself has been reported already.
    if (this.#lost.isLost(inodeKey(ino)) || table.flags.has(slot, isUnreadable)) return;
    const names = table.names.at(slot);
    if (names > 0)
      this.#findings.add('ENTRY_DANGLES', 'an entry points to a missing inode', { ino, parent: table.namedIn.at(slot) as Ino, found: names });
    if (table.walked.at(slot) === 1) this.#findings.add('ENTRY_WITHOUT_DIRECTORY', 'entries belong to a missing directory', { parent: ino });
    if (table.flags.has(slot, hasExtents)) this.#findings.add('EXTENT_STRAY', 'extents belong to a missing inode', { ino });
    if (table.flags.has(slot, hasXattrs)) this.#findings.add('XATTR_STRAY', 'attributes belong to a missing inode', { ino });
    if (table.flags.has(slot, isOrphan)) this.#findings.add('ORPHAN_STRAY', 'a missing inode is recorded as removed', { ino });
  }

  #judgeInode(slot: number, namesWhole: boolean): void {
    const table = this.#table;
    const ino = table.inoAt(slot);
    const flags = table.flags.at(slot);
    const isDirectory = (flags & isDir) !== 0;
    const isRoot = ino === rootIno;
    const names = table.names.at(slot);
    const orphan = (flags & isOrphan) !== 0;
    if (table.walked.at(slot) === 1 && !isDirectory)
      this.#findings.add('ENTRY_WITHOUT_DIRECTORY', 'entries belong to something that is not a directory', { parent: ino });
    if (!namesWhole) return;
    if ((flags & wantsOrphan) !== 0 && !orphan && !this.#lost.isLost(orphanKey(ino)))
      this.#findings.add('INODE_UNREACHABLE', 'an inode has no name but is not recorded as removed', { ino });
    if (names > 0 && orphan) this.#findings.add('ORPHAN_STRAY', 'an inode with a name is recorded as removed', { ino });
    if (isDirectory && (names > 1 || (isRoot && names > 0)))
      this.#findings.add('DIRECTORY_NAMES', 'a directory has more than one name', { ino, found: names });
    if (isDirectory && orphan && names === 0 && table.walked.at(slot) === 1)
      this.#findings.add('ENTRY_WITHOUT_DIRECTORY', 'entries belong to a removed directory', { parent: ino });
    const isNamed = names > 0 || isRoot;
    const expected = isDirectory ? (isNamed ? 2 + table.subdirectories.at(slot) : 0) : names;
    // An unreachable inode is one finding, not two.
    if (table.nlink.at(slot) !== expected && (isNamed || orphan))
      this.#findings.add('LINK_COUNT', 'the link count is wrong', { ino, expected, found: table.nlink.at(slot) });
    const parent = isRoot ? rootIno : table.namedIn.at(slot);
    if (isDirectory && (isRoot || names === 1) && table.parent.at(slot) !== parent)
      this.#findings.add('PARENT', 'the directory names another parent than the one that contains it', {
        ino,
        expected: parent,
        found: table.parent.at(slot),
      });
  }

  /** Reports directories that contain themselves, and so cannot be reached from the root. */
  #findCycles(slots: Uint32Array): void {
    const table = this.#table;
    const seen = 2;
    const done = 3;
    for (const start of slots) {
      if (!table.flags.has(start, isDir) || table.walked.at(start) >= seen) continue;
      const path: number[] = [];
      let slot = start;
      while (slot >= 0 && table.walked.at(slot) < seen) {
        table.walked.set(slot, seen);
        path.push(slot);
        slot = table.inoAt(slot) === rootIno || table.names.at(slot) === 0 ? -1 : table.find(table.namedIn.at(slot));
      }
      if (slot >= 0 && table.walked.at(slot) === seen) {
        const cycle = path.slice(path.indexOf(slot)).map((one) => table.inoAt(one));
        const ino = cycle.reduce((least, one) => (one < least ? one : least));
        this.#findings.add('DIRECTORY_CYCLE', `${cycle.length} directories contain each other and cannot be reached`, {
          ino,
          parent: table.namedIn.at(table.find(ino)) as Ino,
        });
      }
      for (const one of path) table.walked.set(one, done);
    }
  }
}
