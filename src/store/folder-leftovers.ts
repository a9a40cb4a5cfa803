/**
 * What may lie in a folder that counts as empty, so that a store can be made in it: systems, synchronizers and file
 * servers leave such names in every folder (doc/stores.md, "An empty folder"). It is the only list of them, for folders
 * on a disk, over SFTP and over WebDAV.
 */
import { printable } from '../base/printable.js';

/** In lower case: Windows writes some of them in several ways. */
const namesOfSystems: ReadonlySet<string> = new Set([
  // macOS
  '.ds_store',
  '.apdisk',
  '.documentrevisions-v100',
  '.fseventsd',
  '.localized',
  '.spotlight-v100',
  '.temporaryitems',
  '.trashes',
  '.volumeicon.icns',
  // Windows
  '$recycle.bin',
  'desktop.ini',
  'system volume information',
  'thumbs.db',
  // Linux and its desktops
  '.directory',
  '.trash',
  'lost+found',
  // File servers and their snapshots
  '#recycle',
  '#snapshot',
  '.recycle',
  '.snapshot',
  '.snapshots',
  '.zfs',
  '@eadir',
  '@recycle',
  // Synchronizers
  '.dropbox',
  '.dropbox.cache',
  '.nextcloudsync.log',
  '.owncloudsync.log',
  '.stfolder',
  '.stignore',
  '.stversions',
  '.sync',
]);

const patternsOfSystems: readonly RegExp[] = [/^\._/, /^\.trash-/, /^\.nfs[0-9a-f]/, /^\.fuse_hidden/, /^\.syncthing\./];

/** Left by the creation of a store that was broken off before its mark was there. */
const ownPattern = /^(?:_tmp|_sealdrive-[0-9a-f]{8}|_?probe-[0-9a-f]{16}_?)$/;

function isLeftover(name: string): boolean {
  const lower = name.toLowerCase();
  return namesOfSystems.has(lower) || patternsOfSystems.some((pattern) => pattern.test(lower)) || ownPattern.test(name);
}

/** Those of `names` that keep a folder from counting as empty. */
export const namesInTheWay = (names: readonly string[]): string[] => names.filter((name) => !isLeftover(name));

const shownMax = 3;

/** The first few of such names, for a message. */
export function describeNames(names: readonly string[]): string {
  const shown = names.toSorted().slice(0, shownMax).map(printable).join(', ');
  return names.length > shownMax ? `${shown} and ${names.length - shownMax} more` : shown;
}
