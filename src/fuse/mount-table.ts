/**
 * What is mounted where, from /proc/self/mountinfo (proc(5)). Reading it never touches the filesystems that it lists.
 */
import { readFile } from 'node:fs/promises';
import { decodeSystemText } from '../base/system-text.js';

/** Names are system text (base/system-text.ts). */
export interface MountEntry {
  /** `major:minor` of the filesystem, as st_dev has it. */
  readonly device: string;
  readonly mountPoint: string;
  readonly type: string;
  readonly source: string;
}

const unescapeOctal = (field: string): string =>
  decodeSystemText(
    Buffer.from(
      field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8))),
      'latin1',
    ),
  );

/** `content` is latin1: one char a byte. */
export function parseMountinfo(content: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of content.split('\n')) {
    const fields = line.split(' ');
    const [, , device, , mountPoint] = fields;
    const separator = fields.indexOf('-', 6);
    const [type, source = ''] = fields.slice(separator + 1);
    if (separator < 0 || device === undefined || mountPoint === undefined || type === undefined) continue;
    entries.push({ device, mountPoint: unescapeOctal(mountPoint), type, source: unescapeOctal(source) });
  }
  return entries;
}

/** All mounts in the mount namespace of this process. */
export async function listMounts(): Promise<MountEntry[]> {
  return parseMountinfo(await readFile('/proc/self/mountinfo', 'latin1'));
}

/**
 * The mount that is visible at exactly this path: the last one made there. `path` is absolute and without symbolic
 * links.
 */
export async function findMount(path: string): Promise<MountEntry | undefined> {
  return (await listMounts()).findLast((entry) => entry.mountPoint === path);
}
