/**
 * The object store: immutable, opaque objects under keys that carry no meaning (doc/format.md, "Keys").
 * The store is not trusted: the layers above check everything that it says.
 */

import type { Sealed } from '../base/brand.js';
import { CodedError } from '../base/errors.js';

/** An object's name: `[0-9a-z-]+(/[0-9a-z-]+)*`, at most 200 characters. */
export type ObjectKey = string;

/**
 * What went wrong, named for what the caller can do:
 * - `UNAVAILABLE`: may work later (network, 5xx, hung); the outcome of a put is unknown
 * - `DENIED`: credentials or permissions
 * - `FULL`: no space or quota
 * - `READ_ONLY`: the store takes no writes
 * - `REFUSED`: the store has the object and does not give it until its operator acts (archived, a disabled key)
 * - `NOT_A_STORE`: the place does not exist or is something else
 * - `PROTOCOL`: an answer outside the protocol
 */
export type StoreErrorCode = 'UNAVAILABLE' | 'DENIED' | 'REFUSED' | 'FULL' | 'READ_ONLY' | 'NOT_A_STORE' | 'PROTOCOL';
export class StoreError extends CodedError<StoreErrorCode> {
  /**
   * With `UNAVAILABLE`: the store wants to be left alone this long. Infinity: trying again at once is of no use (a
   * certificate, a wrong name).
   */
  readonly retryAfterMs: number | undefined;
  /**
   * With `UNAVAILABLE`: a part of what was sent has arrived and need not be sent again. It is worth going on for as
   * long as this is so.
   */
  readonly isProgress: boolean;

  constructor(
    code: StoreErrorCode,
    message: string,
    options: { readonly cause?: unknown; readonly retryAfterMs?: number | undefined; readonly isProgress?: boolean } = {},
  ) {
    super(code, message, 'cause' in options ? { cause: options.cause } : undefined);
    this.retryAfterMs = options.retryAfterMs;
    this.isProgress = options.isProgress ?? false;
  }
}

export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/**
 * A body that lies in a local file (a finished staging pack): immutable from now on, `size` bytes, already synced to
 * disk.
 */
export interface FileBody {
  readonly path: string;
  readonly size: number;
}
export type ObjectBody = Sealed | FileBody;

export type PutOutcome = 'created' | 'exists';

export interface PutOptions {
  readonly ifAbsent?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Sent in parts, however small it is, where the store can do that: to find out whether it can. */
  readonly inParts?: boolean;
}

/** The largest body that is accepted unless {@link GetOptions.sizeMax} says otherwise. */
export const defaultSizeMax = 64 * 1024 * 1024;

export interface GetOptions {
  readonly range?: ByteRange;
  readonly signal?: AbortSignal | undefined;
  /** Refuse bodies larger than this (a hostile store may send gigabytes). Default: 64 MiB, or the range's length. */
  readonly sizeMax?: number;
  /**
   * Asks for what has the name now. Otherwise a ranged read may be answered from a file that was opened under the name
   * before, which costs less where one object is read in many pieces.
   */
  readonly fresh?: boolean;
}

export interface AwaitOptions {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface ListOptions {
  /** Only greater keys. Default: all. */
  readonly after?: ObjectKey | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ListedObject {
  readonly key: ObjectKey;
  /** A hint only: never used for meaning. */
  readonly size: number | undefined;
  /** It lies in an archive, and is not given unless it was restored. A hint as well. */
  readonly isArchived?: boolean;
}

/**
 * What the file system of a folder has not, as far as was seen until now:
 * - `hard-links`: an object is a folder with one file, which takes more room and more steps
 * - `folder-sync`: names cannot be made durable, so that a power cut may take the newest objects with it
 * - `rights`: not all rights and groups can be given, so that its own rules say who may use what is made there
 */
export type FolderLack = 'hard-links' | 'folder-sync' | 'rights';

/** What a kind of store knows of itself, and nobody can find out from outside. */
export interface StoreTraits {
  /**
   * Writers of one key are kept apart by a claim of its own (doc/stores.md, "WebDAV"), since the server's conditions
   * are not to be relied on.
   */
  readonly claims?: boolean;
  /** Many objects go in one request; as far as was seen until now. */
  readonly batchDelete?: boolean;
  /** Of a store in a folder. */
  readonly lacks?: readonly FolderLack[];
  /** Large bodies go in parts, and one that was cut off goes on where it stopped; as far as was seen until now. */
  readonly resumablePuts?: boolean | undefined;
  /** What is removed stays in the store as an old version. */
  readonly keepsVersions?: boolean;
  /**
   * What is put now cannot be removed for so many hours, not even its old versions (Object Lock); as far as was seen
   * until now.
   */
  readonly retentionHours?: number | undefined;
}

export interface ObjectStore {
  /** For people and logs; holds no credentials. */
  readonly description: string;
  /** True where the objects lie on a disk of this machine: a disk cache in front would only copy them. */
  readonly local: boolean;
  /**
   * True where every list reads a whole folder over the network, wherever it begins: long ones are not to be listed
   * often.
   */
  readonly listsWhole?: boolean | undefined;

  /**
   * The object's bytes (or the part of `range` that exists), owned by the caller; `undefined` when there is no such
   * object. The bytes are NOT yet trusted. Throws {@link StoreError}.
   */
  get(key: ObjectKey, options?: GetOptions): Promise<Uint8Array | undefined>;

  /**
   * Stores an object durably; objects are never overwritten. `exists`: another body may be under that key already
   * (compare it). With `ifAbsent` of several concurrent puts exactly one gets `created`, provided the store passes the
   * conformance probe. Throws {@link StoreError}; after `UNAVAILABLE` the outcome is unknown and must be read back.
   */
  put(key: ObjectKey, body: ObjectBody, options?: PutOptions): Promise<PutOutcome>;

  /**
   * Keys under `prefix` (a whole path segment ending in `/`, or empty) greater than `after`, ascending. A hint: may
   * lag, lie or omit.
   */
  list(prefix: string, options?: ListOptions): AsyncIterable<ListedObject>;

  /** Removes objects; those that are gone already count as removed. */
  delete(keys: readonly ObjectKey[]): Promise<void>;

  /** The object's size in bytes as the store reports it (a hint), or `undefined` when there is none. */
  head(key: ObjectKey): Promise<number | undefined>;

  /**
   * Waits for an object without asking again and again: true once it may be there (look), false when `timeoutMs` is
   * over. It may take as long as it says, holds no place that requests wait for, and is not retried: throws {@link
   * StoreError}, or the reason of `signal`. Only stores that can tell have it; the others are polled.
   */
  awaitObject?(key: ObjectKey, options: AwaitOptions): Promise<boolean>;

  /** Left out where there is nothing to tell. Throws {@link StoreError}. */
  traits?(): Promise<StoreTraits>;

  /**
   * Fills `target` with the object's bytes from `offset` on; how many there were, or `undefined` when there is no such
   * object. As untrusted as those of `get`, for whoever moves large objects and keeps the memory for it. Only stores
   * that need no memory of their own have it. Throws {@link StoreError}.
   */
  readInto?(key: ObjectKey, target: Uint8Array, offset: number): Promise<number | undefined>;

  /**
   * Fills all of `target` with the object's bytes from `offset` on, as untrusted as those of `get`, when that needs no
   * waiting: only stores on a disk of this machine have it. False says nothing about the object: ask `get`.
   */
  readNow?(key: ObjectKey, target: Uint8Array, offset: number): boolean;

  /**
   * Resolves when objects that were read are as durable as after their put, whose writer may have died within it. Only
   * stores that lose power together with their readers have it. Throws {@link StoreError}.
   */
  persist?(keys: readonly ObjectKey[]): Promise<void>;

  /** Frees connections; nothing may be called afterwards. */
  close(): Promise<void>;
}

const keyPattern = /^[0-9a-z-]+(?:\/[0-9a-z-]+)*$/;

/** Whether `key` is one that Sealdrive can have written: names from a LIST that are not are foreign. */
export function isObjectKey(key: string): key is ObjectKey {
  return key.length <= 200 && keyPattern.test(key);
}
