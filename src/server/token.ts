/**
 * Bearer tokens of the server: `sealdrive_ID_SECRET`, for one volume and with one right (doc/server.md, "Tokens and
 * rights"). The secret is random, so a plain hash of it can be kept: there is nothing to guess.
 */
import { toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import { sha256Hex } from '../store/request-digest.js';

/** In order: each includes those before it. */
export const tokenRights = ['read', 'append', 'full'] as const;
export type TokenRight = (typeof tokenRights)[number];

export const isTokenRight = (text: unknown): text is TokenRight => tokenRights.some((right) => right === text);
export const permits = (right: TokenRight, needed: TokenRight): boolean => tokenRights.indexOf(right) >= tokenRights.indexOf(needed);

/** First segments of a volume's own keys: a base that holds one volume must differ from one that holds several. */
const reservedNames = ['keys', 'log', 'packs', 'probe'];

/** One segment of a key, short enough to leave room for the keys of a volume. */
export const isVolumeName = (text: string): boolean => /^[0-9a-z](?:[0-9a-z-]{0,61}[0-9a-z])?$/.test(text) && !reservedNames.includes(text);

export interface NewToken {
  readonly id: string;
  /** The secret itself: shown once, kept nowhere. */
  readonly text: string;
  readonly hash: string;
}

export function makeToken(random: Random): NewToken {
  const id = toHex(random.bytes(6));
  const text = `sealdrive_${id}_${toHex(random.bytes(32))}`;
  return { id, text, hash: sha256Hex(text) };
}

/** Id and hash of the token in an `authorization` header (RFC 6750); `undefined` when it cannot be one of ours. */
export function readAuthorization(header: string | undefined): { readonly id: string; readonly hash: string } | undefined {
  const [, token, id] = /^[Bb]earer +(sealdrive_([0-9a-f]{12})_[0-9a-f]{64})$/.exec(header ?? '') ?? [];
  return token === undefined || id === undefined ? undefined : { id, hash: sha256Hex(token) };
}
