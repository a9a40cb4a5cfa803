/**
 * A commit, decoded (doc/format.md, "Commit"). Its bytes are in `commit-codec.ts`, its way into the log in
 * `commit-log.ts`.
 */
import type { PackId } from '../pack/pack-id.js';
import type { PageReference } from '../pack/page-reference.js';
import type { DeviceId } from './enrolment.js';
import type { ProgramVersion } from './program-version.js';
import type { LogRecord } from './record.js';
import type { Sequence } from './sequence.js';

/** `null` deletes. Keys are tree keys as byte strings, ascending, none twice. */
export type Mutation = readonly [key: string, value: Uint8Array | null];

export interface Checkpoint {
  /** `undefined` when the tree is empty. */
  readonly root: PageReference | undefined;
  /** The tree holds the mutations of all commits up to this one. */
  readonly covers: Sequence;
  /** The volume's totals at `covers`. */
  readonly files: number;
  readonly bytes: number;
}

/** A pack as the commit that brings it names it. */
export interface CommitPack {
  readonly id: PackId;
  readonly size: number;
  /** The epoch whose keys seal everything in it. */
  readonly epoch: number;
  /** H of its sealed index, 32 bytes. */
  readonly indexHash: Uint8Array;
}

/** The part of a commit that the volume decides; the log adds number, links, counters, records and signature. */
export interface CommitDraft {
  /** Advisory, ms since 1970. */
  readonly wallTimeMs: number;
  /** From now on this device allocates no inode counter below this. */
  readonly nextInoCounter: number;
  /** With this commit, the operations of this device's journal up to this serial are in the log. */
  readonly operationSerial: number;
  readonly filesDelta: number;
  readonly bytesDelta: number;
  readonly packs: readonly CommitPack[];
  readonly checkpoint: Checkpoint | undefined;
  readonly mutations: readonly Mutation[];
}

/** A commit that counts: it was verified, and breaks no rule of the chain. */
export interface Commit extends CommitDraft {
  readonly sequence: Sequence;
  /** H of its sealed bytes. */
  readonly hash: Uint8Array;
  readonly previousHash: Uint8Array;
  /** The device that wrote it, or `ownerId`. */
  readonly author: DeviceId;
  /** 1 for its author's first commit, then + 1. */
  readonly counter: number;
  /** Its author's commit before it; 0 without one. */
  readonly previousOwn: Sequence;
  /** The program that wrote it. */
  readonly program: ProgramVersion;
  readonly lastCheckpoint: Sequence;
  readonly records: readonly LogRecord[];
}
