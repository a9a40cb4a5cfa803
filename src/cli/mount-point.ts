/**
 * What lies at a mount point, judged before anything is changed: by /proc/self/mountinfo first, since touching a mount whose daemon
 * hangs would hang us too. Recovers what a dead daemon of ours left.
 */
import { spawn } from 'node:child_process';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { describeError } from '../base/log.js';
import { findMount as mountAt } from '../fuse/mount-table.js';
import { Failure } from './exit-code.js';

const ownType = 'fuse.sealdrive';

/** `path` without symbolic links, not touching the last place, which may be a dead or hanging mount. */
export async function resolveMountPoint(path: string): Promise<string> {
  const absolute = resolve(path);
  if (await mountAt(absolute)) return absolute;
  const parent = await realpath(dirname(absolute)).catch((error: unknown) => {
    throw new Failure('MOUNT_POINT', `there is no directory ${dirname(absolute)}`, { cause: error });
  });
  const inParent = join(parent, basename(absolute));
  if (await mountAt(inParent)) return inParent;
  return realpath(inParent).catch(() => inParent);
}

/**
 * Makes sure that something can be mounted at `mountPoint` (resolved). A mount of ours whose daemon died is taken away first; `isServed`
 * tells whether a living daemon answers for it. Throws Failure.
 */
export async function prepareMountPoint(mountPoint: string, isServed: () => Promise<boolean>): Promise<{ readonly recovered: boolean }> {
  let recovered = false;
  for (let entry = await mountAt(mountPoint); entry; entry = await mountAt(mountPoint)) {
    if (entry.type !== ownType) {
      throw new Failure('MOUNT_POINT', `${mountPoint} is in use: a ${entry.type} filesystem is mounted there; choose another directory`);
    }
    if (await isServed()) throw new Failure('IN_USE', `${mountPoint} is mounted already; "sealdrive status ${mountPoint}" shows it`);
    if (!(await isDead(mountPoint))) {
      throw new Failure('MOUNT_POINT', `a Sealdrive mount of another user or state directory is at ${mountPoint}; choose another directory`);
    }
    await detach(mountPoint);
    recovered = true;
  }
  const kind = await stat(mountPoint).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new Failure('MOUNT_POINT', `there is no directory ${mountPoint}: make it with "mkdir ${mountPoint}"`);
    }
    throw new Failure('MOUNT_POINT', `${mountPoint} cannot be used: ${describeError(error)}`, { cause: error });
  });
  if (!kind.isDirectory()) throw new Failure('MOUNT_POINT', `${mountPoint} is not a directory`);
  const names = await readdir(mountPoint).catch((error: unknown) => {
    throw new Failure('MOUNT_POINT', `${mountPoint} cannot be read: ${describeError(error)}`, { cause: error });
  });
  if (names.length > 0) {
    throw new Failure('MOUNT_POINT', `${mountPoint} is not empty: a mount would hide what is in it; choose an empty directory`);
  }
  return { recovered };
}

/** Refuses local folders that the mount would hide, or that would lie in it: the daemon would wait for itself. */
export async function refuseOverlap(mountPoint: string, folders: readonly { readonly what: string; readonly path: string }[]): Promise<void> {
  for (const { what, path } of folders) {
    const real = await realpath(path).catch(() => resolve(path));
    if (contains(mountPoint, real)) throw new Failure('MOUNT_POINT', `${what} (${path}) lies in the mount point: choose another directory`);
    if (contains(real, mountPoint)) throw new Failure('MOUNT_POINT', `the mount point lies in ${what} (${path}): choose another directory`);
  }
}

function contains(outer: string, inner: string): boolean {
  const path = relative(outer, inner);
  return path === '' || (path !== '..' && !path.startsWith('../'));
}

/** ENOTCONN: the connection's daemon is gone (ECONNABORTED: it went while we asked). A live mount answers otherwise, or not at all within the deadline. */
export async function isDead(mountPoint: string): Promise<boolean> {
  const outcome = stat(mountPoint).then(
    () => 'alive',
    (error: NodeJS.ErrnoException) => (error.code === 'ENOTCONN' || error.code === 'ECONNABORTED' ? 'dead' : 'alive'),
  );
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<string>((settle) => {
    timer = setTimeout(() => settle('alive'), 3000);
  });
  const state = await Promise.race([outcome, silence]);
  clearTimeout(timer);
  return state === 'dead';
}

/** Takes a mount away lazily, as root or through fusermount3. Throws Failure `MOUNT_POINT`. */
export async function detach(mountPoint: string): Promise<void> {
  const attempts: [string, string[]][] = [['fusermount3', ['-u', '-z', '--', mountPoint]]];
  if (process.getuid?.() === 0) attempts.unshift(['umount', ['-l', '--', mountPoint]]);
  const reasons: string[] = [];
  for (const [command, parameters] of attempts) {
    const reason = await run(command, parameters);
    if (reason === undefined) return;
    reasons.push(reason);
  }
  throw new Failure('MOUNT_POINT', `${mountPoint} is left over from a daemon that died, and cannot be taken away: ${reasons.join('; ')}`);
}

/** Why the command failed, or `undefined`. */
function run(command: string, parameters: readonly string[]): Promise<string | undefined> {
  return new Promise((settle) => {
    const child = spawn(command, parameters, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    child.on('error', (error) => settle(describeError(error)));
    child.on('close', (code) => settle(code === 0 ? undefined : said.trim().split('\n')[0] || `${command} failed`));
  });
}
