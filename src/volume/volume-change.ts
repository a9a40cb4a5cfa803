/**
 * Describes what commits and operations change for front ends: which inodes, whose content, which names
 * (doc/concurrency.md, "Front ends"). It does not notify them: `front-ends.ts` does.
 */
import type { Commit } from '../commit/commit.js';
import { decodeKey, type Ino, type TreeKey } from '../meta/key.js';
import type { Operation } from '../operation/operation.js';
import type { ConflictCopy } from '../operation/rebase-rules.js';

/** A change of the volume, for front ends that keep copies of it. */
export interface VolumeChange {
  readonly inodes: ReadonlySet<Ino>;
  /** Inodes whose content or size changed, a subset of `inodes`. */
  readonly contents: ReadonlySet<Ino>;
  readonly entries: readonly { readonly parent: Ino; readonly name: string }[];
  /** Files whose content on this device became conflict copies. */
  readonly copies: readonly ConflictCopy[];
}

/**
 * A front end that keeps copies of the volume's content, such as the kernel's caches. It hears of every change that is
 * not made through itself. The calls for one change come in this order, with the same object; several changes can be
 * under way at a time.
 */
export interface ChangeListener {
  /**
   * Before the change: writes back everything that applications wrote to these files and that was held back so far.
   * Does not reject; returns false when it took too long and was abandoned.
   */
  collect(change: VolumeChange): Promise<boolean>;
  /** Whether no data based on the old content can be held back again. Asked right before the change becomes visible. */
  isCollected(change: VolumeChange): boolean;
  /**
   * Makes writes to these files wait until `done`, because a writer that never pauses would keep the change from
   * becoming visible. No `collect` follows. Only for changes of other devices.
   */
  hold(change: VolumeChange): void;
  /** The change is visible to `read` from here on. */
  changed(change: VolumeChange): void;
  /** The change is visible, or was abandoned. Always follows a `collect` or `hold`. */
  done(change: VolumeChange): void;
  /** Whether this front end uses the inode, which is then not freed although it has no name any more. */
  isUsed(ino: Ino): boolean;
}

/** A change that is being described. */
export class Changes implements VolumeChange {
  readonly inodes = new Set<Ino>();
  readonly contents = new Set<Ino>();
  readonly entries: { readonly parent: Ino; readonly name: string }[] = [];
  readonly copies: ConflictCopy[] = [];

  /** Records that the value of a key changed in any way, so the content of its inode may have changed too. */
  add(key: TreeKey): void {
    const ino = this.addKey(key);
    // Small content is in the inode itself, and a truncation changes nothing else.
    if (ino !== undefined) this.contents.add(ino);
  }

  /** Records which inode and name a key belongs to. Returns the inode if its value can hold content. */
  addKey(key: TreeKey): Ino | undefined {
    const decoded = decodeKey(key);
    if (!('ino' in decoded)) return undefined;
    this.inodes.add(decoded.ino);
    if (decoded.type === 'dirent') this.entries.push({ parent: decoded.ino, name: decoded.name });
    return decoded.type === 'inode' || decoded.type === 'extent' ? decoded.ino : undefined;
  }

  addContent(ino: Ino): void {
    this.inodes.add(ino);
    this.contents.add(ino);
  }
}

export function changesOf(commits: readonly Commit[]): Changes {
  const changes = new Changes();
  for (const commit of commits) for (const [key] of commit.mutations) changes.add(key as TreeKey);
  return changes;
}

/** A change of the content of these files only. */
export function changedContent(inos: readonly Ino[]): VolumeChange {
  const changes = new Changes();
  for (const ino of inos) changes.addContent(ino);
  return changes;
}

/** A change of the attributes of a file only. */
export function changedAttributes(ino: Ino): VolumeChange {
  const changes = new Changes();
  changes.inodes.add(ino);
  return changes;
}

/** What an operation of this device changed: `keys` are those whose values it set. */
export function changesBy(operation: Operation, keys: Iterable<TreeKey>): VolumeChange {
  const changes = new Changes();
  for (const key of keys) changes.addKey(key);
  for (const ino of rewrittenBy(operation)) changes.addContent(ino);
  // The content of a directory is its list of names.
  for (const { parent } of changes.entries) changes.addContent(parent);
  return changes;
}

/** The files whose content the operation changes. */
export function rewrittenBy(operation: Operation): readonly Ino[] {
  switch (operation.type) {
    case 'setattr':
      return operation.size === undefined ? [] : [operation.ino];
    case 'write':
    case 'inline':
    case 'fallocate':
      return [operation.ino];
    case 'clone':
      return [operation.to];
    default:
      return [];
  }
}
