/**
 * The hashes that transport protocols require (request signatures, digest authentication, checksums of bodies). They
 * protect requests, not data, which only the crypto layer seals; this is the one file outside that layer that imports
 * node:crypto.
 */
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

export interface RunningDigest {
  update(bytes: Uint8Array): void;
  /** Lower-case hex; nothing may be added afterwards. */
  finish(): string;
}

export function startSha256(): RunningDigest {
  const hash = createHash('sha256');
  return { update: (bytes) => void hash.update(bytes), finish: () => hash.digest('hex') };
}

/** Lower-case hex. */
export const sha256Hex = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');

export const hmacSha256 = (key: string | Uint8Array, data: string): Uint8Array => createHmac('sha256', key).update(data, 'utf8').digest();

/** `undefined` where this build of Node.js refuses MD5 (FIPS). */
export function startMd5(): RunningDigest | undefined {
  try {
    const hash = createHash('md5');
    return { update: (bytes) => void hash.update(bytes), finish: () => hash.digest('hex') };
  } catch {
    return undefined;
  }
}

/** Lower-case hex; `undefined` where this build of Node.js refuses MD5. */
export function md5Hex(data: Uint8Array): string | undefined {
  const hash = startMd5();
  hash?.update(data);
  return hash?.finish();
}

/** As headers spell digests. */
export const base64OfHex = (hex: string): string => Buffer.from(hex, 'hex').toString('base64');

/**
 * Lower-case hex of an algorithm of HTTP digest authentication (RFC 7616); `undefined` where this build of Node.js
 * refuses it.
 */
export function authenticationHash(algorithm: 'md5' | 'sha256' | 'sha512-256', text: string): string | undefined {
  try {
    return createHash(algorithm).update(text, 'utf8').digest('hex');
  } catch {
    return undefined;
  }
}

/** Base64: how OpenSSH hides names in its files of known hosts. */
export const hmacSha1Base64 = (key: Uint8Array, text: string): string => createHmac('sha1', key).update(text, 'utf8').digest('base64');

/** Compares texts of one length without telling by its duration where they differ. */
export function equalSecrets(a: string, b: string): boolean {
  const [first, second] = [Buffer.from(a, 'utf8'), Buffer.from(b, 'utf8')];
  return first.byteLength === second.byteLength && timingSafeEqual(first, second);
}
