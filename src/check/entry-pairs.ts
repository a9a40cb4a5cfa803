/**
 * Checks that the two keys of directory entries agree (doc/format.md, "Tree keys"): each name is listed, and each
 * listed name is there. The examination compares sums of hashes in its one pass (`metadata-check.ts`); this is the
 * second pass, over the directories whose sums differ.
 */
import type { ByteString } from '../base/brand.js';
import { type Dirent, decodeDirent, decodeNumbered } from '../meta/dirent.js';
import { direntKey, type Ino, numberedKey, type TreeKey } from '../meta/key.js';
import { decodedKey, decodedValue, type EntrySource } from './file-records.js';
import type { Findings } from './finding.js';
import { mixed } from './inode-table.js';

/** 32 bits of everything that both keys of an entry say. */
export function hashOfEntry(name: ByteString, { ino, type, number }: Dirent): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < name.length; index++) hash = Math.imul(hash ^ name.charCodeAt(index), 0x01000193);
  for (const part of [type, ino, ino / 0x100000000, number, number / 0x100000000]) hash = mixed(hash ^ part);
  return hash;
}

interface EntryPairsOptions {
  /** The directories to look at. All of their entries are kept in memory. */
  readonly directories: ReadonlySet<Ino>;
  readonly source: EntrySource;
  /** Whether a key could not be read, and must not be taken for absent. */
  readonly isLost: (key: TreeKey) => boolean;
  readonly findings: Findings;
}

export async function checkEntryPairs({ directories, source, isLost, findings }: EntryPairsOptions): Promise<void> {
  /** By the key of the name; without those that are listed as they should be. */
  const unlisted = new Map<string, Dirent & { readonly parent: Ino }>();
  for await (const batch of source.entries('D', 'E')) {
    for (const [key, value] of batch) {
      const decoded = decodedKey(key);
      if (decoded?.type !== 'dirent' || !directories.has(decoded.ino)) continue;
      const dirent = decodedValue(() => decodeDirent(value));
      if (dirent) unlisted.set(key, { ...dirent, parent: decoded.ino });
    }
  }
  for await (const batch of source.entries('N', 'O')) {
    for (const [key, value] of batch) {
      const decoded = decodedKey(key);
      if (decoded?.type !== 'numbered' || !directories.has(decoded.ino)) continue;
      const listed = decodedValue(() => decodeNumbered(decoded.number, value));
      if (!listed) continue;
      const nameKey = direntKey(decoded.ino, listed.name);
      const named = unlisted.get(nameKey);
      if (named && named.number === listed.number && named.ino === listed.ino && named.type === listed.type) unlisted.delete(nameKey);
      else if (!isLost(nameKey))
        findings.add('ENTRY_UNNAMED', 'a listing shows an entry that the directory does not have like this', {
          ino: listed.ino,
          parent: decoded.ino,
        });
    }
  }
  for (const { ino, parent, number } of unlisted.values()) {
    if (!isLost(numberedKey(parent, number))) findings.add('ENTRY_UNLISTED', 'no listing shows an entry of the directory as it is', { ino, parent });
  }
}
