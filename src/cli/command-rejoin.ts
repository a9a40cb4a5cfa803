/**
 * `sealdrive rejoin STORE`: after an integrity stop, takes the history that the store shows now, with consent, and has
 * this device do its own work again on top of it at the next mount.
 */
import { wipeSecrets } from '../access/keyslots.js';
import { openKnownStore } from '../access/known-volume.js';
import { ensurePrivateDirectory, stateDirectoryOf } from '../access/state-directory.js';
import { toHex } from '../base/bytes.js';
import { silentLogger } from '../base/logger.js';
import { printable } from '../base/printable.js';
import { readGenesis } from '../commit/genesis.js';
import { planRejoin, type RejoinPlan } from '../commit/rejoin.js';
import { systemRandom } from '../crypto/system-random.js';
import { RootKeys, VolumeKeys } from '../crypto/volume-keys.js';
import { systemDisk } from '../disk/system-disk.js';
import { lockDevice } from '../program/compose.js';
import { unlockVolume } from '../program/unlock-volume.js';
import { exitCodes } from '../terminal/exit-code.js';
import { interruptible } from '../terminal/interruption.js';
import { plural, print, printJson } from '../terminal/terminal.js';
import { type ConsentArguments, consentOptions, isAgreed, refuseMounted } from './consent.js';
import { defineCommand } from './define-command.js';
import { showPhases } from './phase-progress.js';

export const rejoinCommand = defineCommand<ConsentArguments>({
  command: 'rejoin <store>',
  describe: 'After a stop: take the history that the store shows now, and keep what was done here',
  builder: (yargs) =>
    yargs
      .positional('store', { type: 'string', demandOption: true, describe: 'Where the volume lies' })
      .options(consentOptions)
      .example('$0 rejoin ~/Cloud/drive', 'shows where the histories part, and asks when there is a terminal')
      .epilogue('Exit codes: 0 done, or there is nothing to do; 8 not done yet, or nothing here leads to the history in the store.'),
  handler: async (args) => {
    const store = await openKnownStore(args.store);
    try {
      const { unlocked } = await unlockVolume(store, args);
      const { volumeId } = unlocked;
      const stateDirectory = stateDirectoryOf(toHex(volumeId), args.stateDir);
      await refuseMounted(stateDirectory);
      await ensurePrivateDirectory(stateDirectory);
      const release = lockDevice(stateDirectory);
      const root = new RootKeys(new Uint8Array(unlocked.rootSecret), systemRandom);
      const display = showPhases(args.json ? 'silent' : 'auto', { log: 'Reading commits' });
      try {
        const genesis = await readGenesis({ store, disk: systemDisk, stateDirectory, root, volumeId });
        const keys = new VolumeKeys({ root, volumeId, suite: genesis.suite, random: systemRandom });
        const onProgress = (done: number): void => display.update('log', done, undefined);
        const place = { store, keys, genesis, disk: systemDisk, stateDirectory, logger: silentLogger, onProgress };
        const plan = await interruptible((signal) => planRejoin({ ...place, signal }));
        display.stop();
        await carryOut(plan, args);
      } finally {
        display.stop();
        root.wipe();
        release();
        wipeSecrets(unlocked);
      }
    } finally {
      await store.close();
    }
  },
});

async function carryOut(plan: RejoinPlan | undefined, { yes, json }: ConsentArguments): Promise<void> {
  if (plan && !json) explain(plan);
  const isDone = plan !== undefined && (yes || (!json && (await isAgreed())));
  if (isDone) await plan.apply();
  if (plan && !isDone) process.exitCode = exitCodes.INTEGRITY;
  if (json) printJson(plan ? { ...summaryOf(plan), done: isDone } : { parts: null, done: false });
  else if (!plan) print('The store shows all that this machine knows: there is nothing to rejoin.');
  else if (isDone) print('Done. Mount the drive: what was done here comes on top of what the store shows.');
  else print('Nothing was changed. To do it: sealdrive rejoin --yes');
}

const summaryOf = ({ common, known, shown, again, forgotten, givenUp }: RejoinPlan): object => ({
  parts: common.sequence,
  known: known.sequence,
  shown: shown.sequence,
  again,
  forgotten,
  givenUp: Object.fromEntries(givenUp),
});

function explain({ common, known, shown, again, forgotten, givenUp }: RejoinPlan): void {
  print(`The history in the store is not the one that this machine knows: they part after commit ${common.sequence}.`);
  print(`  The store goes on to commit ${shown.sequence}, this machine knows up to ${known.sequence}.`);
  print(`  ${plural(again, 'commit')} of this machine will be done again on top of the store's, and what waits here with them.`);
  if (forgotten > 0) print(`  ${plural(forgotten, 'commit')} of this machine can not: what they did is not kept here any more.`);
  for (const [device, count] of givenUp)
    print(`  ${plural(count, 'commit')} of ${printable(device)} will be given up here: only that machine can bring them back.`);
  print('  The commits that are given up are kept in the folder "evidence" of the state directory.');
  print('Only do this if you know why the store has another history: it was restored from a copy, or two sync clients met.');
}
