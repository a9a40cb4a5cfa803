/** `sealdrive unmount DIR`: uploads everything, then unmounts the drive. */

import { findNamedVolume } from '../access/named-volume.js';
import { expandHome } from '../access/volume-config.js';
import { printable } from '../base/printable.js';
import { isPending } from '../daemon/control-protocol.js';
import { findMount as mountAt } from '../fuse/mount-table.js';
import type { FoundMounts, SilentMount } from '../program/control-client.js';
import { askDaemon, findMounts, mountsOfName, silenceFailure, silentMountAround, silentMountsOfName } from '../program/control-client.js';
import { detach, isDead, resolveMountPoint } from '../program/mount-point.js';
import { Failure } from '../terminal/exit-code.js';
import { duration, readOptional } from '../terminal/option-kind.js';
import { formatBytes, plural, print, printJson, tell } from '../terminal/terminal.js';
import { jsonOption } from './command-options.js';
import { defineCommand } from './define-command.js';
import { showFlushProgress } from './progress.js';

interface UnmountArguments {
  readonly directory: string;
  readonly force: boolean;
  readonly timeout: string | undefined;
  readonly json: boolean;
}

export const unmountCommand = defineCommand<UnmountArguments>({
  command: 'unmount <directory>',
  aliases: ['umount'],
  describe: 'Upload what is pending and unmount',
  builder: (yargs) =>
    yargs
      .positional('directory', { type: 'string', demandOption: true, describe: 'The mount point, or the name of a volume' })
      .options({
        force: { type: 'boolean', default: false, describe: 'Also when files are open or work cannot be uploaded (it waits for the next mount)' },
        timeout: { type: 'string', describe: 'How long to upload, for instance 5m (default: no limit; 30s with --force)' },
        ...jsonOption,
      })
      .example('$0 unmount ~/Drive', 'returns when everything is in the store'),
  handler: async (args) => {
    const timeoutMs = readOptional(duration, args.timeout, 'timeout');
    const mounts = await findMounts();
    const mountPoint = await placeOf(args.directory, mounts);
    const mount = mounts.answering.find(({ record, isHere }) => isHere && record.mountPoint === mountPoint);
    const silent = mounts.silent.find((one) => one.isHere && one.mountPoint === mountPoint);
    if (silent && !silent.isDead) return letGoOfSilent(silent, args.force);
    if (!mount) {
      await takeAwayDead(mountPoint);
      if (args.json) printJson({ mountPoint, recovered: true });
      return undefined;
    }
    const display = showFlushProgress(args.json ? 'silent' : 'auto');
    const result = await askDaemon(
      mount.record.socket,
      { method: 'unmount', force: args.force, timeoutMs },
      { onProgress: (progress) => display.update(progress) },
    ).finally(() => display.stop());
    if (!result) throw new Failure('NO_ANSWER', `the drive at ${mountPoint} was let go of meanwhile: mount again to see what is left`);
    if (isPending(result.left)) {
      const { operations, dirtyBytes, uploadBytes } = result.left;
      throw new Failure(
        'PENDING',
        `unmounted, but ${plural(operations, 'change')} (${formatBytes(dirtyBytes + uploadBytes)}) are not in the store: they are safe on this machine and go there at the next mount`,
      );
    }
    if (args.json) printJson({ mountPoint, recovered: false });
    else print(`Unmounted ${printable(mountPoint)}`);
    return undefined;
  },
});

/** The mount point that `word` means. Nothing that does not answer is touched. */
async function placeOf(word: string, { answering, silent }: FoundMounts): Promise<string> {
  const named = await mountsOfName(word, answering);
  if (named) return named[0]?.record.mountPoint ?? (await silentMountsOfName(word, silent))[0]?.mountPoint ?? usualPlace(word);
  const mute = await silentMountAround(word, silent);
  if (!mute) return resolveMountPoint(word);
  if (!mute.isWhole) throw silenceFailure(mute.mount);
  return mute.mount.mountPoint;
}

/**
 * The process lives but does not answer. With `force` its mount is detached. Always throws Failure `NO_ANSWER`: what is
 * not in the store is not known.
 */
async function letGoOfSilent(silent: SilentMount, force: boolean): Promise<never> {
  const failure = silenceFailure(silent);
  if (!force) throw new Failure('NO_ANSWER', `${failure.message}; "unmount --force" removes the mount all the same`);
  const { mountPoint, reason, record } = silent;
  await detach(mountPoint);
  const next =
    record === undefined
      ? 'end its process before you mount again'
      : `when it goes on it uploads what is left and ends; else end it with "kill -9 ${record.pid}", and mount again, which brings what was closed to the store`;
  throw new Failure('NO_ANSWER', `detached ${mountPoint}, but the process behind it does not answer (${reason}): ${next}`);
}

/**
 * The default mount point of the named volume, whose daemon may have died. Throws Failure `MOUNT_POINT` when it has no
 * such place.
 */
async function usualPlace(name: string): Promise<string> {
  const place = (await findNamedVolume(name))?.settings.mountPoint;
  if (place === undefined) throw new Failure('MOUNT_POINT', `the volume ${printable(name)} is not mounted`);
  return expandHome(place);
}

/** No daemon answers: either nothing of ours is there, or it died. */
async function takeAwayDead(mountPoint: string): Promise<void> {
  const entry = await mountAt(mountPoint);
  if (entry?.type !== 'fuse.sealdrive' || !(await isDead(mountPoint))) {
    throw new Failure('MOUNT_POINT', `no Sealdrive of yours is mounted at ${printable(mountPoint)}; "sealdrive status" lists what is`);
  }
  await detach(mountPoint);
  tell(`removed what a dead daemon had left at ${printable(mountPoint)}; mount again to bring its pending work to the store`);
}
