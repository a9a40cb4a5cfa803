/**
 * Creates a volume in a store: its genesis commit, which holds an empty root directory (doc/format.md, "Commit"). Its
 * keyslots are for the caller to make and to put into the store.
 */
import type { Clock, Timespec } from '../base/clock.js';
import type { Random } from '../base/random.js';
import { type Features, noFeatures } from '../commit/features.js';
import { createVolumeLog } from '../commit/genesis.js';
import type { ProgramVersion } from '../commit/program-version.js';
import type { SlotHeader } from '../crypto/keyslot.js';
import { RootKeys } from '../crypto/volume-keys.js';
import { encodeInode, type Inode, S_IFDIR } from '../meta/inode.js';
import { inodeKey, rootIno } from '../meta/key.js';
import type { ObjectStore } from '../store/object-store.js';

export interface CreateOptions {
  readonly store: ObjectStore;
  /** 32 bytes, borrowed. */
  readonly rootSecret: Uint8Array;
  /** 32 bytes, borrowed. */
  readonly ownerSeed: Uint8Array;
  readonly random: Random;
  readonly clock: Clock;
  readonly program: ProgramVersion;
  /** Largest plaintext of a chunk, bytes. */
  readonly chunkSize?: number;
  /** Default: none. */
  readonly features?: Features;
  /** Makes the keyslots, once the id is known; the caller puts them into the store last. Default: there are none. */
  readonly makeSlots?: (volumeId: Uint8Array) => Promise<readonly SlotHeader[]>;
}

/**
 * A random read opens a whole chunk, and a sequential read costs some microseconds per chunk. 64 KiB keeps both
 * comparable to filesystems with 4 KiB blocks.
 */
const defaultChunkSize = 64 * 1024;

const noSlots = (): Promise<readonly SlotHeader[]> => Promise.resolve([]);

/** Creates a volume in `store`, without putting keyslots there; its genesis commit determines its id. */
export async function createVolume(options: CreateOptions): Promise<{ readonly volumeId: Uint8Array }> {
  const { store, rootSecret, ownerSeed, random, clock, program, chunkSize = defaultChunkSize, features = noFeatures, makeSlots = noSlots } = options;
  const root = new RootKeys(new Uint8Array(rootSecret), random);
  const time = clock.now();
  try {
    return await createVolumeLog({
      store,
      root,
      random,
      createdMs: time.sec * 1000,
      chunkSize,
      suite: 1,
      mutations: [[inodeKey(rootIno), encodeInode(newRootDirectory(time))]],
      filesDelta: 1,
      ownerSeed,
      program,
      features,
      makeSlots,
    });
  } finally {
    root.wipe();
  }
}

/** Owned by the user who creates the volume. */
function newRootDirectory(time: Timespec): Inode {
  return {
    mode: S_IFDIR | 0o755,
    nlink: 2,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    rdev: 0,
    flags: 0,
    size: 0,
    allocated: 0,
    generation: 0,
    parent: rootIno,
    atime: time,
    mtime: time,
    ctime: time,
    btime: time,
    stamp: { deviceIndex: 0, counter: 0 },
    inline: new Uint8Array(0) as Inode['inline'],
  };
}
