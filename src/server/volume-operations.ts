/**
 * The operations of doc/server.md, "Protocol", on the base store, within one volume. The client was identified and
 * admitted before; this file checks the target, the right, the body and the quota.
 */

import type { ListedObject, ObjectKey, ObjectStore } from '../store/object-store.js';
import { isObjectKey } from '../store/object-store.js';
import { Downloads } from './download.js';
import type { Exchange } from './exchange.js';
import type { ObjectWaiters, WaitOutcome } from './object-waiters.js';
import type { PieceBuffers } from './piece-buffers.js';
import type { Places } from './places.js';
import { takePlace } from './places.js';
import { Refusal } from './refusal.js';
import type { RequestTarget } from './request-target.js';
import { parseRange } from './request-target.js';
import type { TokenRight } from './token.js';
import { permits } from './token.js';
import type { Grant } from './token-file.js';
import type { UploadFolder } from './upload.js';
import { receiveText } from './upload.js';
import type { Reservation, VolumeUsage } from './volume-usage.js';

export type Operation = 'get' | 'head' | 'put' | 'delete' | 'delete-many' | 'list' | 'info';

export interface OperationOptions {
  readonly base: ObjectStore;
  readonly uploads: UploadFolder;
  readonly buffers: PieceBuffers;
  readonly waiters: ObjectWaiters;
  readonly usage: VolumeUsage;
  /** Bytes. */
  readonly objectMax: number;
  /** Bytes of uploads under way. */
  readonly uploading: Places;
  /** Bytes for each volume without a quota of its own. */
  readonly quota: number | undefined;
  /** Bytes free where the base lies, where that can be known. */
  readonly freeSpace: (() => Promise<number>) | undefined;
}

export const waitMaxMs = 60_000;
const listMax = 1000;
const deleteMax = 1000;
const deleteBodyMax = 256 * 1024;

export const neededRight: Readonly<Record<Operation, TokenRight>> = {
  get: 'read',
  head: 'read',
  list: 'read',
  info: 'read',
  put: 'append',
  delete: 'full',
  'delete-many': 'full',
};

/** The operation that a request asks for. Throws {@link Refusal} for an unknown combination. */
export function operationOf(method: string, { key, query }: RequestTarget): Operation {
  const wrong = new Refusal('BAD_REQUEST', 'no such request');
  const only = (...names: string[]): boolean => [...query.keys()].every((name) => names.includes(name));
  if (key !== undefined) {
    if (method === 'GET' || method === 'HEAD') {
      if (!only('wait')) throw wrong;
      return method === 'GET' ? 'get' : 'head';
    }
    if (method !== 'PUT' && method !== 'DELETE') throw new Refusal('METHOD', 'objects do not support the method');
    if (query.size > 0) throw wrong;
    return method === 'PUT' ? 'put' : 'delete';
  }
  if (method === 'GET' && query.get('info') === '' && only('info')) return 'info';
  if (method === 'GET' && query.get('list') === '' && only('list', 'prefix', 'after', 'limit')) return 'list';
  if (method === 'POST' && query.get('delete') === '' && only('delete')) return 'delete-many';
  if (!['GET', 'HEAD', 'POST', 'PUT', 'DELETE'].includes(method)) throw new Refusal('METHOD', 'volumes do not support the method');
  throw wrong;
}

/** Milliseconds that a request may wait for its object, 0 for no wait. Throws {@link Refusal}. */
export function waitOf({ query }: RequestTarget): number {
  const text = query.get('wait');
  if (text === undefined) return 0;
  const ms = /^\d{1,6}$/.test(text) ? Number(text) : Infinity;
  if (ms > waitMaxMs) throw new Refusal('BAD_REQUEST', 'the requested wait is too long');
  return ms;
}

export class VolumeOperations {
  readonly #options: OperationOptions;
  readonly #downloads: Downloads;

  constructor(options: OperationOptions) {
    this.#options = options;
    this.#downloads = new Downloads(options.base, options.buffers);
  }

  /**
   * Answers. `rest` is called while a request does no more than wait, and its promise settles when it goes on; it
   * throws when there is no place for it to wait in. `confirm` throws when the grant is not valid any more: it is asked
   * after whatever may have taken long. Throws {@link Refusal}, StoreError and CutUpload.
   */
  async run(
    operation: Operation,
    exchange: Exchange,
    target: RequestTarget,
    grant: Grant,
    rest: (wait: () => Promise<WaitOutcome>) => Promise<WaitOutcome>,
    confirm: () => Promise<void>,
  ): Promise<void> {
    if (!permits(grant.right, neededRight[operation])) throw new Refusal('FORBIDDEN', `the token has the right ${grant.right} only`);
    const hasBody = operation === 'put' || operation === 'delete-many';
    const size = exchange.bodySize;
    if (!hasBody && size !== 0) throw new Refusal('BAD_REQUEST', 'this request has no body');
    if (size === undefined || (hasBody && exchange.request.headers['content-length'] === undefined)) {
      throw new Refusal('LENGTH_REQUIRED', 'the body has no announced length');
    }
    if (operation === 'get' || operation === 'head') return this.#read(operation, exchange, target, rest, confirm);
    if (operation === 'put') return this.#put(exchange, target, grant, size, confirm);
    if (operation === 'delete') return this.#delete(exchange, grant, [target.key ?? '']);
    if (operation === 'delete-many') return this.#delete(exchange, grant, await this.#keysToDelete(exchange, grant, size));
    return operation === 'list' ? this.#list(exchange, target) : this.#info(exchange, grant);
  }

  async #read(
    operation: 'get' | 'head',
    exchange: Exchange,
    target: RequestTarget,
    rest: (wait: () => Promise<WaitOutcome>) => Promise<WaitOutcome>,
    confirm: () => Promise<void>,
  ): Promise<void> {
    const { waiters } = this.#options;
    const key = baseKey(target.volume, target.key ?? '');
    const waitMs = waitOf(target);
    if (waitMs === 0) {
      if (!(await this.#send(operation, exchange, key))) throw new Refusal('ABSENT', 'there is no such object');
      return;
    }
    // The wait begins before the look, so that an object that is put in between wakes us.
    const wait = waiters.wait(key, waitMs);
    const end = (): void => wait.end();
    exchange.response.on('close', end);
    try {
      if (await this.#send(operation, exchange, key)) return;
      const outcome = await rest(() => wait.outcome);
      if (outcome === 'stopped') throw new Refusal('STOPPING', 'the server is stopping', { retryAfterSec: 1 });
      if (exchange.isGone) return;
      await confirm();
      if (outcome === 'there' && (await this.#send(operation, exchange, key))) return;
    } finally {
      exchange.response.off('close', end);
      wait.end();
    }
    throw new Refusal('ABSENT', 'the object was not put in time');
  }

  /** False when there is no such object. */
  async #send(operation: 'get' | 'head', exchange: Exchange, key: ObjectKey): Promise<boolean> {
    const { base } = this.#options;
    if (operation === 'get') return this.#downloads.send(exchange, key, parseRange(exchange.request.headers.range));
    const size = await base.head(key);
    if (size === undefined) return false;
    exchange.begin(200, size);
    exchange.end();
    return true;
  }

  async #put(exchange: Exchange, target: RequestTarget, grant: Grant, size: number, confirm: () => Promise<void>): Promise<void> {
    const { base, uploads, buffers, waiters, usage, objectMax, uploading } = this.#options;
    const key = baseKey(target.volume, target.key ?? '');
    const { headers } = exchange.request;
    if (headers['content-encoding'] !== undefined) throw new Refusal('UNSUPPORTED', 'encoded bodies are not accepted');
    const condition = headers['if-none-match'];
    const hasOther = ['if-match', 'if-modified-since', 'if-unmodified-since', 'if-range', 'content-range'].some(
      (name) => headers[name] !== undefined,
    );
    if (hasOther || (condition !== undefined && condition !== '*')) throw new Refusal('BAD_REQUEST', 'the condition is unknown');
    if (size > objectMax) throw new Refusal('TOO_LARGE', 'the object is too large');
    const taken = condition === undefined ? new Refusal('CONFLICT', 'the object exists already') : new Refusal('EXISTS', 'the object exists already');
    // A client that expects "100 Continue" need not send a body that is refused.
    if (exchange.asksFirst && (await base.head(key)) !== undefined) throw taken;
    const quota = grant.quota ?? this.#options.quota;
    takePlace(uploading, grant.tokenId, size);
    let reservation: Reservation | undefined;
    try {
      if (quota !== undefined) reservation = await usage.reserve(target.volume, size, quota);
      exchange.invite();
      const upload = await uploads.receive(exchange.request, size, buffers);
      try {
        await confirm();
        if ((await base.put(key, upload.body, { ifAbsent: true })) === 'exists') throw taken;
      } finally {
        await upload.discard();
      }
      reservation?.keep();
      reservation = undefined;
    } finally {
      uploading.give(grant.tokenId, size);
      reservation?.release();
    }
    waiters.announce(key);
    exchange.answer(201);
  }

  async #keysToDelete(exchange: Exchange, grant: Grant, size: number): Promise<ObjectKey[]> {
    if (size > deleteBodyMax) throw new Refusal('TOO_LARGE', 'too much to delete at once');
    exchange.invite();
    const keys = readKeys(await receiveText(exchange.request, size));
    // Checked before any is deleted: an invalid key must not show after others are gone.
    if (!keys || keys.length > deleteMax || !keys.every((key) => isObjectKey(key) && isObjectKey(`${grant.volume}/${key}`))) {
      throw new Refusal('BAD_REQUEST', 'the body is not a list of keys');
    }
    return keys;
  }

  async #delete(exchange: Exchange, grant: Grant, keys: readonly ObjectKey[]): Promise<void> {
    const { base, usage } = this.#options;
    try {
      await base.delete(keys.map((key) => baseKey(grant.volume, key)));
    } finally {
      usage.shrunk(grant.volume);
    }
    exchange.answer(204);
  }

  async #list(exchange: Exchange, target: RequestTarget): Promise<void> {
    const { query, volume } = target;
    const prefix = query.get('prefix') ?? '';
    const after = query.get('after') ?? '';
    const limit = /^[1-9]\d{0,3}$/.test(query.get('limit') ?? '') ? Math.min(Number(query.get('limit')), listMax) : listMax;
    const isPrefix = prefix === '' || (prefix.endsWith('/') && isObjectKey(prefix.slice(0, -1)));
    // `after` may be any text that sorts among keys.
    if (!isPrefix || after.length > 200 || (query.has('limit') && !/^\d{1,4}$/.test(query.get('limit') ?? ''))) {
      throw new Refusal('BAD_REQUEST', 'the list has an invalid prefix, start or limit');
    }
    const objects: [key: string, size: number | null][] = [];
    let more = false;
    for await (const { key, size } of this.#inVolume(volume, prefix, after)) {
      if (objects.length === limit) {
        more = true;
        break;
      }
      objects.push([key, size ?? null]);
    }
    exchange.answer(200, { objects, more });
  }

  async *#inVolume(volume: string, prefix: string, after: string): AsyncGenerator<ListedObject> {
    const start = `${volume}/`;
    for await (const { key, size } of this.#options.base.list(start + prefix, after === '' ? {} : { after: start + after })) {
      if (key.startsWith(start)) yield { key: key.slice(start.length), size };
    }
  }

  async #info(exchange: Exchange, grant: Grant): Promise<void> {
    const { usage, objectMax, freeSpace } = this.#options;
    const quota = grant.quota ?? this.#options.quota;
    const used = quota === undefined ? undefined : await usage.used(grant.volume);
    const free = await freeSpace?.();
    const left = quota === undefined || used === undefined ? Infinity : Math.max(0, quota - used);
    const usable = Math.min(free ?? Infinity, left);
    exchange.answer(200, {
      right: grant.right,
      quota: quota ?? null,
      used: used ?? null,
      free: Number.isFinite(usable) ? usable : null,
      objectMax,
      waitMax: waitMaxMs,
    });
  }
}

const baseKey = (volume: string, key: ObjectKey): ObjectKey => `${volume}/${key}`;

/** The keys in the body of a batch; `undefined` for anything else. */
function readKeys(text: string): string[] | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof value !== 'object' || value === null || !('keys' in value) || Object.keys(value).length !== 1) return undefined;
  const { keys } = value;
  return Array.isArray(keys) && keys.every((key: unknown) => typeof key === 'string') ? keys : undefined;
}
