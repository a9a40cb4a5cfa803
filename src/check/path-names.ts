/**
 * Finds names for inode numbers in one more pass over the directory entries, which keeps only those that are wanted:
 * paths for findings, if they are to be shown, and all names of some inodes for repair (doc/cli.md, "check, repair,
 * salvage").
 */
import { textOf } from '../base/bytes.js';
import { decodeDirent } from '../meta/dirent.js';
import { S_IFDIR } from '../meta/inode.js';
import { decodeKey, type Ino, rootIno, type TreeKey } from '../meta/key.js';
import type { Finding } from './finding.js';
import type { KnownEntry } from './repair-plan.js';
import type { Entry } from './state-entries.js';

interface Name {
  readonly parent: Ino;
  readonly name: string;
}

const depthMax = 4096;

/** The findings, with `path` for those about something with a path. `entries` are those of directories. */
export async function addPaths(findings: readonly Finding[], entries: () => AsyncIterable<readonly Entry[]>): Promise<readonly Finding[]> {
  const wanted = new Set<Ino>();
  for (const { ino, parent } of findings) {
    if (ino !== undefined) wanted.add(ino);
    if (parent !== undefined) wanted.add(parent);
  }
  if (wanted.size === 0) return findings;
  const names = new Map<Ino, Name>();
  for await (const batch of entries()) {
    for (const [key, value] of batch) {
      const entry = readEntry(key, value);
      if (entry && (entry.isDirectory || wanted.has(entry.ino))) names.set(entry.ino, entry);
    }
  }
  return findings.map((finding) => {
    const path = pathOf(names, finding.ino ?? finding.parent) ?? pathOf(names, finding.parent);
    return path === undefined ? finding : { ...finding, path };
  });
}

/** All entries that point to one of `wanted`. */
export async function namesOf(wanted: ReadonlySet<Ino>, entries: AsyncIterable<readonly Entry[]>): Promise<Map<Ino, KnownEntry[]>> {
  const found = new Map<Ino, KnownEntry[]>();
  for await (const batch of entries) {
    for (const [key, value] of batch) {
      const entry = readEntry(key, value);
      if (!entry || !wanted.has(entry.ino)) continue;
      const { ino, parent, name, type, number } = entry;
      const known = found.get(ino);
      if (known) known.push({ parent, name, type, number });
      else found.set(ino, [{ parent, name, type, number }]);
    }
  }
  return found;
}

function readEntry(key: string, value: Uint8Array): (KnownEntry & { readonly ino: Ino; readonly isDirectory: boolean }) | undefined {
  try {
    const decoded = decodeKey(key as TreeKey);
    if (decoded.type !== 'dirent') return undefined;
    const { ino, type, number } = decodeDirent(value);
    return { ino, parent: decoded.ino, name: decoded.name, type, number, isDirectory: type === S_IFDIR };
  } catch {
    // A malformed entry names nothing, and has been reported already.
    return undefined;
  }
}

/** The path from the root, or behind `...` from the last directory that has no name. */
function pathOf(names: ReadonlyMap<Ino, Name>, ino: Ino | undefined): string | undefined {
  if (ino === undefined) return undefined;
  if (ino === rootIno) return '/';
  const parts: string[] = [];
  let at: Ino = ino;
  while (at !== rootIno && parts.length < depthMax) {
    const name = names.get(at);
    if (!name) break;
    parts.push(textOf(name.name));
    at = name.parent;
  }
  if (parts.length === 0) return undefined;
  return `${at === rootIno ? '' : '...'}/${parts.toReversed().join('/')}`;
}
