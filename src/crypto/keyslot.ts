/**
 * Keyslots: the root secret for whoever has a passphrase, recovery words or a key file (doc/format.md, "Keyslot"). The
 * callers decide where slots lie, in the store and in the state directory.
 *
 * | field | encoding |
 * | --- | --- |
 * | magic | `SDSLOT01` (8) |
 * | slot type | u8: 1 passphrase, 2 recovery words, 3 key file |
 * | zeros | 3 |
 * | Argon2id | memory KiB u32, passes u32, lanes u32 (=1) |
 * | KDF salt | 16 |
 * | slot id | 8 |
 * | volume id | 32 |
 * | owner | 32: Ed25519 public key |
 * | created | seconds u53 |
 * | label | length u8, UTF-8 |
 * | slot key | 1,216: X-Wing public key, ML-KEM-768 1,184 then X25519 32 |
 * | anchor | 80: framed seal of kind keyslot of an empty payload; place = all before: the *slot header* |
 * | encapsulation | 1,120: X-Wing ciphertext for the slot key, ML-KEM-768 1,088 then X25519 32 |
 * | wrapped root | 158: framed seal of kind wrapped root; place = H(slot header) |
 * | signature | 64: Ed25519 by the owner over `"sealdrive v1 keyslot" + all before` |
 *
 * Payload of the wrapped root: version u8 = 1 | generation u32 | since u53 | root secret 32 | rights u8: 1 owner, 0
 * none | owner seed 32 (zeros without the right).
 */
import type { Plaintext, Sealed } from '../base/brand.js';
import { ByteReader, ByteWriter, equalBytes, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import type { KdfCost } from './argon2.js';
import { checkKdfCost, defaultKdfCost, deriveWithArgon2 } from './argon2.js';
import { CryptoError } from './crypto-error.js';
import { hashBytes } from './hash.js';
import { encapsulationLength, kemPublicKeyLength } from './kem-key.js';
import { recoveryWordsToBytes } from './recovery-words.js';
import { framedOverhead, keyLength } from './seal-format.js';
import { SealKey } from './seal-key.js';
import { isSignedBy, publicKeyLength, Signer, seedLength, signatureLength } from './signature.js';
import { keyedHash, subkey } from './subkey.js';

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
  /** The public key of the volume's owner, 32 bytes. */
  readonly owner: Uint8Array;
  /** Seconds since 1970. */
  readonly created: number;
  readonly label: string;
  /** The public key of the slot (src/crypto/x-wing.ts). */
  readonly slotKey: Uint8Array;
}

/** What a slot is for. */
export interface SlotContent {
  /** Which root secret this is; 1 for the first. */
  readonly generation: number;
  /** The number of the commit that began the generation, 0 for the first. */
  readonly since: number;
  /** 32 bytes; the caller wipes them. */
  readonly rootSecret: Uint8Array;
  /** 32 bytes, which the caller wipes; `undefined` in a slot without the owner's rights. */
  readonly ownerSeed: Uint8Array | undefined;
}

const magic = Buffer.from('SDSLOT01', 'latin1');
const signedLabel = Buffer.from('sealdrive v1 keyslot', 'latin1');
const payloadVersion = 1;
const payloadLength = 1 + 4 + 8 + keyLength + 1 + seedLength;
const anchorLength = framedOverhead;
const noCost: KdfCost = { memoryKiB: 0, passes: 0, lanes: 0 };
const noPayload = new Uint8Array(0) as Plaintext;
const noVolume = new Uint8Array(32);
const keyFileLengthMin = 32;
/** A whole slot is smaller than this: refuse to fetch more. */
export const slotLengthMax = 4096;

function encodeHeader(header: SlotHeader): Uint8Array {
  const label = Buffer.from(header.label, 'utf8');
  if (label.length > 255) throw new CryptoError('MALFORMED', 'a slot label has at most 255 bytes');
  return new ByteWriter(2048)
    .bytes(magic)
    .u8(slotTypes.indexOf(header.type) + 1)
    .zeros(3)
    .u32(header.cost.memoryKiB)
    .u32(header.cost.passes)
    .u32(header.cost.lanes)
    .bytes(header.salt)
    .bytes(fromHex(header.slotId))
    .bytes(header.volumeId)
    .bytes(header.owner)
    .u53(header.created)
    .u8(label.length)
    .bytes(label)
    .bytes(header.slotKey)
    .finish();
}

/** The fields of a slot, as parts of it. */
interface SlotParts {
  readonly header: SlotHeader;
  /** The slot header as bytes. */
  readonly place: Uint8Array;
  readonly anchor: Uint8Array;
  readonly encapsulation: Uint8Array;
  readonly wrappedRoot: Uint8Array;
  /** All before the signature. */
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
}

function readHeader(reader: ByteReader): SlotHeader {
  if (!equalBytes(reader.bytes(8), magic)) throw new CryptoError('UNSUPPORTED_VERSION', 'not a keyslot of a known version');
  const type = [undefined, ...slotTypes][reader.u8()];
  if (!type || reader.u8() + reader.u8() + reader.u8() !== 0) throw new CryptoError('UNSUPPORTED_VERSION', 'a keyslot of an unknown type');
  const cost = { memoryKiB: reader.u32(), passes: reader.u32(), lanes: reader.u32() };
  const salt = reader.bytes(16);
  const slotId = toHex(reader.bytes(8));
  const volumeId = reader.bytes(32);
  const owner = reader.bytes(publicKeyLength);
  const created = reader.u53();
  const label = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(reader.bytes(reader.u8()));
  const slotKey = reader.bytes(kemPublicKeyLength);
  if (type === 'key-file') {
    if (cost.memoryKiB !== 0 || cost.passes !== 0 || cost.lanes !== 0) throw new CryptoError('KDF_OUT_OF_BOUNDS', 'a key file slot has no KDF cost');
  } else checkKdfCost(cost);
  return { type, cost, salt, slotId, volumeId, owner, created, label, slotKey };
}

function split(slot: Uint8Array): SlotParts {
  try {
    const reader = new ByteReader(slot);
    const header = readHeader(reader);
    const place = slot.subarray(0, reader.offset);
    const anchor = reader.bytes(anchorLength);
    const encapsulation = reader.bytes(encapsulationLength);
    const wrappedRoot = reader.bytes(payloadLength + framedOverhead);
    const signed = slot.subarray(0, reader.offset);
    const signature = reader.bytes(signatureLength);
    reader.end();
    return { header, place, anchor, encapsulation, wrappedRoot, signed, signature };
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

/** Whether the owner whom the slot names has signed it as it is. Throws {@link CryptoError}. */
export function isSlotSigned(slot: Uint8Array): boolean {
  return isSigned(split(slot));
}

const messageOf = (signed: Uint8Array): Uint8Array => Buffer.concat([signedLabel, signed]);
const isSigned = ({ header, signed, signature }: SlotParts): boolean => isSignedBy(header.owner, messageOf(signed), signature);

async function kekOf(secret: SlotSecret, salt: Uint8Array, cost: KdfCost): Promise<Uint8Array> {
  if (secret.type === 'key-file') return keyedHash(salt, secret.bytes);
  // NFKC, so that a passphrase typed on another system has the same bytes.
  const password = secret.type === 'passphrase' ? Buffer.from(secret.passphrase.normalize('NFKC'), 'utf8') : recoveryWordsToBytes(secret.words);
  try {
    return await deriveWithArgon2(password, salt, cost);
  } finally {
    password.fill(0);
  }
}

/**
 * X-Wing is loaded when a slot is made or opened, which most commands do not; for a passphrase that happens while
 * Argon2id runs.
 */
const loadKem = () => import('./x-wing.js');

const kemSeedOf = (kek: Uint8Array): Uint8Array => subkey(kek, 'kem');

/** Seals nothing: it shows that the slot header was made by somebody with the slot's secret. */
function anchorKeyOf(kek: Uint8Array, random: Random): SealKey {
  return new SealKey({ kind: 'keyslot', subkey: subkey(kek, 'anchor'), suite: 1, volumeId: noVolume, epoch: 0, random });
}

function wrappingKeyOf(sharedSecret: Uint8Array, random: Random): SealKey {
  return new SealKey({ kind: 'wrapped-root', subkey: sharedSecret, suite: 1, volumeId: noVolume, epoch: 0, random });
}

/** What is wrapped to the key of a slot. The caller wipes the secrets. */
export interface RootGrant {
  readonly generation: number;
  readonly since: number;
  readonly rootSecret: Uint8Array;
  /** 32 bytes: it signs the slot. */
  readonly ownerSeed: Uint8Array;
  /** `owner`: the slot holds the seed as well, so that whoever opens it is the owner. */
  readonly rights: 'owner' | 'none';
}

export interface NewSlot extends RootGrant {
  readonly secret: SlotSecret;
  readonly volumeId: Uint8Array;
  /** Seconds since 1970. */
  readonly created: number;
  readonly label: string;
  /** Default: {@link defaultKdfCost}. Ignored for key files. */
  readonly cost?: KdfCost;
}

/**
 * A new keyslot: what it says about itself, and its bytes. Throws {@link CryptoError} `WEAK_SECRET`,
 * `KDF_OUT_OF_BOUNDS`, `KDF_FAILED`.
 */
export async function createSlot(slot: NewSlot, random: Random): Promise<{ readonly header: SlotHeader; readonly bytes: Sealed }> {
  const { secret, volumeId, created, label } = slot;
  if (secret.type === 'passphrase' && secret.passphrase === '') throw new CryptoError('WEAK_SECRET', 'an empty passphrase');
  if (secret.type === 'key-file' && secret.bytes.byteLength < keyFileLengthMin)
    throw new CryptoError('WEAK_SECRET', `a key file has at least ${keyFileLengthMin} bytes`);
  const cost = secret.type === 'key-file' ? noCost : (slot.cost ?? defaultKdfCost);
  const salt = random.bytes(16);
  const [kem, kek] = await Promise.all([loadKem(), kekOf(secret, salt, cost)]);
  const kemSeed = kemSeedOf(kek);
  const owner = new Signer(slot.ownerSeed);
  try {
    const slotKey = kem.kemPublicKey(kemSeed);
    const slotId = toHex(random.bytes(8));
    const header: SlotHeader = { type: secret.type, cost, salt, slotId, volumeId, owner: owner.publicKey, created, label, slotKey };
    const place = encodeHeader(header);
    const front = Buffer.concat([place, anchorKeyOf(kek, random).seal(place, noPayload)]);
    return { header, bytes: await wrapRoot(front, slot, random) };
  } finally {
    kek.fill(0);
    kemSeed.fill(0);
    owner.wipe();
  }
}

/**
 * A whole slot from its `front`, which is header and anchor: a root secret is wrapped to the slot's key, for which its
 * secret is not needed, and the owner signs. Throws {@link CryptoError}.
 */
export async function wrapRoot(front: Uint8Array, grant: RootGrant, random: Random): Promise<Sealed> {
  const place = front.subarray(0, -anchorLength);
  const { encapsulate } = await loadKem();
  const { sharedSecret, encapsulation } = encapsulate(place.subarray(-kemPublicKeyLength), random);
  const payload = new ByteWriter(payloadLength)
    .u8(payloadVersion)
    .u32(grant.generation)
    .u53(grant.since)
    .bytes(grant.rootSecret)
    .u8(grant.rights === 'owner' ? 1 : 0)
    .bytes(grant.rights === 'owner' ? grant.ownerSeed : new Uint8Array(seedLength))
    .finish();
  const owner = new Signer(grant.ownerSeed);
  try {
    const wrappedRoot = wrappingKeyOf(sharedSecret, random).seal(hashBytes(place), payload as Plaintext);
    const signed = Buffer.concat([front, encapsulation, wrappedRoot]);
    return Buffer.concat([signed, owner.sign(messageOf(signed))]) as Uint8Array as Sealed;
  } finally {
    sharedSecret.fill(0);
    payload.fill(0);
    owner.wipe();
  }
}

/**
 * Opens a slot. Throws {@link CryptoError}:
 * - `WRONG_SECRET` when the secret is of another type, or does not fit, or the header was changed, which nobody can
 *   tell apart;
 * - `NOT_AUTHENTIC` and `MALFORMED` when the secret fits, and the rest of the slot is not what the owner made for it;
 * - `KDF_OUT_OF_BOUNDS` and the others before any work.
 */
export async function openSlot(slot: Uint8Array, secret: SlotSecret, random: Random): Promise<SlotContent & { readonly header: SlotHeader }> {
  const parts = split(slot);
  const { header } = parts;
  if (header.type !== secret.type) throw new CryptoError('WRONG_SECRET', `this keyslot is opened with: ${header.type}`);
  const [kem, kek] = await Promise.all([loadKem(), kekOf(secret, header.salt, header.cost)]);
  const kemSeed = kemSeedOf(kek);
  try {
    requireAnchor(kek, parts, random);
    if (!isSigned(parts)) throw new CryptoError('NOT_AUTHENTIC', 'a keyslot that its owner has not signed as it is');
    const sharedSecret = kem.decapsulate(kemSeed, parts.encapsulation);
    try {
      const payload = wrappingKeyOf(sharedSecret, random).open(hashBytes(parts.place), parts.wrappedRoot);
      return { ...decodeContent(payload, header.owner), header };
    } finally {
      sharedSecret.fill(0);
    }
  } finally {
    kek.fill(0);
    kemSeed.fill(0);
  }
}

function requireAnchor(kek: Uint8Array, { place, anchor }: SlotParts, random: Random): void {
  try {
    anchorKeyOf(kek, random).open(place, anchor);
  } catch (error) {
    if (error instanceof CryptoError && error.code === 'NOT_AUTHENTIC')
      throw new CryptoError('WRONG_SECRET', 'the secret does not open this keyslot', { cause: error });
    throw error;
  }
}

/** Wipes the payload. */
function decodeContent(payload: Plaintext, owner: Uint8Array): SlotContent {
  try {
    const reader = new ByteReader(payload);
    if (reader.u8() !== payloadVersion) throw new CryptoError('UNSUPPORTED_VERSION', 'a keyslot of a newer version');
    const generation = reader.u32();
    const since = reader.u53();
    const rootSecret = new Uint8Array(reader.bytes(keyLength));
    const rights = reader.u8();
    const seed = new Uint8Array(reader.bytes(seedLength));
    if (generation < 1 || rights > 1 || !isSeedOf(seed, rights === 1 ? owner : undefined)) {
      rootSecret.fill(0);
      seed.fill(0);
      throw new CryptoError('MALFORMED', 'a keyslot with unknown rights, the seed of another owner, or no generation');
    }
    return { generation, since, rootSecret, ownerSeed: rights === 1 ? seed : undefined };
  } finally {
    payload.fill(0);
  }
}

/** Whether `seed` is the owner's, or zeros where there is none to be. */
function isSeedOf(seed: Uint8Array, owner: Uint8Array | undefined): boolean {
  if (!owner) return seed.every((byte) => byte === 0);
  const signer = new Signer(seed);
  signer.wipe();
  return equalBytes(signer.publicKey, owner);
}
