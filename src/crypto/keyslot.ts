/**
 * Keyslots: the root secret sealed under a passphrase, recovery words or a key file (doc/format.md, "Keyslot"). The
 * callers decide where slots lie, in the store and in the state directory.
 */
import type { Plaintext, Sealed } from '../base/brand.js';
import { ByteReader, ByteWriter, equalBytes, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import type { KdfCost } from './argon2.js';
import { checkKdfCost, defaultKdfCost, deriveWithArgon2 } from './argon2.js';
import { CryptoError } from './crypto-error.js';
import { keyedHash } from './hash.js';
import { recoveryWordsToBytes } from './recovery-words.js';
import { framedOverhead, keyLength } from './seal-format.js';
import { SealKey } from './seal-key.js';

export type SlotType = 'passphrase' | 'recovery-words' | 'key-file';
const slotTypes: readonly SlotType[] = ['passphrase', 'recovery-words', 'key-file'];

export type SlotSecret =
  | { readonly type: 'passphrase'; readonly passphrase: string }
  | { readonly type: 'recovery-words'; readonly words: string }
  | { readonly type: 'key-file'; readonly bytes: Uint8Array };

/** The part of a keyslot that needs no secret. It is authenticated only once the slot was opened. */
export interface SlotHeader {
  readonly type: SlotType;
  readonly cost: KdfCost;
  readonly salt: Uint8Array;
  /** 16 hex digits. */
  readonly slotId: string;
  readonly volumeId: Uint8Array;
  /** Seconds since 1970. */
  readonly created: number;
  readonly label: string;
}

export interface SlotContent {
  /** Which root secret this is; 1 for the first. */
  readonly generation: number;
  /** 32 bytes; the caller wipes them. */
  readonly rootSecret: Uint8Array;
}

const magic = Buffer.from('SDSLOT01', 'latin1');
const payloadVersion = 1;
const payloadLength = 1 + 4 + keyLength + 32;
const noCost: KdfCost = { memoryKiB: 0, passes: 0, lanes: 0 };
const keyFileLengthMin = 32;
/** A whole slot is smaller than this: refuse to fetch more. */
export const slotLengthMax = 1024;

function encodeHeader(header: SlotHeader): Uint8Array {
  const label = Buffer.from(header.label, 'utf8');
  if (label.length > 255) throw new CryptoError('MALFORMED', 'a slot label has at most 255 bytes');
  return new ByteWriter()
    .bytes(magic)
    .u8(slotTypes.indexOf(header.type) + 1)
    .zeros(3)
    .u32(header.cost.memoryKiB)
    .u32(header.cost.passes)
    .u32(header.cost.lanes)
    .bytes(header.salt)
    .bytes(fromHex(header.slotId))
    .bytes(header.volumeId)
    .u53(header.created)
    .u8(label.length)
    .bytes(label)
    .finish();
}

function split(slot: Uint8Array): { header: SlotHeader; place: Uint8Array; sealed: Uint8Array } {
  try {
    const reader = new ByteReader(slot);
    if (!equalBytes(reader.bytes(8), magic)) throw new CryptoError('UNSUPPORTED_VERSION', 'not a keyslot of a known version');
    const type = [undefined, ...slotTypes][reader.u8()];
    if (!type || reader.u8() + reader.u8() + reader.u8() !== 0) throw new CryptoError('UNSUPPORTED_VERSION', 'a keyslot of an unknown type');
    const cost = { memoryKiB: reader.u32(), passes: reader.u32(), lanes: reader.u32() };
    const salt = reader.bytes(16);
    const slotId = toHex(reader.bytes(8));
    const volumeId = reader.bytes(32);
    const created = reader.u53();
    const label = new TextDecoder('utf-8', { fatal: true }).decode(reader.bytes(reader.u8()));
    const place = slot.subarray(0, reader.offset);
    const sealed = reader.bytes(reader.remaining);
    if (sealed.byteLength !== payloadLength + framedOverhead) throw new CryptoError('MALFORMED', 'a keyslot of a wrong length');
    if (type === 'key-file') {
      if (cost.memoryKiB !== 0 || cost.passes !== 0 || cost.lanes !== 0)
        throw new CryptoError('KDF_OUT_OF_BOUNDS', 'a key file slot has no KDF cost');
    } else checkKdfCost(cost);
    return { header: { type, cost, salt, slotId, volumeId, created, label }, place, sealed };
  } catch (error) {
    if (error instanceof CryptoError) throw error;
    if (error instanceof MalformedBytesError || error instanceof TypeError) throw new CryptoError('MALFORMED', 'not a keyslot', { cause: error });
    throw error;
  }
}

/** What the slot says about itself, unauthenticated, within bounds. Throws {@link CryptoError}. */
export function readSlotHeader(slot: Uint8Array): SlotHeader {
  return split(slot).header;
}

async function kekOf(secret: SlotSecret, header: SlotHeader): Promise<Uint8Array> {
  if (secret.type === 'key-file') return keyedHash(header.salt, secret.bytes);
  // NFKC, so that a passphrase typed on another system has the same bytes.
  const password = secret.type === 'passphrase' ? Buffer.from(secret.passphrase.normalize('NFKC'), 'utf8') : recoveryWordsToBytes(secret.words);
  try {
    return await deriveWithArgon2(password, header.salt, header.cost);
  } finally {
    password.fill(0);
  }
}

function sealKeyOf(kek: Uint8Array, random: Random): SealKey {
  return new SealKey({ kind: 'keyslot', subkey: kek, suite: 1, volumeId: new Uint8Array(32), epoch: 0, random });
}

export interface NewSlot extends SlotContent {
  readonly secret: SlotSecret;
  readonly volumeId: Uint8Array;
  /** Seconds since 1970. */
  readonly created: number;
  readonly label: string;
  /** Default: {@link defaultKdfCost}. Ignored for key files. */
  readonly cost?: KdfCost;
}

/**
 * A new keyslot: its id (16 hex digits) and bytes. Throws {@link CryptoError} `WEAK_SECRET`, `KDF_OUT_OF_BOUNDS`,
 * `KDF_FAILED`.
 */
export async function createSlot(slot: NewSlot, random: Random): Promise<{ slotId: string; bytes: Sealed }> {
  const { secret } = slot;
  if (secret.type === 'passphrase' && secret.passphrase === '') throw new CryptoError('WEAK_SECRET', 'an empty passphrase');
  if (secret.type === 'key-file' && secret.bytes.byteLength < keyFileLengthMin)
    throw new CryptoError('WEAK_SECRET', `a key file has at least ${keyFileLengthMin} bytes`);
  const slotId = toHex(random.bytes(8));
  const cost = secret.type === 'key-file' ? noCost : (slot.cost ?? defaultKdfCost);
  const { volumeId, created, label } = slot;
  const header: SlotHeader = { type: secret.type, cost, salt: random.bytes(16), slotId, volumeId, created, label };
  const place = encodeHeader(header);
  const payload = new ByteWriter(payloadLength).u8(payloadVersion).u32(slot.generation).bytes(slot.rootSecret).bytes(volumeId).finish();
  const kek = await kekOf(secret, header);
  try {
    const sealed = sealKeyOf(kek, random).seal(place, payload as Plaintext);
    return { slotId, bytes: Buffer.concat([place, sealed]) as Uint8Array as Sealed };
  } finally {
    kek.fill(0);
    payload.fill(0);
  }
}

/**
 * Opens a slot. Throws {@link CryptoError}: `WRONG_SECRET` when the secret is of another type, or does not fit (or the
 * slot was changed: nobody can tell those apart); `KDF_OUT_OF_BOUNDS` and the others before any work.
 */
export async function openSlot(slot: Uint8Array, secret: SlotSecret, random: Random): Promise<SlotContent & { readonly header: SlotHeader }> {
  const { header, place, sealed } = split(slot);
  if (header.type !== secret.type) throw new CryptoError('WRONG_SECRET', `this keyslot is opened with: ${header.type}`);
  const kek = await kekOf(secret, header);
  let payload: Plaintext;
  try {
    payload = sealKeyOf(kek, random).open(place, sealed);
  } catch (error) {
    if (error instanceof CryptoError && error.code === 'NOT_AUTHENTIC')
      throw new CryptoError('WRONG_SECRET', 'the secret does not open this keyslot', { cause: error });
    throw error;
  } finally {
    kek.fill(0);
  }
  const reader = new ByteReader(payload);
  if (reader.u8() !== payloadVersion) throw new CryptoError('UNSUPPORTED_VERSION', 'a keyslot of a newer version');
  const generation = reader.u32();
  const rootSecret = new Uint8Array(reader.bytes(keyLength));
  const volumeId = reader.bytes(32);
  payload.fill(0, 0, 5 + keyLength);
  if (!equalBytes(volumeId, header.volumeId)) throw new CryptoError('MALFORMED', 'a keyslot that names two volumes');
  return { generation, rootSecret, header };
}
