/** `sealdrive drive`: makes a volume in a local directory when there is none, and mounts it. */
import { dirname, join } from 'node:path';
import { defaultDataBase, homeFolder } from '../access/state-directory.js';
import { requireUnpinned } from '../access/store-pin.js';
import { requireVacant } from '../access/vacant-store.js';
import { localFolderOf, openVolumeStore } from '../access/volume-store.js';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import type { SlotSecret } from '../crypto/keyslot.js';
import { systemDisk } from '../disk/system-disk.js';
import { ensureDirectoryPath } from '../disk/whole-file.js';
import { findMounts, requireAnswers } from '../program/control-client.js';
import { resolveMountPoint } from '../program/mount-point.js';
import { Failure } from '../terminal/exit-code.js';
import { readNewPassphrase } from '../terminal/secret.js';
import { print, printHeading, tell } from '../terminal/terminal.js';
import { initialize, printRecoveryWords } from './command-init.js';
import { mountDetached } from './command-mount.js';
import { stateOption } from './command-options.js';
import { defineCommand } from './define-command.js';

interface DriveArguments {
  readonly directory: string | undefined;
  readonly store: string | undefined;
  readonly passphraseFd: number | undefined;
  readonly stateDir: string | undefined;
}

export const driveCommand = defineCommand<DriveArguments>({
  command: 'drive [directory]',
  describe: 'Make a drive in a local directory, or use the one there is, and mount it',
  builder: (yargs) =>
    yargs.positional('directory', { type: 'string', describe: 'Where the drive appears', defaultDescription: '~/Sealdrive' }).options({
      store: { type: 'string', describe: 'Where the encrypted objects lie', defaultDescription: '$XDG_DATA_HOME/sealdrive/store' },
      'passphrase-fd': { type: 'number', describe: 'Read the passphrase from this file descriptor (first line)' },
      ...stateOption,
    }),
  handler: async (args) => {
    const { directory = join(homeFolder(), 'Sealdrive'), store = join(defaultDataBase(), 'store'), passphraseFd, stateDir } = args;
    await makeFolder(directory);
    const mountPoint = await resolveMountPoint(directory);
    const { answering, silent } = await findMounts();
    requireAnswers(silent.filter((one) => one.isHere && !one.isDead && one.mountPoint === mountPoint));
    if (answering.some(({ record, isHere }) => isHere && record.mountPoint === mountPoint)) {
      print(`Mounted already at ${printable(mountPoint)}`);
      return;
    }
    const folder = localFolderOf(store);
    if (folder !== undefined) await makeFolder(dirname(folder));
    let secret: SlotSecret | undefined;
    if (await isVacant(store)) {
      await requireUnpinned(store);
      tell(`Making a new drive; its encrypted objects will lie in ${printable(store)}`);
      const chosen = await readNewPassphrase(passphraseFd);
      secret = chosen;
      const made = await initialize({ store, recovery: true, takeOver: false, label: '' }, () => Promise.resolve(chosen));
      printHeading(`Made volume ${made.volumeId}`);
      if (made.recoveryWords !== undefined) printRecoveryWords(made.recoveryWords);
      print();
    }
    await mountDetached({ directory, store, passphraseFd, stateDir }, secret);
    print(`It is a folder like any other now. Remove it with: sealdrive unmount ${printable(directory)}`);
  },
});

async function makeFolder(path: string): Promise<void> {
  try {
    await ensureDirectoryPath(systemDisk, path);
  } catch (error) {
    throw new Failure('MOUNT_POINT', `${printable(path)} cannot be made: ${describeError(error)}`, { cause: error });
  }
}

async function isVacant(location: string): Promise<boolean> {
  try {
    await (await openVolumeStore(location)).close();
    return false;
  } catch {
    await requireVacant(location);
    return true;
  }
}
