/**
 * A store that lies: it keeps every version of itself, and answers as its persona wishes (doc/security.md). A seed
 * determines its behaviour. Without a persona it is honest. It can do everything that the owner of a store can, and has
 * no key.
 */
import type { Disk } from '../../src/disk/disk.js';
import { readBody } from '../../src/store/file-body.js';
import type { GetOptions, ListedObject, ListOptions, ObjectBody, ObjectKey, ObjectStore, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import type { SeededRandom } from '../suite/seeded-random.js';

export type Objects = ReadonlyMap<ObjectKey, Uint8Array>;

/** A persona's hooks for answers. Requests without a hook are answered honestly. */
export interface Persona {
  readonly name: string;
  /** The whole object as it appears; ranges are cut from it. */
  get?(key: ObjectKey, honest: Uint8Array | undefined): Uint8Array | undefined;
  /** The answer to a put, and whether its object is kept. */
  put?(key: ObjectKey, bytes: Uint8Array, exists: boolean): { readonly keep: boolean; readonly outcome: PutOutcome };
  list?(prefix: string, honest: readonly ListedObject[]): Iterable<ListedObject>;
  head?(key: ObjectKey, honest: number | undefined): number | undefined;
}

export class EvilStore implements ObjectStore {
  readonly description = 'evil';
  readonly local = false;
  readonly #disk: Disk;
  #objects: Map<ObjectKey, Uint8Array>;
  /** The objects after every change. The bytes are shared and never changed. */
  readonly history: Objects[] = [];
  persona: Persona | undefined;
  /** Puts that came while the persona was active, whatever was answered. */
  writes = 0;
  /** The largest answer to a get so far. */
  largestAnswer = 0;

  constructor(disk: Disk, objects: Objects = new Map()) {
    this.#disk = disk;
    this.#objects = new Map(objects);
    this.history.push(new Map(objects));
  }

  get objects(): Objects {
    return this.#objects;
  }

  /** Another store with the objects of `version` (default: now), for another attack. */
  copy(version: Objects = this.#objects): EvilStore {
    return new EvilStore(this.#disk, version);
  }

  /** Changes an object as its owner can, bypassing the persona. `undefined` removes it. */
  plant(key: ObjectKey, bytes: Uint8Array | undefined): void {
    if (bytes) this.#objects.set(key, bytes);
    else this.#objects.delete(key);
  }

  async get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    options.signal?.throwIfAborted();
    const honest = this.#objects.get(key);
    const whole = this.persona?.get ? this.persona.get(key, honest) : honest;
    if (!whole) return undefined;
    const start = options.range?.offset ?? 0;
    const bytes = whole.subarray(start, options.range ? start + options.range.length : undefined);
    // The transport refuses answers that are longer than requested (test/store/s3-hostile.test.ts), as every store
    // does.
    const sizeMax = options.sizeMax ?? options.range?.length ?? 64 * 1024 * 1024;
    if (bytes.byteLength > sizeMax) throw new StoreError('PROTOCOL', `an answer of ${bytes.byteLength} bytes, at most ${sizeMax} are expected`);
    this.largestAnswer = Math.max(this.largestAnswer, bytes.byteLength);
    return new Uint8Array(bytes);
  }

  async head(key: ObjectKey): Promise<number | undefined> {
    const honest = this.#objects.get(key)?.byteLength;
    if (this.persona?.head) return this.persona.head(key, honest);
    return this.persona?.get ? this.persona.get(key, this.#objects.get(key))?.byteLength : honest;
  }

  async put(key: ObjectKey, body: ObjectBody, options: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal } = {}): Promise<PutOutcome> {
    options.signal?.throwIfAborted();
    const bytes = body instanceof Uint8Array ? new Uint8Array(body) : await readBody(this.#disk, body);
    this.writes++;
    const exists = this.#objects.has(key);
    const verdict = this.persona?.put?.(key, bytes, exists) ?? { keep: !exists, outcome: exists ? 'exists' : 'created' };
    if (verdict.keep) {
      this.#objects.set(key, bytes);
      this.history.push(new Map(this.#objects));
    }
    return verdict.outcome;
  }

  async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    const honest: ListedObject[] = [];
    for (const key of [...this.#objects.keys()].toSorted()) {
      if (key.startsWith(prefix) && key > (options.after ?? '')) honest.push({ key, size: this.#objects.get(key)?.byteLength });
    }
    for (const object of this.persona?.list?.(prefix, honest) ?? honest) {
      options.signal?.throwIfAborted();
      yield object;
    }
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    for (const key of keys) this.#objects.delete(key);
    this.history.push(new Map(this.#objects));
  }

  async close(): Promise<void> {}
}

/** A copy with one bit flipped. */
export function flipBit(bytes: Uint8Array, bit: number): Uint8Array {
  const flipped = new Uint8Array(bytes);
  flipped[bit >>> 3]! ^= 1 << (bit & 7);
  return flipped;
}

const pick = <T>(random: SeededRandom, from: readonly T[]): T => from[random.below(from.length)]!;

/**
 * The objects that a persona attacks: all, or those below one of the prefixes, and of these `percent` in 100, always
 * the same ones.
 */
function chooser(random: SeededRandom, objects: Objects, percent: number): ReadonlySet<ObjectKey> {
  const chosen = new Set([...objects.keys()].filter(() => random.below(100) < percent));
  if (chosen.size === 0 && objects.size > 0) chosen.add(pick(random, [...objects.keys()]));
  return chosen;
}

/** The personas for any store, each a function of the seed and of the current store. */
export const personas: Readonly<Record<string, (random: SeededRandom, store: EvilStore) => Persona>> = {
  /** Flips different bits now and then in every chosen object. */
  bitRot(random, store) {
    const chosen = chooser(random, store.objects, 1 + random.below(60));
    return {
      name: 'bit rot',
      get: (key, honest) => (honest && honest.byteLength > 0 && chosen.has(key) ? flipBit(honest, random.below(honest.byteLength * 8)) : honest),
    };
  },

  truncator(random, store) {
    const chosen = chooser(random, store.objects, 1 + random.below(60));
    const keep = random.u32() / 2 ** 32;
    const extend = random.below(4) === 0;
    return {
      name: extend ? 'truncator (extends)' : 'truncator',
      get(key, honest) {
        if (!honest || !chosen.has(key)) return honest;
        return extend ? Buffer.concat([honest, random.bytes(1 + random.below(100))]) : honest.subarray(0, Math.floor(honest.byteLength * keep));
      },
    };
  },

  /** Swaps two objects, or puts one in the place of both. */
  swapper(random, store) {
    const keys = [...store.objects.keys()];
    const [a, b] = [pick(random, keys), pick(random, keys)];
    const both = random.below(2) === 0;
    return {
      name: both ? 'swapper (duplicates)' : 'swapper',
      get(key, honest) {
        if (key === a) return store.objects.get(b);
        return key === b && !both ? store.objects.get(a) : honest;
      },
    };
  },

  /** Answers with the content of another object of the same folder, a different one each time. */
  replayer(random, store) {
    const chosen = chooser(random, store.objects, 1 + random.below(40));
    const folderOf = (key: ObjectKey): string => key.slice(0, key.indexOf('/'));
    return {
      name: 'replayer',
      get(key, honest) {
        if (!chosen.has(key)) return honest;
        const like = [...store.objects.keys()].filter((other) => folderOf(other) === folderOf(key));
        return store.objects.get(pick(random, like));
      },
    };
  },

  /** Shows the whole store as it was at some time. */
  rollback(random, store) {
    const old = pick(random, store.history.slice(0, -1));
    return rolledBack(old);
  },

  /** Hides the newest commits of the log, and nothing else. */
  freezer(random, store) {
    const log = [...store.objects.keys()].filter((key) => key.startsWith('log/')).toSorted();
    const hidden = new Set(log.slice(1 + random.below(Math.max(1, log.length - 1))));
    return {
      name: 'freezer',
      get: (key, honest) => (hidden.has(key) ? undefined : honest),
      list: (_, honest) => honest.filter(({ key }) => !hidden.has(key)),
    };
  },

  /** Lies about sizes, lists and existence. */
  liar(random) {
    const odd = (): number => pick(random, [0, 1, -1, 2 ** 53, Number.NaN, random.u32()]);
    return {
      name: 'liar',
      head: (_, honest) => (honest === undefined ? honest : odd()),
      *list(prefix, honest) {
        yield* honest.filter(() => random.below(2) === 0).map(({ key }) => ({ key, size: odd() }));
        yield* ['../../etc/passwd', '', '/', 'log', 'log/x', `${prefix}\0`, `${prefix}${'a'.repeat(5000)}`, 'keys/zz', 'packs/..'].map((key) => ({
          key,
          size: odd(),
        }));
      },
    };
  },

  /** Drops some existing objects, and does not keep new ones. */
  dropper(random, store) {
    const chosen = chooser(random, store.objects, 1 + random.below(50));
    return {
      name: 'dropper',
      get: (key, honest) => (chosen.has(key) ? undefined : honest),
      list: (_, honest) => honest.filter(({ key }) => !chosen.has(key)),
      put: () => ({ keep: false, outcome: 'created' }),
    };
  },

  /** Sends answers of many megabytes, and endless lists. */
  bomber(random, store) {
    const chosen = chooser(random, store.objects, 1 + random.below(60));
    const bomb = new Uint8Array(80 * 1024 * 1024).fill(random.below(256));
    const names = [...store.objects.keys()];
    return {
      name: 'bomber',
      get: (key, honest) => (chosen.has(key) ? bomb : honest),
      *list() {
        for (;;)
          yield {
            key: random.below(2) === 0 ? pick(random, names) : `log/${'f'.repeat(16)}-${random.u32().toString(16).padStart(12, '0')}`,
            size: 1,
          };
      },
    };
  },

  /** Occupies log numbers that are still free, as far as it can name them without the keys. */
  squatter(random, store) {
    const next = [...store.objects.keys()].filter((key) => key.startsWith('log/')).length;
    const squats = Array.from({ length: 50 }, (_, index) => {
      const suffix = Buffer.from(random.bytes(6)).toString('hex');
      return `log/${(next + (index % 10)).toString(16).padStart(16, '0')}-${suffix}`;
    });
    const [copied] = store.objects.values();
    return {
      name: 'squatter',
      get: (key, honest) => (squats.includes(key) ? copied : honest),
      list: (prefix, honest) => [...honest, ...squats.filter((key) => key.startsWith(prefix)).map((key) => ({ key, size: 1 }))],
    };
  },

  /** Changes the version or the suite of every object that has one. */
  downgrader(random, store) {
    const chosen = chooser(random, store.objects, 1 + random.below(80));
    const at = pick(random, [4, 5, 6, 7]);
    const value = random.below(256);
    return {
      name: 'downgrader',
      get(key, honest) {
        if (!honest || !chosen.has(key) || honest.byteLength <= at || honest[at] === value) return honest;
        const changed = new Uint8Array(honest);
        changed[at] = value;
        return changed;
      },
    };
  },
};

/** Reads see `old`; puts are added to it. */
export function rolledBack(old: Objects): Persona {
  const added = new Map<ObjectKey, Uint8Array>();
  const at = (key: ObjectKey): Uint8Array | undefined => added.get(key) ?? old.get(key);
  return {
    name: 'rollback',
    get: (key) => at(key),
    list: (prefix, honest) => honest.filter(({ key }) => key.startsWith(prefix) && at(key) !== undefined),
    put(key, bytes) {
      if (at(key)) return { keep: false, outcome: 'exists' };
      added.set(key, bytes);
      return { keep: false, outcome: 'created' };
    },
  };
}
