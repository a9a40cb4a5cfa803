/**
 * `sealdrive repair STORE`: shows what can be mended without guessing, and does it with consent. First it puts back
 * what this device holds of the commit log, then a commit mends the metadata.
 */

import { wipeSecrets } from '../access/keyslots.js';
import { openKnownStore } from '../access/known-volume.js';
import { ensurePrivateDirectory, stateDirectoryOf } from '../access/state-directory.js';
import { toHex } from '../base/bytes.js';
import { systemClock } from '../base/clock.js';
import type { BareVolume } from '../check/bare-volume.js';
import type { LogObject, LogRestoration } from '../check/log-restoration.js';
import { planLogRestoration, restoreLog } from '../check/log-restoration.js';
import type { AppliedRepair, PlannedRepair } from '../check/repair-volume.js';
import { planVolumeRepair, repairVolume } from '../check/repair-volume.js';
import type { CommitLog } from '../commit/commit-log.js';
import { systemRandom } from '../crypto/system-random.js';
import { systemDisk } from '../disk/system-disk.js';
import type { DeviceLogOptions } from '../program/compose.js';
import { openDeviceLog } from '../program/compose.js';
import { unlockVolume } from '../program/unlock-volume.js';
import { exitCodes } from '../terminal/exit-code.js';
import { interruptible } from '../terminal/interruption.js';
import { plural, print, printJson } from '../terminal/terminal.js';
import { exitCodeOf, phaseLabels } from './command-check.js';
import { type ConsentArguments, consentOptions, isAgreed, refuseMounted } from './consent.js';
import { defineCommand } from './define-command.js';
import { showPhases } from './phase-progress.js';

export const repairCommand = defineCommand<ConsentArguments>({
  command: 'repair <store>',
  describe: 'Mend what can be mended without guessing; without --yes show it and ask',
  builder: (yargs) =>
    yargs
      .positional('store', { type: 'string', demandOption: true, describe: 'Where the volume lies' })
      .options(consentOptions)
      .example('$0 repair ~/Cloud/drive', 'shows the plan, and asks when there is a terminal')
      .epilogue('Exit codes: 0 all is well now, 13 not done yet, 8 something is left that cannot be mended, 14 "salvage" is what helps.'),
  handler: async (args) => {
    const store = await openKnownStore(args.store);
    try {
      const { unlocked } = await unlockVolume(store, args);
      const stateDirectory = stateDirectoryOf(toHex(unlocked.volumeId), args.stateDir);
      await refuseMounted(stateDirectory);
      const display = showPhases(args.json ? 'silent' : 'auto', phaseLabels);
      const onProgress = ({ phase, done, total }: { phase: string; done: number; total: number | undefined }): void => {
        display.update(phase, done, total);
      };
      const { rootSecret, volumeId } = unlocked;
      const options = { store, rootSecret, volumeId, random: systemRandom, clock: systemClock, onProgress };
      try {
        const log = await mendLog({ store, rootSecret, volumeId, random: systemRandom, disk: systemDisk, stateDirectory }, args);
        if (mustStop(log)) {
          if (args.json) printJson({ sequence: log.newest, done: false, commits: [], steps: [], left: [], log });
          process.exitCode = exitCodes.INTEGRITY;
          return;
        }
        const planned = await interruptible((signal) => planVolumeRepair({ ...options, signal }));
        display.stop();
        if (!args.json) printPlan(planned);
        const isWanted = planned.plan.steps.length > 0 && (args.yes || (!args.json && (await isAgreed())));
        const done = isWanted
          ? await interruptible((signal) => applyRepair({ store, stateDirectory, ownerSeed: unlocked.ownerSeed }, { ...options, signal }))
          : undefined;
        display.stop();
        if (args.json) printJson({ ...summaryOf(done ?? planned, done), log });
        else if (done) printDone(done);
        else if (planned.plan.steps.length > 0) print('Nothing was changed. To do it: sealdrive repair --yes');
        process.exitCode = endOf(planned, done);
      } finally {
        display.stop();
        wipeSecrets(unlocked);
      }
    } finally {
      await store.close();
    }
  },
});

/** What became of the commit log, as `--json` shows it: the numbers of its objects. The genesis is 0. */
interface MendedLog {
  readonly seen: number;
  readonly newest: number;
  readonly restorable: readonly number[];
  readonly lost: readonly number[];
  readonly damaged: readonly number[];
  /** How many objects were put back. */
  readonly restored: number;
}

/**
 * Whether the commit log differs from what this device knows. Whether anything else that is lost is needed is for the
 * examination to find out.
 */
function mustStop({ seen, newest, restorable, damaged, restored }: MendedLog): boolean {
  return newest < seen || damaged.length > 0 || restored < restorable.length;
}

/** Shows what the commit log has lost, and puts back what this device holds of it, with consent. */
async function mendLog(options: Parameters<typeof planLogRestoration>[0], { yes, json }: ConsentArguments): Promise<MendedLog> {
  const plan = await interruptible((signal) => planLogRestoration({ ...options, signal }));
  if (!json) printRestoration(plan);
  const isWanted = plan.restorable.length > 0 && (yes || (!json && (await isAgreed())));
  const restored = isWanted ? await interruptible((signal) => restoreLog({ ...options, signal }, plan)) : 0;
  const numbers = (objects: readonly LogObject[]): number[] => objects.map(({ sequence }) => sequence);
  const { seen, newest, restorable, lost, damaged } = plan;
  if (!json && isWanted) print(`Put ${plural(restored, 'object')} back into the log.`);
  else if (!json && restorable.length > 0) print('Nothing was changed. To put them back: sealdrive repair --yes');
  return {
    seen,
    newest: isWanted ? Math.max(newest, ...numbers(restorable)) : newest,
    restorable: numbers(restorable),
    lost: numbers(lost),
    damaged: numbers(damaged),
    restored: isWanted ? restorable.length : 0,
  };
}

function printRestoration({ seen, newest, restorable, lost, damaged }: LogRestoration): void {
  if (newest < seen) print(`LOG_ROLLED_BACK: this device has seen commit ${seen}, the store ends at ${newest}: it went back.`);
  if (restorable.length > 0) {
    print('Missing from the store, and to be put back from the copies of this device, whose hashes prove what they are:');
    printObjects(restorable);
  }
  if (lost.length > 0) {
    print('Missing from the store, and this device has no copy: run repair on another device, or restore them from a copy of the store:');
    printObjects(lost);
  }
  for (const [hasCopy, advice] of [
    [true, 'remove the object from the store (keep a copy of it) and run repair again, which puts the right one in its place'],
    [false, 'restore the object from a copy of the store'],
  ] as const) {
    const some = damaged.filter((one) => one.hasCopy === hasCopy);
    if (some.length === 0) continue;
    print(`Damaged in the store, where nothing is ever overwritten: ${advice}:`);
    printObjects(some);
  }
}

function printObjects(objects: readonly LogObject[]): void {
  for (const { sequence, object } of objects.slice(0, shownMax)) print(`  ${sequence === 0 ? 'the genesis' : `commit ${sequence}`} (${object})`);
  if (objects.length > shownMax) print(`  and ${objects.length - shownMax} more`);
}

async function applyRepair(
  device: Pick<DeviceLogOptions, 'store' | 'stateDirectory' | 'ownerSeed'>,
  options: Omit<Parameters<typeof repairVolume>[0], 'openLog'>,
): Promise<AppliedRepair> {
  await ensurePrivateDirectory(device.stateDirectory);
  let release: (() => void) | undefined;
  const openLog = async ({ keys, genesis }: BareVolume): Promise<CommitLog> => {
    const opened = await openDeviceLog({ ...device, keys, genesis });
    release = opened.release;
    return opened.log;
  };
  try {
    return await repairVolume({ ...options, openLog });
  } finally {
    release?.();
  }
}

/** Steps that are printed; JSON has all. */
const shownMax = 50;

function printPlan({ plan, sequence }: PlannedRepair): void {
  if (plan.steps.length === 0) print(`There is nothing to mend at commit ${sequence}.`);
  else print(`To mend at commit ${sequence}:`);
  for (const { code, ino, description } of plan.steps.slice(0, shownMax)) {
    print(`  ${code}${ino === undefined ? '' : ` inode ${ino}`}: ${description}`);
  }
  if (plan.steps.length > shownMax) print(`  and ${plan.steps.length - shownMax} more`);
  if (plan.left.length === 0) return;
  print('Left as it is, since it cannot be mended without guessing:');
  for (const { code, ino, message } of plan.left.slice(0, shownMax)) print(`  ${code}${ino === undefined ? '' : ` inode ${ino}`}: ${message}`);
  if (plan.left.length > shownMax) print(`  and ${plan.left.length - shownMax} more`);
}

function printDone({ plan, commits, sequence }: AppliedRepair): void {
  print(`Mended ${plural(plan.steps.length, 'flaw')} with commit ${commits.join(', ')}.`);
  print(`The state before it stays in the log: "sealdrive salvage STORE DIRECTORY --at ${sequence}" brings it back.`);
}

function summaryOf({ plan, sequence }: PlannedRepair, done: AppliedRepair | undefined): object {
  return { sequence, done: done !== undefined, commits: done?.commits ?? [], steps: plan.steps, left: plan.left };
}

function endOf({ plan, report }: PlannedRepair, done: AppliedRepair | undefined): number {
  const { left } = (done ?? { plan }).plan;
  if (left.length > 0) return exitCodeOf(left.some(({ severity }) => severity === 'error') ? 'error' : 'warning');
  if (plan.steps.length === 0) return exitCodeOf(report.worst === 'note' ? undefined : report.worst);
  return done ? 0 : exitCodes.FLAWED;
}
