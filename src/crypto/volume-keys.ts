/**
 * The keys of one volume: from the root secret to a {@link SealKey} for each kind of object (doc/format.md, "Key
 * hierarchy"). Keyslots, which lead to the root secret, are `keyslot.ts`.
 */
import { assert } from '../base/assert.js';
import { ByteWriter, toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import { ChunkKey } from './chunk-key.js';
import type { Suite } from './seal-format.js';
import { keyLength } from './seal-format.js';
import { SealKey } from './seal-key.js';
import { keyedHash, subkey } from './subkey.js';

const noVolume = new Uint8Array(32);
const firstGeneration = 1;

/** What the root secret of a generation alone gives: in the first one, enough to find and open the genesis. */
export class RootKeys {
  readonly #secret: Uint8Array;
  readonly #random: Random;
  readonly #logNameKey: Uint8Array;
  /** Also the number of the epoch that it begins. */
  readonly generation: number;

  /** Takes `rootSecret` (32 bytes) over: {@link RootKeys.wipe} clears it. */
  constructor(rootSecret: Uint8Array, random: Random, generation = firstGeneration) {
    assert(rootSecret.byteLength === keyLength, 'a root secret has 32 bytes');
    this.generation = generation;
    this.#secret = rootSecret;
    this.#random = random;
    this.#logNameKey = subkey(rootSecret, 'log-name');
  }

  /** The key of the generation's epoch: 32 bytes, which the caller wipes. */
  epochKey(): Uint8Array {
    return subkey(this.#secret, 'epoch');
  }

  /** It opens a genesis in the first generation only: the genesis is of epoch 1. */
  genesis(suite: Suite = 1): SealKey {
    const epochKey = this.epochKey();
    const options = { suite, volumeId: noVolume, epoch: firstGeneration, random: this.#random };
    const key = new SealKey({ kind: 'genesis', subkey: subkey(epochKey, 'genesis'), ...options });
    epochKey.fill(0);
    return key;
  }

  /** The unguessable end of a commit's key: 12 hex digits. Strangers cannot squat on log numbers. */
  logName(sequence: number): string {
    return toHex(keyedHash(this.#logNameKey, new ByteWriter(8).u53(sequence).finish()).subarray(0, 6));
  }

  /** The keys that do not change with epochs, for the volume that the genesis names. */
  local(kind: 'trust' | 'device' | 'journal', suite: Suite, volumeId: Uint8Array): SealKey {
    return new SealKey({ kind, subkey: subkey(this.#secret, kind), suite, volumeId, epoch: 0, random: this.#random });
  }

  wipe(): void {
    this.#secret.fill(0);
    this.#logNameKey.fill(0);
  }
}

/** The SealKeys of one epoch. */
export interface EpochKeys {
  readonly epoch: number;
  readonly commit: SealKey;
  readonly chunk: ChunkKey;
  readonly page: SealKey;
  readonly packIndex: SealKey;
  readonly packFooter: SealKey;
}

export interface VolumeKeysOptions {
  readonly root: RootKeys;
  /** 32 bytes. */
  readonly volumeId: Uint8Array;
  readonly suite: Suite;
  readonly random: Random;
}

/**
 * All keys of an open volume: those of the root secret and of its epoch, and of others that are added. New objects are
 * sealed in the newest epoch; objects of older epochs are still opened.
 */
export class VolumeKeys {
  readonly root: RootKeys;
  readonly volumeId: Uint8Array;
  readonly suite: Suite;
  readonly trust: SealKey;
  readonly device: SealKey;
  readonly journal: SealKey;
  readonly #random: Random;
  readonly #epochs = new Map<number, EpochKeys>();
  #newest = 0;

  constructor({ root, volumeId, suite, random }: VolumeKeysOptions) {
    this.root = root;
    this.volumeId = volumeId;
    this.suite = suite;
    this.#random = random;
    this.trust = root.local('trust', suite, volumeId);
    this.device = root.local('device', suite, volumeId);
    this.journal = root.local('journal', suite, volumeId);
    const epochKey = root.epochKey();
    this.addEpoch(root.generation, epochKey);
    epochKey.fill(0);
  }

  /** Adds an epoch (from 1 on), given its 32-byte key, which may be wiped afterwards. */
  addEpoch(epoch: number, key: Uint8Array): void {
    assert(epoch >= 1 && !this.#epochs.has(epoch) && key.byteLength === keyLength, 'each epoch is added once, with a 32-byte key');
    const { suite, volumeId } = this;
    const shared = (purpose: string) => ({ subkey: subkey(key, purpose), suite, volumeId, epoch });
    const make = (kind: 'commit' | 'page' | 'pack-index' | 'pack-footer', purpose: string): SealKey =>
      new SealKey({ kind, ...shared(purpose), random: this.#random });
    this.#epochs.set(epoch, {
      epoch,
      commit: make('commit', 'commit'),
      chunk: new ChunkKey(shared('chunk')),
      page: make('page', 'page'),
      packIndex: make('pack-index', 'pack-index'),
      packFooter: make('pack-footer', 'pack-index'),
    });
    this.#newest = Math.max(this.#newest, epoch);
  }

  /** The newest epoch's keys. */
  get current(): EpochKeys {
    const keys = this.#epochs.get(this.#newest);
    assert(keys, 'a volume has at least one epoch');
    return keys;
  }

  epoch(epoch: number): EpochKeys | undefined {
    return this.#epochs.get(epoch);
  }
}
