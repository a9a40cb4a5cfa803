/**
 * The keyslots of a volume as they lie in its store: listing them, opening one, adding and removing (doc/format.md,
 * "Keyslot"). The content of a slot is defined in src/crypto/keyslot.ts.
 */

import type { Sealed } from '../base/brand.js';
import { equalBytes, toHex } from '../base/bytes.js';
import { printable } from '../base/printable.js';
import type { Random } from '../base/random.js';
import type { KdfCost } from '../crypto/argon2.js';
import { defaultKdfCost } from '../crypto/argon2.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { SlotContent, SlotHeader, SlotSecret } from '../crypto/keyslot.js';
import { createSlot, openSlot, readSlotHeader, slotLengthMax } from '../crypto/keyslot.js';
import type { ObjectStore } from '../store/object-store.js';
import { Failure } from '../terminal/exit-code.js';
import { formatBytes } from '../terminal/terminal.js';
import { fitsInMemory, memoryFailure, requireMemory } from './kdf-memory.js';
import { TrialBudget, trialOrder } from './slot-trial.js';

const prefix = 'keys/';
const keyPattern = /^keys\/([0-9a-f]{16})$/;
/** A hostile store may list slots, or anything else, for ever; nobody has this many. */
const slotCountMax = 256;
const listedMax = 10_000;
export interface StoredSlot {
  readonly header: SlotHeader;
  readonly bytes: Uint8Array;
}

export interface NewlyMadeSlot {
  readonly header: SlotHeader;
  readonly bytes: Sealed;
}

export interface SlotList {
  readonly slots: readonly StoredSlot[];
  /** Objects in the place of slots that cannot be read, and why. */
  readonly unreadable: readonly { readonly key: string; readonly reason: CryptoError }[];
}

/**
 * The slots that the store shows, oldest first. Slots that are probably there (`expected`) are requested before the
 * listing arrives. Throws StoreError, and Failure `NOT_A_VOLUME` when there is no slot.
 */
export async function listSlots(store: ObjectStore, signal?: AbortSignal, expected?: SlotList): Promise<SlotList> {
  const getSlot = (slotId: string): Promise<Uint8Array | undefined> =>
    store.get(prefix + slotId, { sizeMax: slotLengthMax, ...(signal ? { signal } : {}) });
  const early = new Map(expected?.slots.map(({ header }) => [header.slotId, getSlot(header.slotId)]));
  // A slot that the listing does not show is ignored, and so is its error.
  for (const getting of early.values()) getting.catch(() => {});
  const slots: StoredSlot[] = [];
  const unreadable: { key: string; reason: CryptoError }[] = [];
  const slotIds: string[] = [];
  let listed = 0;
  for await (const { key } of store.list(prefix, signal ? { signal } : {})) {
    if (++listed > listedMax) throw new Failure('INTEGRITY', 'the store lists keyslots without end');
    const slotId = keyPattern.exec(key)?.[1];
    if (slotId === undefined) continue;
    if (slotIds.length >= slotCountMax) throw new Failure('INTEGRITY', 'the store shows more keyslots than a volume can have');
    slotIds.push(slotId);
  }
  // All at once: they are small, and over a network each alone would cost a round trip.
  const found = await Promise.all(slotIds.map((slotId) => early.get(slotId) ?? getSlot(slotId)));
  for (const [index, bytes] of found.entries()) {
    if (bytes === undefined) continue;
    const slotId = slotIds[index];
    try {
      const header = readSlotHeader(bytes);
      if (header.slotId !== slotId) throw new CryptoError('MALFORMED', 'a keyslot under the name of another');
      slots.push({ header, bytes });
    } catch (error) {
      if (!(error instanceof CryptoError)) throw error;
      unreadable.push({ key: prefix + slotId, reason: error });
    }
  }
  if (slots.length === 0 && unreadable.length === 0) {
    throw new Failure('NOT_A_VOLUME', `${printable(store.description)} holds no volume: make one with "sealdrive init"`);
  }
  slots.sort((a, b) => a.header.created - b.header.created || (a.header.slotId < b.header.slotId ? -1 : 1));
  return { slots, unreadable };
}

export interface Unlocked extends SlotContent {
  readonly slotId: string;
  /** The public key of the volume's owner, 32 bytes. */
  readonly ownerKey: Uint8Array;
  /** 32 bytes. */
  readonly volumeId: Uint8Array;
}

/** Clears the secrets, once nobody needs them. */
export function wipeSecrets({ rootSecret, ownerSeed }: Pick<Unlocked, 'rootSecret' | 'ownerSeed'>): void {
  rootSecret.fill(0);
  ownerSeed?.fill(0);
}

export interface UnlockOptions {
  readonly random: Random;
  /** Ids of slots that were removed from here: a store can bring them back, and they are not opened. */
  readonly removed?: ReadonlySet<string>;
  /** Ids of slots that this machine has used, the last one first. */
  readonly used?: readonly string[];
  /** Only slots whose id begins with this. */
  readonly chosen?: string | undefined;
  /** The memory that one slot may ask for, in KiB. Default: as much as our own slots ask for. */
  readonly memoryKiBMax?: number | undefined;
  /** Default: measured. */
  readonly fits?: (cost: KdfCost) => boolean;
  readonly nowMs?: () => number;
}

/**
 * Opens the first slot that the secret fits. Throws Failure: `LOCKED` when it fits none, `INTEGRITY` when the slot that
 * it fits was changed, or when some slots were not tried because they would take too long or too much memory, `MACHINE`
 * when this machine lacks the memory for any of them. Throws CryptoError when there is no slot of its type and one
 * cannot be read (a newer format, damage), and for a later generation.
 */
export async function unlock(list: SlotList, secret: SlotSecret, options: UnlockOptions): Promise<Unlocked> {
  const {
    random,
    removed,
    used = [],
    chosen = '',
    memoryKiBMax = defaultKdfCost.memoryKiB,
    fits = fitsInMemory,
    nowMs = () => performance.now(),
  } = options;
  const candidates = list.slots.filter(
    ({ header }) => header.type === secret.type && !removed?.has(header.slotId) && header.slotId.startsWith(chosen.toLowerCase()),
  );
  const budget = new TrialBudget(nowMs);
  const tooLarge: StoredSlot[] = [];
  const changed: ChangedSlot[] = [];
  let untriedCount = 0;
  let unfit: KdfCost | undefined;
  for (const slot of trialOrder(candidates, used, random)) {
    const { header, bytes } = slot;
    if (header.cost.memoryKiB > memoryKiBMax) tooLarge.push(slot);
    else if (secret.type !== 'key-file' && !fits(header.cost)) unfit = header.cost;
    else if (untriedCount > 0 || !budget.take(header.cost)) untriedCount++;
    else {
      const opened = await tryOpen(bytes, secret, random);
      if (opened instanceof CryptoError) changed.push({ slotId: header.slotId, reason: opened });
      else if (opened) return requireFirstGeneration(opened);
    }
  }
  throw whyLocked(list, secret, { candidates, tooLarge, changed, untriedCount, unfit, memoryKiBMax });
}

/** Throws CryptoError `UNSUPPORTED_VERSION`. */
function requireFirstGeneration(unlocked: Unlocked): Unlocked {
  const { generation } = unlocked;
  if (generation === 1) return unlocked;
  wipeSecrets(unlocked);
  throw new CryptoError(
    'UNSUPPORTED_VERSION',
    `the root secret of the volume was replaced (generation ${generation}), which this version cannot follow`,
  );
}

/** A slot that the secret fits, and that does not open all the same. */
interface ChangedSlot {
  readonly slotId: string;
  readonly reason: CryptoError;
}

/** `undefined`: the secret does not fit. An error: it fits, and the slot was changed. */
async function tryOpen(bytes: Uint8Array, secret: SlotSecret, random: Random): Promise<Unlocked | CryptoError | undefined> {
  try {
    const { header, ...content } = await openSlot(bytes, secret, random);
    return { slotId: header.slotId, volumeId: new Uint8Array(header.volumeId), ownerKey: new Uint8Array(header.owner), ...content };
  } catch (error) {
    if (!(error instanceof CryptoError)) throw error;
    if (error.code === 'WRONG_SECRET') return undefined;
    if (error.code === 'NOT_AUTHENTIC' || error.code === 'MALFORMED') return error;
    throw error;
  }
}

interface Trials {
  readonly candidates: readonly StoredSlot[];
  readonly tooLarge: readonly StoredSlot[];
  readonly changed: readonly ChangedSlot[];
  readonly untriedCount: number;
  /** The cost of a slot for which this machine lacks the memory. */
  readonly unfit: KdfCost | undefined;
  readonly memoryKiBMax: number;
}

/** Why no slot was opened. Slots that were not tried come first, since the secret may be right. */
function whyLocked({ unreadable }: SlotList, secret: SlotSecret, trials: Trials): Error {
  const { candidates, tooLarge, changed, untriedCount, unfit, memoryKiBMax } = trials;
  const [wrong] = changed;
  if (wrong)
    return new Failure(
      'INTEGRITY',
      `the ${typeNames[secret.type]} is right, and the keyslot that it fits was damaged or changed in the store (${wrong.reason.message}): ` +
        `put ${prefix}${wrong.slotId} back from a copy of the store, or use another keyslot; nothing was changed`,
      { cause: wrong.reason },
    );
  if (unfit) return memoryFailure(unfit);
  if (untriedCount > 0) {
    const tried = candidates.length - untriedCount - tooLarge.length;
    return new Failure(
      'INTEGRITY',
      `the store shows ${candidates.length} keyslots for a ${typeNames[secret.type]}, which take too long to try: none of ${tried} opens, and ${untriedCount} were left untried. ` +
        'Check the secret and try again, which takes others, or name the right one with --keyslot ("sealdrive key list" shows it where the store is as it was)',
    );
  }
  if (tooLarge.length > 0) {
    const largest = Math.max(...tooLarge.map(({ header }) => header.cost.memoryKiB));
    return new Failure(
      'INTEGRITY',
      `${tooLarge.length} of ${candidates.length} keyslots for a ${typeNames[secret.type]} ask for more memory than ${formatBytes(memoryKiBMax * 1024)} and were left untried: ` +
        `Sealdrive makes none like that. If you trust the store, try them with --keyslot-memory ${Math.ceil(largest / 1024)}M; nothing was changed`,
    );
  }
  const [damaged] = unreadable;
  if (candidates.length === 0 && damaged)
    return new CryptoError(damaged.reason.code, `the keyslot ${damaged.key} cannot be read`, { cause: damaged.reason });
  if (candidates.length === 0)
    return new Failure('LOCKED', `the volume has no keyslot for a ${typeNames[secret.type]} like that; "sealdrive key list" shows what it has`);
  const broken = damaged ? ` (${damaged.key}, which cannot be read, was not tried: ${damaged.reason.message})` : '';
  return new Failure('LOCKED', `${wrongSecret[secret.type]}: no keyslot of the volume opens with it${broken}; nothing was changed`);
}

export const typeNames: Readonly<Record<SlotHeader['type'], string>> = {
  passphrase: 'passphrase',
  'recovery-words': 'set of recovery words',
  'key-file': 'key file',
};

const wrongSecret: Readonly<Record<SlotHeader['type'], string>> = {
  passphrase: 'wrong passphrase',
  'recovery-words': 'wrong recovery words',
  'key-file': 'wrong key file',
};

/** The seed that makes keyslots. Throws Failure `LOCKED` when the keyslot that was opened does not hold it. */
export function ownerSeedOf({ slotId, ownerSeed }: Unlocked): Uint8Array {
  if (ownerSeed) return ownerSeed;
  throw new Failure(
    'LOCKED',
    `the keyslot ${slotId} opens the volume without the rights of its owner, who alone makes keyslots: give the secret of one that has them; nothing was changed`,
  );
}

/** What a slot is made from. The caller wipes the secrets. */
export interface SlotMaker {
  /** 32 bytes. */
  readonly volumeId: Uint8Array;
  readonly generation: number;
  readonly since: number;
  readonly rootSecret: Uint8Array;
  readonly ownerSeed: Uint8Array;
}

/**
 * Makes a slot for `secret` that gives the rights of the owner, without putting it anywhere. Throws CryptoError
 * `WEAK_SECRET`, Failure `MACHINE`.
 */
export async function makeSlot(
  { volumeId, generation, since, rootSecret, ownerSeed }: SlotMaker,
  secret: SlotSecret,
  label: string,
  random: Random,
): Promise<NewlyMadeSlot> {
  if (secret.type !== 'key-file') requireMemory(defaultKdfCost);
  const created = Math.floor(Date.now() / 1000);
  return createSlot({ secret, volumeId, generation, since, rootSecret, ownerSeed, rights: 'owner', created, label }, random);
}

/** Puts a slot that was just made into the store. Throws StoreError, Failure `STORE`. */
export async function putSlot(store: ObjectStore, { header: { slotId }, bytes }: NewlyMadeSlot): Promise<void> {
  if ((await store.put(prefix + slotId, bytes, { ifAbsent: true })) === 'exists') {
    const there = await store.get(prefix + slotId, { sizeMax: slotLengthMax });
    // A lost answer to our own put looks like this too.
    if (there === undefined || !equalBytes(there, bytes)) throw new Failure('STORE', 'the store has something else under the new keyslot: try again');
  }
}

export async function removeSlot(store: ObjectStore, slotId: string): Promise<void> {
  await store.delete([prefix + slotId]);
}

/**
 * The one volume that the slots name. It is only a claim until a slot has been opened. Throws Failure `INTEGRITY` when
 * they disagree.
 */
export function claimedVolumeId(list: SlotList): string | undefined {
  const ids = new Set(list.slots.map((slot) => toHex(slot.header.volumeId)));
  if (ids.size > 1) throw new Failure('INTEGRITY', 'the keyslots in the store belong to different volumes: it was tampered with, or mixed up');
  return ids.values().next().value;
}
