/**
 * Examines a mount point before anything is changed: in /proc/self/mountinfo first, since touching a mount whose daemon
 * hangs would hang us as well. Removes the mount that a dead daemon of ours left.
 */
import { spawn } from 'node:child_process';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { readdir, realpath, stat } from '../disk/file-promises.js';
import { programWithPath } from '../disk/path-program.js';
import { findMount as mountAt } from '../fuse/mount-table.js';
import { Failure } from '../terminal/exit-code.js';

export const ownType = 'fuse.sealdrive';

/** `path` without symbolic links, not touching the last place, which may be a dead or hanging mount. */
export async function resolveMountPoint(path: string): Promise<string> {
  const absolute = resolve(path);
  if (await mountAt(absolute)) return absolute;
  const parent = await realpath(dirname(absolute)).catch((error: unknown) => {
    throw new Failure('MOUNT_POINT', `there is no directory ${printable(dirname(absolute))}`, { cause: error });
  });
  const inParent = join(parent, basename(absolute));
  if (await mountAt(inParent)) return inParent;
  return realpath(inParent).catch(() => inParent);
}

/**
 * Makes sure that something can be mounted at `mountPoint` (resolved). A mount of ours whose daemon died is removed
 * first; `isServed` says whether a living daemon answers for it. Throws Failure.
 */
export async function prepareMountPoint(mountPoint: string, isServed: () => Promise<boolean>): Promise<{ readonly recovered: boolean }> {
  let recovered = false;
  for (let entry = await mountAt(mountPoint); entry; entry = await mountAt(mountPoint)) {
    if (entry.type !== ownType) {
      throw new Failure('MOUNT_POINT', `${printable(mountPoint)} is in use: a ${entry.type} filesystem is mounted there; choose another directory`);
    }
    if (await isServed())
      throw new Failure('IN_USE', `${printable(mountPoint)} is mounted already; "sealdrive status ${printable(mountPoint)}" shows it`);
    if (!(await isDead(mountPoint))) {
      throw new Failure(
        'MOUNT_POINT',
        `a Sealdrive mount of another user or state directory is at ${printable(mountPoint)}; choose another directory`,
      );
    }
    await detach(mountPoint);
    recovered = true;
  }
  const kind = await stat(mountPoint).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') {
      throw new Failure('MOUNT_POINT', `there is no directory ${printable(mountPoint)}: make it with "mkdir ${printable(mountPoint)}"`);
    }
    throw new Failure('MOUNT_POINT', `${printable(mountPoint)} cannot be used: ${describeError(error)}`, { cause: error });
  });
  if (!kind.isDirectory()) throw new Failure('MOUNT_POINT', `${printable(mountPoint)} is not a directory`);
  const names = await readdir(mountPoint).catch((error: unknown) => {
    throw new Failure('MOUNT_POINT', `${printable(mountPoint)} cannot be read: ${describeError(error)}`, { cause: error });
  });
  if (names.length > 0) {
    throw new Failure('MOUNT_POINT', `${printable(mountPoint)} is not empty: a mount would hide what is in it; choose an empty directory`);
  }
  return { recovered };
}

/** Refuses local folders that the mount would hide, or that would lie in it: the daemon would wait for itself. */
export async function refuseOverlap(mountPoint: string, folders: readonly { readonly what: string; readonly path: string }[]): Promise<void> {
  for (const { what, path } of folders) {
    const real = await realpath(path).catch(() => resolve(path));
    if (contains(mountPoint, real))
      throw new Failure('MOUNT_POINT', `${what} (${printable(path)}) lies in the mount point: choose another directory`);
    if (contains(real, mountPoint))
      throw new Failure('MOUNT_POINT', `the mount point lies in ${what} (${printable(path)}): choose another directory`);
  }
}

function contains(outer: string, inner: string): boolean {
  const path = relative(outer, inner);
  return path === '' || (path !== '..' && !path.startsWith('../'));
}

/**
 * Whether the process behind a mount is gone (ENOTCONN, or ECONNABORTED if it went while we asked). A live mount
 * answers something else, or nothing within the deadline. Another process asks, because one that waits for a hanging
 * mount cannot even end. It asks for the space on the drive, since the kernel may have the attributes of the folder
 * cached.
 */
export async function isDead(mountPoint: string): Promise<boolean> {
  const reason = await run('stat', ['-f', '--'], mountPoint, 3000);
  return /not connected|connection abort/i.test(reason ?? '');
}

/**
 * Unmounts lazily, as root or through fusermount3. Throws Failure `MOUNT_POINT`. If the process behind the mount does
 * not answer, the mount point is free at once, but the program that unmounts may wait for what the kernel still has to
 * write; it is left running.
 */
export async function detach(mountPoint: string): Promise<void> {
  const attempts: [string, string[]][] = [['fusermount3', ['-u', '-z', '--']]];
  if (process.getuid?.() === 0) attempts.unshift(['umount', ['-l', '--']]);
  const reasons: string[] = [];
  for (const [command, parameters] of attempts) {
    const reason = await run(command, parameters, mountPoint, detachMs);
    if (reason === undefined || !(await mountAt(mountPoint))) return;
    reasons.push(reason);
  }
  throw new Failure('MOUNT_POINT', `${printable(mountPoint)} is left over from a daemon that died, and cannot be removed: ${reasons.join('; ')}`);
}

/** How long a program that unmounts may take. */
const detachMs = 10_000;

/**
 * Why the command failed on `path`, its last parameter, or `undefined`. If it has not ended within the deadline, it is
 * left running.
 */
function run(command: string, parameters: readonly string[], path: string, deadlineMs: number): Promise<string | undefined> {
  return new Promise((settle) => {
    const child = spawn(...programWithPath(command, parameters, path), {
      cwd: '/',
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, LC_ALL: 'C' },
    });
    const deadline = setTimeout(() => {
      child.kill('SIGKILL');
      child.unref();
      child.stderr.destroy();
      settle(`${command} did not end within ${deadlineMs / 1000} s`);
    }, deadlineMs);
    let said = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
    child.on('error', (error) => {
      clearTimeout(deadline);
      settle(describeError(error));
    });
    child.on('close', (code) => {
      clearTimeout(deadline);
      settle(code === 0 ? undefined : said.trim().split('\n')[0] || `${command} failed`);
    });
  });
}
