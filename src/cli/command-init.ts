/** `sealdrive init STORE`: makes a volume in an empty store. */

import { ClaimedStore } from '../access/claimed-store.js';
import { requireMemory } from '../access/kdf-memory.js';
import { requireNothingKnown } from '../access/known-volume.js';
import { noteUsedSlot } from '../access/slot-memory.js';
import { pinStore } from '../access/store-pin.js';
import { examineStoreNow, requireUsable, singleWriterWarning } from '../access/store-probe.js';
import { syncClientOf, syncNote } from '../access/sync-client.js';
import { createVolumeStore, requireVacant } from '../access/vacant-store.js';
import { openVolumeStore, waitingClock } from '../access/volume-store.js';
import { toHex } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import { silentLogger } from '../base/logger.js';
import { printable } from '../base/printable.js';
import { defaultKdfCost } from '../crypto/argon2.js';
import type { SlotSecret } from '../crypto/keyslot.js';
import { newRecoveryWords } from '../crypto/recovery-words.js';
import { systemRandom } from '../crypto/system-random.js';
import type { FirstSecret } from '../program/compose.js';
import { createVolumeWithSecrets, hardenProcess } from '../program/compose.js';
import type { ProbeReport } from '../store/probe.js';
import { isSingleWriter } from '../store/probe.js';
import { Failure } from '../terminal/exit-code.js';
import { readNewPassphrase, readOrMakeKeyFile } from '../terminal/secret.js';
import { print, printHeading, printJson, quoteForShell, tell } from '../terminal/terminal.js';
import { jsonOption } from './command-options.js';
import { addVolume, requireFreeName } from './command-volume.js';
import { defineCommand } from './define-command.js';

export interface InitArguments {
  readonly store: string;
  readonly passphraseFd: number | undefined;
  readonly keyFile: string | undefined;
  readonly recovery: boolean;
  readonly takeOver: boolean;
  readonly label: string;
  readonly name: string | undefined;
  /** The name that the store was given by. */
  readonly volumeName?: string;
  readonly mountPoint?: string;
  readonly json: boolean;
}

export const initCommand = defineCommand<InitArguments>({
  command: 'init <store>',
  describe: 'Make a volume in an empty store',
  builder: (yargs) =>
    yargs
      .positional('store', { type: 'string', demandOption: true, describe: 'A directory (made when absent), a URL, or the name of a volume' })
      .options({
        'passphrase-fd': { type: 'number', describe: 'Read the passphrase from this file descriptor (first line)', group: 'Secret:' },
        'key-file': { type: 'string', normalize: true, describe: 'Use this key file instead of a passphrase; made when absent', group: 'Secret:' },
        recovery: { type: 'boolean', default: true, describe: 'Make recovery words and show them; --no-recovery: do not' },
        'take-over': {
          type: 'boolean',
          default: false,
          describe: 'Make the volume although another init has begun to: it was broken off',
        },
        label: { type: 'string', default: '', describe: 'A name for the keyslot; the store can read it' },
        name: { type: 'string', describe: 'Give it this name in the config file, too' },
        ...jsonOption,
      })
      .example('$0 init s3://my-bucket/drive --name drive', 'then: sealdrive mount drive DIRECTORY')
      .example('$0 init ~/Cloud/drive', 'asks for a passphrase, prints the recovery words')
      .example('$0 init /mnt/nas/drive --key-file ~/.drive.key --no-recovery', 'a key file and nothing else'),
  handler: async (args) => {
    if (args.name !== undefined) await requireFreeName(args.name);
    const secret =
      args.keyFile === undefined
        ? () => readNewPassphrase(args.passphraseFd)
        : () => Promise.resolve(readOrMakeKeyFile(args.keyFile ?? '', systemRandom));
    const made = await initialize(args, secret);
    if (args.name !== undefined) await addVolume(args.name, args.store, { keyFile: args.keyFile });
    if (args.json) {
      const { volumeId, slotId, probe, recoveryWords = null } = made;
      printJson({ volumeId, slotId, recoveryWords, singleWriter: isSingleWriter(probe), probe });
      return;
    }
    printHeading(`Made volume ${made.volumeId}`);
    print(`in ${printable(made.store)}.`);
    if (made.recoveryWords !== undefined) printRecoveryWords(made.recoveryWords);
    const place = args.mountPoint === undefined ? ' DIRECTORY' : '';
    print();
    print(`Mount it with: sealdrive mount ${quoteForShell(args.name ?? args.volumeName ?? args.store)}${place}`);
  },
});

export interface Initialized {
  readonly volumeId: string;
  readonly slotId: string;
  readonly recoveryWords: string | undefined;
  readonly store: string;
  readonly probe: ProbeReport;
}

/** Checks the store before it asks for a secret, and changes nothing unless all is well. */
export async function initialize(
  args: Pick<InitArguments, 'store' | 'recovery' | 'label' | 'takeOver'>,
  readSecret: () => Promise<SlotSecret>,
): Promise<Initialized> {
  hardenProcess(silentLogger);
  if (Buffer.byteLength(args.label) > 255) throw new Failure('USAGE', 'a label has at most 255 bytes');
  await requireNothingKnown(args.store);
  await requireVacant(args.store, args.takeOver);
  const secret = await readSecret();
  if (secret.type !== 'key-file' || args.recovery) requireMemory(defaultKdfCost);
  const store = await createVolumeStore(args.store, args.takeOver);
  try {
    const probe = await examineStoreNow(store, args.store);
    requireUsable(probe);
    if (isSingleWriter(probe)) tell(singleWriterWarning);
    const client = await syncClientOf(args.store);
    if (client !== undefined) tell(syncNote(client));
    const claimed = await ClaimedStore.claim(store, {
      location: args.store,
      random: systemRandom,
      clock: waitingClock,
      isExclusive: !isSingleWriter(probe),
      takesOver: args.takeOver,
      reopen: () => openVolumeStore(args.store),
    });
    tell('Making the keys ...');
    const recoveryWords = args.recovery ? newRecoveryWords(systemRandom) : undefined;
    const secrets: FirstSecret[] = [{ secret, label: args.label }];
    if (recoveryWords !== undefined) secrets.push({ secret: { type: 'recovery-words', words: recoveryWords }, label: '' });
    const made = await claimed.fill(() => createVolumeWithSecrets(claimed, secrets, client !== undefined));
    const volumeId = toHex(made.volumeId);
    const [slotId = ''] = made.slotIds;
    try {
      await pinStore(args.store, volumeId);
      await noteUsedSlot(volumeId, slotId);
    } catch (error) {
      // The volume is made all the same; the first mount remembers it too.
      tell(`warning: ${describeError(error)}`);
    }
    return { volumeId, slotId, recoveryWords, store: store.description, probe };
  } finally {
    await store.close();
  }
}

/** Four lines of six words, numbered, to be written down. */
export function printRecoveryWords(words: string): void {
  print();
  print('Recovery words: write them down on paper; they open the volume like the passphrase, and are not shown again.');
  print();
  const all = words.split(' ');
  for (let row = 0; row < all.length; row += 6) {
    const cells = all.slice(row, row + 6).map((word, index) => `${String(row + index + 1).padStart(2)} ${word.padEnd(9)}`);
    print(`  ${cells.join(' ').trimEnd()}`);
  }
}
