/** `sealdrive key list|add|remove`: the keyslots of a volume. The content is never re-encrypted by them. */
import type { CommandModule } from 'yargs';
import type { SlotList, Unlocked } from '../access/keyslots.js';
import { makeSlot, ownerSeedOf, putSlot, removeSlot, wipeSecrets } from '../access/keyslots.js';
import { listKnownSlots, openKnownStore } from '../access/known-volume.js';
import { noteRemovedSlot, noteUsedSlot } from '../access/slot-memory.js';
import { pinStore } from '../access/store-pin.js';
import { toHex } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import { keyslotEntry } from '../commit/log-state.js';
import type { SlotSecret } from '../crypto/keyslot.js';
import { newRecoveryWords } from '../crypto/recovery-words.js';
import { systemRandom } from '../crypto/system-random.js';
import { recordKeyslots } from '../program/keyslot-record.js';
import { unlockVolume } from '../program/unlock-volume.js';
import type { ObjectStore } from '../store/object-store.js';
import { Failure } from '../terminal/exit-code.js';
import type { SecretOptions } from '../terminal/secret.js';
import { readNewPassphrase, readOrMakeKeyFile, secretOptions } from '../terminal/secret.js';
import { print, printJson, tell } from '../terminal/terminal.js';
import { trustOf } from './command-check.js';
import { printRecoveryWords } from './command-init.js';
import { jsonOption } from './command-options.js';
import { defineCommand } from './define-command.js';
import { idOf } from './short-id.js';

interface ListArguments {
  readonly store: string;
  readonly json: boolean;
}

const storePositional = { type: 'string', demandOption: true, describe: 'Where the volume lies' } as const;

const listCommand = defineCommand<ListArguments>({
  command: 'list <store>',
  describe: 'Show the keyslots (needs no secret)',
  builder: (yargs) => yargs.positional('store', storePositional).options(jsonOption),
  handler: async (args) => {
    const { slots, unreadable } = await listSlotsOnce(args.store);
    if (args.json) {
      printJson({
        slots: slots.map(({ header }) => ({
          id: header.slotId,
          type: header.type,
          label: header.label,
          created: dateOf(header.created),
          memoryKiB: header.cost.memoryKiB,
          passes: header.cost.passes,
        })),
        unreadable: unreadable.map(({ key, reason }) => ({ key, reason: reason.message })),
      });
      return;
    }
    for (const { header } of slots) {
      print(`${header.slotId}  ${header.type.padEnd(14)}  ${dateOf(header.created).slice(0, 10)}  ${printable(header.label)}`.trimEnd());
    }
    for (const { key, reason } of unreadable) tell(`warning: ${printable(key)} cannot be read: ${reason.message}`);
  },
});

interface AddArguments extends SecretOptions {
  readonly store: string;
  readonly type: SlotSecret['type'];
  readonly newPassphraseFd: number | undefined;
  readonly newKeyFile: string | undefined;
  readonly label: string;
  readonly json: boolean;
}

const addCommand = defineCommand<AddArguments>({
  command: 'add <store>',
  describe: 'Add a passphrase, recovery words or a key file',
  builder: (yargs) =>
    yargs
      .positional('store', storePositional)
      .options({
        type: { choices: ['passphrase', 'recovery-words', 'key-file'] as const, default: 'passphrase' as const, describe: 'What to add' },
        'new-passphrase-fd': { type: 'number', describe: 'Read the new passphrase from this file descriptor', group: 'New secret:' },
        'new-key-file': { type: 'string', normalize: true, describe: 'The new key file; made when absent', group: 'New secret:' },
        label: { type: 'string', default: '', describe: 'A name for the keyslot; the store can read it' },
        ...secretOptions,
        ...jsonOption,
      })
      .example('$0 key add ~/Cloud/drive --type key-file --new-key-file ~/.drive.key', 'then mount without typing'),
  handler: async (args) => {
    const { newKeyFile } = args;
    if (args.type === 'key-file' && newKeyFile === undefined) throw new Failure('USAGE', '--type key-file needs --new-key-file PATH');
    const store = await openKnownStore(args.store);
    try {
      const { unlocked } = await unlockVolume(store, args);
      const ownerSeed = ownerSeedOf(unlocked);
      await pinStore(args.store, toHex(unlocked.volumeId));
      let secret: SlotSecret;
      if (args.type === 'recovery-words') secret = { type: 'recovery-words', words: newRecoveryWords(systemRandom) };
      else if (args.type === 'key-file') secret = readOrMakeKeyFile(newKeyFile ?? '', systemRandom);
      else secret = await readNewPassphrase(args.newPassphraseFd);
      const slot = await makeSlot({ ...unlocked, ownerSeed }, secret, args.label, systemRandom);
      // In the log first: a slot that is not there would be forgotten when the root secret is replaced.
      const log = { store, location: args.store, unlocked, trusted: await trustOf(unlocked, undefined) };
      await recordKeyslots(log, (keyslots) => [...keyslots, keyslotEntry(slot.header)]);
      wipeSecrets(unlocked);
      await putSlot(store, slot);
      const { slotId } = slot.header;
      await noteUsedSlot(toHex(unlocked.volumeId), slotId);
      const words = secret.type === 'recovery-words' ? secret.words : undefined;
      if (args.json) {
        printJson({ slotId, recoveryWords: words ?? null });
        return;
      }
      print(`Added keyslot ${slotId}`);
      if (words !== undefined) printRecoveryWords(words);
    } finally {
      await store.close();
    }
  },
});

interface RemoveArguments extends SecretOptions {
  readonly store: string;
  readonly slot: string;
  readonly json: boolean;
}

const removeCommand = defineCommand<RemoveArguments>({
  command: 'remove <store> <slot>',
  describe: 'Remove a keyslot; needs the secret of another one',
  builder: (yargs) =>
    yargs
      .positional('store', storePositional)
      .positional('slot', { type: 'string', demandOption: true, describe: 'Its id, or the beginning of it, as "key list" shows it' })
      .options({ ...secretOptions, ...jsonOption }),
  handler: async (args) => {
    const store = await openKnownStore(args.store);
    try {
      const { slots, unreadable } = await listKnownSlots(store, args.store);
      const ids = [...slots.map(({ header }) => header.slotId), ...unreadable.map(({ key }) => key.slice('keys/'.length))];
      if (args.slot !== '' && !ids.some((id) => id.startsWith(args.slot))) return await removeFromLog(store, args);
      const slotId = idOf(ids, args.slot, 'keyslot', 'key list');
      // Removing a slot requires another one that opens, so that nobody is locked out.
      if (slots.length === 1 && slots[0]?.header.slotId === slotId) {
        throw new Failure('USAGE', 'this is the only keyslot: without it nobody could open the volume; add another one first');
      }
      const { unlocked } = await unlockVolume(store, args);
      await pinStore(args.store, toHex(unlocked.volumeId));
      if (unlocked.slotId === slotId) {
        wipeSecrets(unlocked);
        throw new Failure('USAGE', 'this is the keyslot that you opened: give the secret of one that stays; nothing was removed');
      }
      // Noted before the store is asked: it may keep the slot.
      await noteRemovedSlot(toHex(unlocked.volumeId), slotId);
      await removeSlot(store, slotId);
      await forgetInLog(store, args.store, unlocked, slotId);
      wipeSecrets(unlocked);
      if (args.json) printJson({ removed: slotId });
      else print(`Removed keyslot ${slotId}. Copies of the store made earlier still hold it.`);
    } finally {
      await store.close();
    }
  },
});

/** Takes a slot that the store lacks off the list in the log. */
async function removeFromLog(store: ObjectStore, args: RemoveArguments): Promise<void> {
  const { unlocked } = await unlockVolume(store, args);
  await pinStore(args.store, toHex(unlocked.volumeId));
  const log = { store, location: args.store, unlocked, trusted: await trustOf(unlocked, undefined) };
  let removed = '';
  await recordKeyslots(log, (keyslots) => {
    const ids = keyslots.map(({ slotId }) => slotId);
    removed = idOf(ids, args.slot, 'keyslot', 'key list');
    return keyslots.filter(({ slotId }) => slotId !== removed);
  });
  wipeSecrets(unlocked);
  if (args.json) printJson({ removed });
  else print(`Removed keyslot ${removed} from the list of the volume; the store did not have it.`);
}

/** A secret that leaked must lose its slot even when the log cannot be read or written. */
async function forgetInLog(store: ObjectStore, location: string, unlocked: Unlocked, slotId: string): Promise<void> {
  try {
    const log = { store, location, unlocked, trusted: await trustOf(unlocked, undefined) };
    await recordKeyslots(log, (keyslots) => keyslots.filter((one) => one.slotId !== slotId));
  } catch (error) {
    tell(`warning: the log of the volume still lists the keyslot: ${describeError(error)}`);
  }
}

export const keyCommand: CommandModule = {
  command: 'key',
  describe: 'List, add and remove keys',
  builder: (yargs) => yargs.command(listCommand).command(addCommand).command(removeCommand).demandCommand(1, 'Say what: list, add or remove'),
  handler() {},
};

async function listSlotsOnce(location: string): Promise<SlotList> {
  const store = await openKnownStore(location);
  try {
    return await listKnownSlots(store, location);
  } finally {
    await store.close();
  }
}

/** The seconds come from the store as well, and may exceed what a Date can hold. */
const dateOf = (created: number): string => new Date(Math.min(created, 8.64e12) * 1000).toISOString();
