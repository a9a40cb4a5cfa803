/**
 * How a device takes part in a volume: its keys and role, and the certificate of whoever admitted it (doc/format.md,
 * "Records").
 *
 * | field | encoding |
 * | --- | --- |
 * | device id | 16 |
 * | device index | varint |
 * | role | u8: 1 admin, 2 writer, 3 reader |
 * | signing key, encryption key | 32 (Ed25519), 1,216 (X-Wing) |
 * | admitted by | varint: 0 the owner, else a device index |
 * | program | 3 x varint |
 * | name | varint length, UTF-8 |
 * | certificate | 64: by the admitter, over `"sealdrive v1 admission"`, volume id, device id, role and both keys |
 */
import type { Brand } from '../base/brand.js';
import { type ByteReader, ByteWriter, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import { isSignedBy, publicKeyLength, signatureLength } from '../crypto/signature.js';
import { type ProgramVersion, readProgramVersion, writeProgramVersion } from './program-version.js';
import { readText, writeText } from './text-field.js';

/** 16 random bytes as hex. */
export type DeviceId = Brand<string, 'DeviceId'>;

/** The owner as the author of a commit; its index is 0. */
export const ownerId = '00'.repeat(16) as DeviceId;
export const ownerIndex = 0;
/** Inode numbers have room for so many devices. */
export const deviceIndexMax = 8191;

/** An admin admits and removes devices; a writer changes files; a reader changes nothing. */
export type Role = 'admin' | 'writer' | 'reader';
const roles: readonly Role[] = ['admin', 'writer', 'reader'];

/** What a certificate vouches for. */
export interface Identity {
  readonly deviceId: DeviceId;
  readonly role: Role;
  /** Ed25519, 32 bytes. */
  readonly signingKey: Uint8Array;
  /** X-Wing, 1,216 bytes. */
  readonly encryptionKey: Uint8Array;
}

export interface Enrolment extends Identity {
  /** Position in the roster, from 1 on. Inode numbers are allocated under it. */
  readonly deviceIndex: number;
  /** The index of the device that signed the certificate; 0: the owner. */
  readonly admittedBy: number;
  readonly program: ProgramVersion;
  /** Shown to people, in `status` and in the names of conflict copies. */
  readonly name: string;
  readonly certificate: Uint8Array;
}

export const encryptionKeyLength = 1216;
const label = Buffer.from('sealdrive v1 admission', 'latin1');

/** What the admitter signs. */
export function admissionMessage(volumeId: Uint8Array, identity: Identity): Uint8Array {
  const writer = new ByteWriter(2048).bytes(label).bytes(volumeId).bytes(fromHex(identity.deviceId));
  writeRole(writer, identity.role);
  return writer.bytes(identity.signingKey).bytes(identity.encryptionKey).finish();
}

/** Whether the holder of `admitterKey` has admitted the device. */
export function isAdmittedBy(admitterKey: Uint8Array, volumeId: Uint8Array, enrolment: Enrolment): boolean {
  return isSignedBy(admitterKey, admissionMessage(volumeId, enrolment), enrolment.certificate);
}

export function writeRole(writer: ByteWriter, role: Role): void {
  writer.u8(roles.indexOf(role) + 1);
}

/** Throws MalformedBytesError. */
export function readRole(reader: ByteReader): Role {
  const role = roles[reader.u8() - 1];
  if (!role) throw new MalformedBytesError('an unknown role');
  return role;
}

export function writeEnrolment(writer: ByteWriter, enrolment: Enrolment): void {
  writer.bytes(fromHex(enrolment.deviceId)).varint(enrolment.deviceIndex);
  writeRole(writer, enrolment.role);
  writer.bytes(enrolment.signingKey).bytes(enrolment.encryptionKey).varint(enrolment.admittedBy);
  writeProgramVersion(writer, enrolment.program);
  writeText(writer, enrolment.name);
  writer.bytes(enrolment.certificate);
}

/** Shares no memory with the input. Throws MalformedBytesError. */
export function readEnrolment(reader: ByteReader): Enrolment {
  return {
    deviceId: toHex(reader.bytes(16)) as DeviceId,
    deviceIndex: reader.varint(),
    role: readRole(reader),
    signingKey: new Uint8Array(reader.bytes(publicKeyLength)),
    encryptionKey: new Uint8Array(reader.bytes(encryptionKeyLength)),
    admittedBy: reader.varint(),
    program: readProgramVersion(reader),
    name: readText(reader),
    certificate: new Uint8Array(reader.bytes(signatureLength)),
  };
}
