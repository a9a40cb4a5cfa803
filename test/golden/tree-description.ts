/**
 * What a tree of files holds, as plain data that can be compared: of a folder, by another program (golden-content.py),
 * and of a volume, as the drive reads it.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import type { Timespec } from '../../src/base/clock.js';
import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../src/meta/inode.js';
import type { Ino } from '../../src/meta/key.js';
import type { TestDevice } from '../suite/test-device.js';
import { contentScript } from './golden-volume.js';

const run = promisify(execFile);
const never = new AbortController().signal;
const caller = { uid: 0, gid: 0, umask: 0, signal: never };

/** By path, whose bytes are Latin-1 characters; the root is the empty one. */
export type TreeDescription = Record<string, Record<string, unknown>>;

export async function describeFolder(folder: string): Promise<TreeDescription> {
  const { stdout } = await run('python3', [contentScript, 'describe', folder], { maxBuffer: 64 * 1024 * 1024 });
  return JSON.parse(stdout) as TreeDescription;
}

const shownMax = 300;

/** The paths that differ, with what was found and what was wanted. */
export function differences(found: TreeDescription, wanted: TreeDescription): string[] {
  const paths = [...new Set([...Object.keys(found), ...Object.keys(wanted)])];
  const text = (value: unknown): string => JSON.stringify(value) ?? 'nothing';
  const shown = (value: unknown): string => text(value).slice(0, shownMax);
  return paths
    .filter((path) => text(found[path]) !== text(wanted[path]))
    .map((path) => `${JSON.stringify(path)}: ${shown(found[path])}, not ${shown(wanted[path])}`);
}

const nanoseconds = ({ sec, nsec }: Timespec): string => String(BigInt(sec) * 1_000_000_000n + BigInt(nsec));
const sorted = (entry: Record<string, unknown>): Record<string, unknown> =>
  Object.fromEntries(Object.entries(entry).toSorted(([a], [b]) => (a < b ? -1 : 1)));

/** The same of what `device` shows. */
export async function describeDevice(device: TestDevice): Promise<TreeDescription> {
  const described: TreeDescription = {};
  const names = new Map<Ino, string[]>();
  const visit = async (path: string): Promise<void> => {
    const ino = await device.ino(path);
    const entry = await describeInode(device, path, ino);
    described[path] = entry;
    if ((Number(entry['mode']) & S_IFMT) !== S_IFDIR) return void names.set(ino, [...(names.get(ino) ?? []), path]);
    for (const name of await device.list(path)) await visit(path === '' ? name : `${path}/${name}`);
  };
  await visit('');
  for (const paths of names.values())
    if (paths.length > 1) for (const path of paths) described[path]!['same'] = paths.toSorted((a, b) => (a < b ? -1 : 1));
  return Object.fromEntries(Object.entries(described).map(([path, entry]) => [path, sorted(entry)]));
}

async function describeInode(device: TestDevice, path: string, ino: Ino): Promise<Record<string, unknown>> {
  const { filesystem } = device;
  const { mode, uid, gid, nlink, mtime, rdev } = await filesystem.getattr(ino);
  const kind = mode & S_IFMT;
  const entry: Record<string, unknown> = { mode, uid, gid, links: kind === S_IFDIR ? 1 : nlink, mtime: nanoseconds(mtime) };
  if (kind === S_IFREG) {
    const content = await device.read(path);
    entry['size'] = content.byteLength;
    entry['sha256'] = createHash('sha256').update(content).digest('hex');
  }
  if (kind === S_IFLNK) entry['target'] = await filesystem.readlink(ino);
  if (kind === S_IFCHR || kind === S_IFBLK) entry['device'] = rdev;
  const xattrs: [string, string][] = [];
  for (const name of await filesystem.listxattr(caller, ino)) {
    if (name.startsWith('user.') && !name.startsWith('user.sealdrive.'))
      xattrs.push([name, Buffer.from(await filesystem.getxattr(ino, name)).toString('hex')]);
  }
  entry['xattrs'] = Object.fromEntries(xattrs.toSorted(([a], [b]) => (a < b ? -1 : 1)));
  return entry;
}
