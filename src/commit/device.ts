/**
 * This installation's identity: an id and a signing key, sealed in the state directory (doc/format.md, "Local files").
 */
import { join } from 'node:path';
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { SealKey } from '../crypto/seal-key.js';
import { Signer, seedLength } from '../crypto/signature.js';
import type { Disk } from '../disk/disk.js';
import { readWholeFile, replaceFile } from '../disk/whole-file.js';
import type { DeviceId } from './commit.js';
import { CommitError } from './commit-error.js';
import { cleanDeviceName } from './device-name.js';

export interface Device {
  readonly id: DeviceId;
  readonly name: string;
  readonly signer: Signer;
}

const fileName = 'device';
const noPlace = new Uint8Array(0);

/** A new identity. The caller owns `seed`, from which the signer is made again, and wipes it. */
export function newDevice(name: string, random: Random): { device: Device; seed: Uint8Array } {
  const seed = random.bytes(seedLength);
  return { device: { id: toHex(random.bytes(16)) as DeviceId, name: cleanDeviceName(name), signer: new Signer(seed) }, seed };
}

/** A new identity, durable in the state directory when it resolves. Throws disk errors. */
export async function makeDevice(disk: Disk, stateDirectory: string, key: SealKey, name: string, random: Random): Promise<Device> {
  const { device, seed } = newDevice(name, random);
  const nameBytes = Buffer.from(device.name, 'utf8');
  const payload = new ByteWriter(128).bytes(fromHex(device.id)).bytes(seed).varint(nameBytes.length).bytes(nameBytes).finish();
  const sealed = key.seal(noPlace, payload as Plaintext);
  payload.fill(0);
  seed.fill(0);
  await replaceFile(disk, join(stateDirectory, fileName), sealed);
  return device;
}

/** `undefined` when this installation has no identity yet. Throws CommitError `BAD_STATE`, disk errors. */
export async function loadDevice(disk: Disk, stateDirectory: string, key: SealKey): Promise<Device | undefined> {
  const sealed = await readWholeFile(disk, join(stateDirectory, fileName));
  if (!sealed) return undefined;
  try {
    const payload = key.open(noPlace, sealed);
    const reader = new ByteReader(payload);
    const id = toHex(reader.bytes(16)) as DeviceId;
    const signer = new Signer(reader.bytes(seedLength));
    const name = new TextDecoder().decode(reader.bytes(reader.varint()));
    reader.end();
    payload.fill(0);
    return { id, name, signer };
  } catch (error) {
    if (error instanceof CryptoError || error instanceof MalformedBytesError)
      throw new CommitError('BAD_STATE', 'the device file is damaged or belongs to another volume', {}, { cause: error });
    throw error;
  }
}
