/**
 * Finds what keeps a mount busy, as far as this user may see: processes that have a file open or mapped there or stand
 * there, and mounts on top of it. It touches no file on the mount. A process that only looks at it for a moment does
 * not count.
 */
import { readdir, readFile, readlink } from 'node:fs/promises';
import { listMounts } from './mount-table.js';

const nothing = (): undefined => undefined;

/** The holders in words, such as `vim (pid 17)`. At most `countMax`. */
export async function findHolders(mountPoint: string, countMax: number): Promise<string[]> {
  const isInside = (path: string | undefined): boolean => path === mountPoint || path?.startsWith(`${mountPoint}/`) === true;
  const found = (await listMounts())
    .filter((entry) => entry.mountPoint !== mountPoint && isInside(entry.mountPoint))
    .map((entry) => `a mount at ${entry.mountPoint}`);
  for (const pid of await readdir('/proc')) {
    if (found.length >= countMax) break;
    if (!/^[0-9]+$/.test(pid) || Number(pid) === process.pid) continue;
    if (!(await holds(`/proc/${pid}`, isInside))) continue;
    const program = await readFile(`/proc/${pid}/comm`, 'utf8').catch(nothing);
    found.push(`${program?.trim().replaceAll(/[^ -~]/g, '?') ?? 'a program'} (pid ${pid})`);
  }
  return found.slice(0, countMax);
}

async function holds(process: string, isInside: (path: string | undefined) => boolean): Promise<boolean> {
  for (const name of ['cwd', 'root', 'exe']) if (isInside(await readlink(`${process}/${name}`).catch(nothing))) return true;
  for (const fd of (await readdir(`${process}/fd`).catch(nothing)) ?? [])
    if (isInside(await readlink(`${process}/fd/${fd}`).catch(nothing))) return true;
  // The path is the sixth field, and may hold spaces (proc(5)).
  const maps = (await readFile(`${process}/maps`, 'utf8').catch(nothing)) ?? '';
  return maps.split('\n').some((line) => isInside(/^(?:\S+\s+){5}(.*)$/.exec(line)?.[1]));
}
