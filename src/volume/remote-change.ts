/** What commits changed, in the words of the kernel's caches: which inodes, whose content, which names. */
import type { Commit } from '../commit/commit.js';
import { decodeKey, type Ino, type TreeKey } from '../meta/key.js';
import type { ConflictCopy } from '../operation/rebase-rules.js';
import type { RemoteChange } from './volume.js';

class Changes implements RemoteChange {
  readonly inodes = new Set<Ino>();
  readonly contents = new Set<Ino>();
  readonly entries: { readonly parent: Ino; readonly name: string }[] = [];
  readonly copies: ConflictCopy[] = [];

  /** Notes the change of one key. */
  add(key: TreeKey): void {
    const decoded = decodeKey(key);
    switch (decoded.type) {
      case 'inode':
        // Small content lies in the inode itself, and a truncation shows nowhere else.
        this.inodes.add(decoded.ino);
        this.contents.add(decoded.ino);
        break;
      case 'extent':
        this.inodes.add(decoded.ino);
        this.contents.add(decoded.ino);
        break;
      case 'xattr':
      case 'orphan':
        this.inodes.add(decoded.ino);
        break;
      case 'dirent':
        this.inodes.add(decoded.ino);
        this.entries.push({ parent: decoded.ino, name: decoded.name });
        break;
      case 'snapshot':
        break;
    }
  }
}

export function changesOf(commits: readonly Commit[]): Changes {
  const changes = new Changes();
  for (const commit of commits) for (const [key] of commit.mutations) changes.add(key as TreeKey);
  return changes;
}
