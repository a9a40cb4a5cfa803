/**
 * Parses the target of a request (doc/server.md, "Protocol"): `/VOLUME/KEY?query`, without escapes, dots or anything
 * else that could be read in two ways. Any other spelling is refused.
 */

import type { ObjectKey } from '../store/object-store.js';
import { isObjectKey } from '../store/object-store.js';
import { isVolumeName } from './token.js';

export interface RequestTarget {
  readonly volume: string;
  /** Within the volume; `undefined` when the volume itself is meant. */
  readonly key: ObjectKey | undefined;
  readonly query: ReadonlyMap<string, string>;
}

const targetSizeMax = 1024;

/** `undefined` for everything that is not exactly so. */
export function parseTarget(text: string): RequestTarget | undefined {
  if (text.length > targetSizeMax) return undefined;
  const match = /^\/([0-9a-z-]+)(?:\/([0-9a-z/-]*))?(?:\?([0-9a-z=&/-]+))?$/.exec(text);
  if (!match) return undefined;
  const [, volume = '', rest, queryText] = match;
  const key = rest === '' ? undefined : rest;
  if (!isVolumeName(volume) || (key !== undefined && (!isObjectKey(key) || !isObjectKey(`${volume}/${key}`)))) return undefined;
  const query = new Map<string, string>();
  for (const part of queryText === undefined ? [] : queryText.split('&')) {
    const pair = /^([a-z]+)(?:=([0-9a-z/-]*))?$/.exec(part);
    const [, name = '', value = ''] = pair ?? [];
    if (!pair || query.has(name)) return undefined;
    query.set(name, value);
  }
  return { volume, key, query };
}

/** What part of a volume a key belongs to: all that a log may know of it. */
export function keyClass(key: ObjectKey): string {
  const [first = ''] = key.split('/', 1);
  return ['keys', 'log', 'packs', 'probe'].includes(first) ? first : 'other';
}

export interface RangeRequest {
  /** `undefined`: so many bytes from the end. */
  readonly offset: number | undefined;
  /** `undefined`: to the end. */
  readonly length: number | undefined;
}

/**
 * One range of bytes (RFC 9110, 14.1.2); `undefined` for headers that are none, or more than one, which may be ignored.
 */
export function parseRange(header: string | undefined): RangeRequest | undefined {
  const match = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(header ?? '');
  if (!match) return undefined;
  const [first, last] = [match[1], match[2]];
  if (first === '') return last === '' ? undefined : { offset: undefined, length: Number(last) };
  if (last === '') return { offset: Number(first), length: undefined };
  return Number(last) < Number(first) ? undefined : { offset: Number(first), length: Number(last) - Number(first) + 1 };
}
