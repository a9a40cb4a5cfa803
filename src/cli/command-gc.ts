/**
 * `sealdrive gc STORE`: gives back the space of what was removed and is not kept any more (doc/collecting.md). Where
 * the volume is mounted on this machine, the drive does it.
 */
import { wipeSecrets } from '../access/keyslots.js';
import { openKnownStore } from '../access/known-volume.js';
import { readMountOptions } from '../access/mount-options.js';
import { ensurePrivateDirectory, stateDirectoryOf } from '../access/state-directory.js';
import { toHex } from '../base/bytes.js';
import { silentLogger } from '../base/logger.js';
import { printable } from '../base/printable.js';
import { withVolume } from '../program/compose.js';
import { askDaemon, holderOf } from '../program/control-client.js';
import { unlockVolume } from '../program/unlock-volume.js';
import { Failure } from '../terminal/exit-code.js';
import { interruptible } from '../terminal/interruption.js';
import { duration, readOption, readOptional } from '../terminal/option-kind.js';
import { type SecretOptions, secretOptions } from '../terminal/secret.js';
import { formatBytes, plural, print, printJson } from '../terminal/terminal.js';
import type { CollectProgress, CollectReport } from '../volume/collector.js';
import { jsonOption, stateOption } from './command-options.js';
import { defineCommand } from './define-command.js';
import { showPhases } from './phase-progress.js';

interface GcArguments extends SecretOptions {
  readonly store: string;
  readonly keepWindow: string;
  readonly lapse: string | undefined;
  readonly dryRun: boolean;
  readonly stateDir: string | undefined;
  readonly json: boolean;
}

export const gcCommand = defineCommand<GcArguments>({
  command: 'gc <store>',
  describe: 'Give back the space of what was removed and is not kept any more',
  builder: (yargs) =>
    yargs
      .positional('store', { type: 'string', demandOption: true, describe: 'Where the volume lies' })
      .options({
        'keep-window': { type: 'string', default: '7d', describe: 'Every state of this time can be gone back to; 0s: only the newest one' },
        lapse: { type: 'string', describe: 'Wait no longer for devices that were not heard of for so long, such as 60d' },
        'dry-run': { type: 'boolean', default: false, describe: 'Only say what would be freed' },
        ...stateOption,
        ...secretOptions,
        ...jsonOption,
      })
      .example('$0 gc ~/Drive.store', 'for cron, or for the one machine that may delete')
      .epilogue('It may be ended at any time and begun again, and run beside any number of mounts.'),
  handler: async (args) => {
    const windowMs = readOption(duration, args.keepWindow, 'keep-window');
    const lapseMs = readOptional(duration, args.lapse, 'lapse');
    const display = showPhases(args.json ? 'silent' : 'auto', {
      counting: 'Counting what is in use',
      planning: 'Planning',
      moving: 'Moving bytes to new packs',
      deleting: 'Deleting',
    });
    try {
      const onProgress = ({ phase, done, total }: CollectProgress): void => display.update(phase, done, total);
      const report = await interruptible((signal) => collect(args, { windowMs, lapseMs, dryRun: args.dryRun, onProgress, signal }));
      display.stop();
      if (args.json) printJson(report);
      else explain(report, args.dryRun);
    } finally {
      display.stop();
    }
  },
});

interface Pass {
  readonly windowMs: number;
  readonly lapseMs: number | undefined;
  readonly dryRun: boolean;
  readonly onProgress: (progress: CollectProgress) => void;
  readonly signal: AbortSignal;
}

async function collect(args: GcArguments, { windowMs, lapseMs, dryRun, onProgress, signal }: Pass): Promise<CollectReport> {
  const store = await openKnownStore(args.store);
  let unlocked: Awaited<ReturnType<typeof unlockVolume>>['unlocked'];
  try {
    ({ unlocked } = await unlockVolume(store, args));
  } finally {
    await store.close();
  }
  try {
    const { volumeId, rootSecret, ownerSeed } = unlocked;
    const stateDirectory = stateDirectoryOf(toHex(volumeId), args.stateDir);
    const mount = await holderOf(stateDirectory);
    if (mount) {
      const report = await askDaemon(mount.socket, { method: 'collect', windowMs, lapseMs, dryRun }, { onCollected: onProgress, signal });
      if (!report) throw new Failure('NO_ANSWER', `the drive at ${printable(mount.mountPoint)} was let go of meanwhile: try again`);
      return report;
    }
    await ensurePrivateDirectory(stateDirectory);
    const request = {
      store: args.store,
      stateDirectory,
      volumeId,
      rootSecret: new Uint8Array(rootSecret),
      ownerSeed: ownerSeed && new Uint8Array(ownerSeed),
      isOffline: false,
      isSingleWriter: undefined,
      options: readMountOptions({}),
    };
    return await withVolume(request, silentLogger, (volume) => volume.collect({ windowMs, lapseMs, dryRun, onProgress, signal }));
  } finally {
    wipeSecrets(unlocked);
  }
}

function explain(report: CollectReport, isDry: boolean): void {
  const { stored, live, kept, garbage, freed, waiting, waitingFor, lapsed, mayNotDelete } = report;
  print(`The volume's packs hold ${formatBytes(stored.bytes)} in ${plural(stored.packs, 'object')}:`);
  print(`  ${formatBytes(live)} in use, ${formatBytes(kept)} kept for the past, ${formatBytes(garbage)} not needed any more.`);
  if (isDry) return;
  print(freed.packs === 0 ? 'Nothing was freed.' : `${formatBytes(freed.bytes)} in ${plural(freed.packs, 'object')} were freed.`);
  if (waitingFor.length > 0)
    print(`${formatBytes(waiting.bytes)} wait until these devices have shown that they need nothing of it: ${waitingFor.map(printable).join(', ')}.`);
  if (lapsed.length > 0) print(`Not heard of for so long, and not waited for until they come back: ${lapsed.map(printable).join(', ')}.`);
  if (mayNotDelete) print('This machine may not delete from the store: run "sealdrive gc" on one that has the right to.');
}
