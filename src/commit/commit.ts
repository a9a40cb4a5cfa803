/**
 * A commit, decoded (doc/format.md, "Commit"). Its bytes are in `commit-codec.ts`, its way into the log in
 * `commit-log.ts`.
 */
import type { Brand } from '../base/brand.js';
import type { PackId } from '../pack/pack-id.js';
import type { PageReference } from '../pack/page-reference.js';

/** A commit's number: the genesis is 0. */
export type Sequence = Brand<number, 'Sequence'>;
/** 16 random bytes as hex. */
export type DeviceId = Brand<string, 'DeviceId'>;

export interface Enrolment {
  readonly deviceId: DeviceId;
  /** Position in the roster: the creator is 0. Inode numbers are allocated under it. */
  readonly deviceIndex: number;
  /** Ed25519, 32 bytes. */
  readonly publicKey: Uint8Array;
  /** Shown to people, in `status` and in the names of conflict copies. */
  readonly name: string;
}

/** The newest commit of a device that the acknowledging device had verified. */
export interface Acknowledgement {
  readonly deviceId: DeviceId;
  readonly deviceCounter: number;
}

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

/** The part of a commit that the volume decides; the log adds number, links, counters, roster and signature. */
export interface CommitDraft {
  /** Advisory, ms since 1970. */
  readonly wallTimeMs: number;
  /** From now on this device allocates no inode counter below this. */
  readonly nextInoCounter: number;
  /** With this commit, the operations of this device's journal up to this serial are in the log. */
  readonly operationSerial: number;
  readonly filesDelta: number;
  readonly bytesDelta: number;
  readonly packs: readonly { readonly id: PackId; readonly size: number }[];
  readonly checkpoint: Checkpoint | undefined;
  readonly mutations: readonly Mutation[];
}

/** A commit that was verified: signature, links, counters, place in the log. */
export interface Commit extends CommitDraft {
  readonly sequence: Sequence;
  /** BLAKE2b-256 of its sealed bytes. */
  readonly hash: Uint8Array;
  readonly previousHash: Uint8Array;
  readonly deviceId: DeviceId;
  readonly deviceCounter: number;
  readonly previousOwn: Sequence;
  readonly lastCheckpoint: Sequence;
  readonly acknowledgements: readonly Acknowledgement[];
  readonly enrolments: readonly Enrolment[];
}
