/**
 * Identifies the place of a store, however it was spelled. A folder is identified by its real path, by the folder
 * itself (a bind mount shows it under another path), and by the random bytes with which a store is marked; a remote
 * store by the canonical form of its URL. If one of them is known, the place is.
 */
import { closeSync, constants, fstatSync, readSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { toHex } from '../base/bytes.js';
import { encodeSystemText } from '../base/system-text.js';
import { hashBytes } from '../crypto/hash.js';
import { openSync, realpathSync, statSync } from '../disk/files.js';
import { canonicalUrl } from '../store/canonical-location.js';
import { localFolderOf } from './volume-store.js';

/**
 * File names for what is remembered of the place, most telling first; at least one. They hold no part of the location,
 * which may be a secret.
 */
export function placeNames(location: string): readonly [string, ...string[]] {
  const folder = localFolderOf(location);
  if (folder === undefined) return [nameOf(canonicalUrl(location) ?? location)];
  const path = realPathOf(folder);
  return [nameOf(path), ...[identityOf(path), markOf(path)].filter((one) => one !== undefined).map(nameOf)];
}

const nameOf = (place: string): string => toHex(hashBytes(encodeSystemText(place))).slice(0, 32);

/** For a path that is not there, uses the real path of the nearest folder above it. */
function realPathOf(path: string): string {
  const missing: string[] = [];
  for (let at = path; ; at = dirname(at)) {
    try {
      return join(realpathSync(at), ...missing);
    } catch {
      if (at === dirname(at)) return path;
      missing.unshift(basename(at));
    }
  }
}

/**
 * The folder's inode number with its time of birth, since numbers are reused; `undefined` where there is no such time.
 */
function identityOf(path: string): string | undefined {
  try {
    const { ino, birthtimeNs, ctimeNs } = statSync(path, { bigint: true });
    return birthtimeNs <= 0n || birthtimeNs === ctimeNs ? undefined : `folder ${ino} ${birthtimeNs}`;
  } catch {
    return undefined;
  }
}

const markSize = 32;

/** The store is not trusted: anything but a regular file of this size is no mark. */
function markOf(path: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(join(path, '_sealdrive'), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    const mark = Buffer.alloc(markSize);
    return fstatSync(fd).isFile() && readSync(fd, mark, 0, markSize, 0) === markSize ? `mark ${mark.toString('hex')}` : undefined;
  } catch {
    return undefined;
  } finally {
    closeSync(fd);
  }
}
