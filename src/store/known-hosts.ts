/**
 * Host keys from OpenSSH's files of known hosts (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"), checked strictly: a host that
 * is in none of them is refused. Certificates of host authorities are not supported; their lines are ignored.
 */
import { hmacSha1Base64 } from './request-digest.js';

export interface KnownKey {
  /** `ssh-ed25519`, ... */
  readonly type: string;
  /** Base64 of the key as it goes over the wire. */
  readonly key: string;
  readonly isRevoked: boolean;
}

/** The lines of `text` that are for `host` at `port`. */
export function knownKeysOf(text: string, host: string, port: number): KnownKey[] {
  const name = (port === 22 ? host : `[${host}]:${port}`).toLowerCase();
  const keys: KnownKey[] = [];
  for (const line of text.split(/\r?\n/)) {
    const fields = line.trim().split(/\s+/);
    const marker = fields[0]?.startsWith('@') ? fields.shift() : undefined;
    const [names = '', type, key] = fields;
    if (names.startsWith('#') || type === undefined || key === undefined || (marker !== undefined && marker !== '@revoked')) continue;
    if (matches(names, name)) keys.push({ type, key, isRevoked: marker === '@revoked' });
  }
  return keys;
}

function matches(names: string, name: string): boolean {
  const [, salt, hash] = /^\|1\|([A-Za-z0-9+/=]+)\|([A-Za-z0-9+/=]+)$/.exec(names) ?? [];
  if (salt !== undefined) return hmacSha1Base64(Buffer.from(salt, 'base64'), name) === hash;
  let isMatch = false;
  for (const pattern of names.toLowerCase().split(',')) {
    const isNegated = pattern.startsWith('!');
    const escaped = pattern.slice(isNegated ? 1 : 0).replaceAll(/[.+^${}()|[\]\\]/g, String.raw`\$&`);
    if (!new RegExp(`^${escaped.replaceAll('*', '.*').replaceAll('?', '.')}$`).test(name)) continue;
    if (isNegated) return false;
    isMatch = true;
  }
  return isMatch;
}
