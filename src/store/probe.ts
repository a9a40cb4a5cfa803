/**
 * The conformance probe: what a store really does, found by doing it. Some servers ignore a conditional put silently, and two
 * devices would then overwrite each other's commits; such a store is for one writer only (doc/architecture.md, "The store").
 * An honest store is measured here, not a hostile one: a store that lies to the probe is caught by the commit log.
 */
import { equalBytes, toHex } from '../base/bytes.js';
import type { Sealed } from '../base/brand.js';
import type { Random } from '../base/random.js';
import type { ObjectStore } from './object-store.js';

export interface ProbeReport {
  /** `exact`: of concurrent conditional puts exactly one won, and its bytes stayed. `none`: the condition cannot be relied on. */
  readonly conditionalPut: 'exact' | 'none';
  /** A ranged get gives that range and nothing else. */
  readonly ranges: boolean;
  /** An object is there for a get as soon as its put was answered. */
  readonly readAfterWrite: boolean;
  /** A list shows an object as soon as its put was answered. */
  readonly listAfterWrite: boolean;
  /** A list is in ascending order and begins after the given key. */
  readonly listOrdered: boolean;
  readonly delete: boolean;
}

const writers = 16;
const rounds = 3;
const bodySize = 512;

/** Probes under `probe/` with a few dozen small requests, and removes what it made. Throws {@link StoreError} when the store fails altogether. */
export async function probeStore(store: ObjectStore, random: Random, options: { readonly signal?: AbortSignal } = {}): Promise<ProbeReport> {
  const { signal } = options;
  const run = toHex(random.bytes(8));
  const keys: string[] = [];
  const freshKey = (): string => {
    const key = `probe/${run}-${keys.length.toString(16).padStart(2, '0')}`;
    keys.push(key);
    return key;
  };
  // Random bytes say nothing to anyone.
  const freshBody = (): Sealed => random.bytes(bodySize) as Sealed;
  let removed = false;
  try {
    let exact = true;
    let readAfterWrite = true;
    for (let round = 0; round < rounds; round++) {
      const key = freshKey();
      const bodies = Array.from({ length: writers }, freshBody);
      const outcomes = await Promise.all(bodies.map((body) => store.put(key, body, { ifAbsent: true, signal })));
      const late = await store.put(key, freshBody(), { ifAbsent: true, signal });
      const stored = await store.get(key, { sizeMax: bodySize, signal });
      const winners = bodies.filter((_, index) => outcomes[index] === 'created');
      if (!stored) readAfterWrite = false;
      if (winners.length !== 1 || late !== 'exists' || (stored && !equalBytes(stored, winners[0]))) exact = false;
    }

    const body = freshBody();
    const key = freshKey();
    await store.put(key, body, { signal });
    const whole = await store.get(key, { sizeMax: bodySize, signal });
    readAfterWrite &&= whole !== undefined && equalBytes(whole, body);
    const ranges = await rangesWork(store, key, body, signal);

    const listed: string[] = [];
    for await (const object of store.list('probe/', { signal })) {
      if (object.key.startsWith(`probe/${run}-`)) listed.push(object.key);
    }
    const later: string[] = [];
    for await (const object of store.list('probe/', { after: keys[0], signal })) {
      if (object.key.startsWith(`probe/${run}-`)) later.push(object.key);
    }
    const listAfterWrite = keys.every((made) => listed.includes(made));
    const ascending = listed.every((made, index) => index === 0 || listed[index - 1] < made);
    const listOrdered = ascending && later.every((made) => made > keys[0]);

    await store.delete(keys);
    await store.delete(keys);
    removed = true;
    const left = await Promise.all(keys.map((made) => store.get(made, { sizeMax: bodySize, signal })));
    return {
      conditionalPut: exact ? 'exact' : 'none',
      ranges,
      readAfterWrite,
      listAfterWrite,
      listOrdered,
      delete: left.every((bytes) => bytes === undefined),
    };
  } finally {
    // The first error is the one to tell; probes that stay behind do no harm.
    if (!removed) await store.delete(keys).catch(() => {});
  }
}

async function rangesWork(store: ObjectStore, key: string, body: Sealed, signal: AbortSignal | undefined): Promise<boolean> {
  for (const [offset, length] of [
    [0, 1],
    [100, 50],
    [bodySize - 10, 100],
    [bodySize, 1],
  ]) {
    // A server that ignores ranges sends the whole body: the transport may refuse that, which is an answer as well.
    const part = await store.get(key, { range: { offset, length }, signal }).catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === 'PROTOCOL') return undefined;
      throw error;
    });
    if (!part || !equalBytes(part, body.subarray(offset, offset + length))) return false;
  }
  return true;
}
