/**
 * Objects as all HTTP servers have them alike: reading one, whole or in part, asking for its size, and the statuses
 * that mean the same everywhere. Each store adds the target, authenticates its requests, and interprets every other
 * status (doc/stores.md, "Over the network").
 */
import type { Clock } from '../base/clock.js';
import type { HttpAnswer, HttpRequest } from './http-transport.js';
import type { ByteRange, GetOptions, ObjectKey } from './object-store.js';
import { defaultSizeMax, StoreError } from './object-store.js';

/** A request as a store writes it: it adds the target, and who we are. */
export type ObjectRequest = Omit<HttpRequest, 'target' | 'headers'> & Partial<Pick<HttpRequest, 'headers'>>;

/** How one store asks for an object, and what it makes of the answers. */
export interface ObjectServer {
  send(key: ObjectKey, request: ObjectRequest): Promise<HttpAnswer>;
  /** Whether the answer says that there is no such object, in a store that is there. */
  isAbsent(answer: HttpAnswer): boolean;
  /** For an answer that is neither a success nor absence. */
  error(answer: HttpAnswer, doing: string): StoreError;
  /** Some servers leave out the length of an empty file. */
  readonly omitsLengthZero?: boolean;
}

export class HttpObjects {
  readonly #server: ObjectServer;

  constructor(server: ObjectServer) {
    this.#server = server;
  }

  /** As {@link ObjectStore.get}. */
  async get(key: ObjectKey, { range, signal, sizeMax }: GetOptions): Promise<Uint8Array | undefined> {
    signal?.throwIfAborted();
    if (range?.length === 0) return (await this.head(key)) === undefined ? undefined : new Uint8Array(0);
    const doing = `reading ${key}`;
    const answer = await this.#server.send(key, {
      method: 'GET',
      headers: range ? { range: `bytes=${range.offset}-${range.offset + range.length - 1}` } : {},
      answerMax: Math.min(sizeMax ?? Infinity, range?.length ?? sizeMax ?? defaultSizeMax),
      signal,
      doing,
    });
    if (answer.status === 200 && !range) return answer.body;
    if (range && [200, 206, 416].includes(answer.status)) return rangeOfAnswer(answer, range, doing);
    if (this.#server.isAbsent(answer)) return undefined;
    throw this.#server.error(answer, doing);
  }

  /** As {@link ObjectStore.head}. */
  async head(key: ObjectKey): Promise<number | undefined> {
    const doing = `looking for ${key}`;
    const answer = await this.#server.send(key, { method: 'HEAD', doing });
    if (this.#server.isAbsent(answer)) return undefined;
    if (answer.status !== 200) throw this.#server.error(answer, doing);
    const length = answer.headers['content-length'] ?? (this.#server.omitsLengthZero === true ? '0' : '');
    if (!/^\d{1,15}$/.test(length)) throw new StoreError('PROTOCOL', `${doing}: the server does not say its size`);
    return Number(length);
  }
}

/**
 * The bytes of `range` from the answer to a request for it, with everything that the answer says about itself checked.
 */
function rangeOfAnswer(answer: HttpAnswer, range: ByteRange, doing: string): Uint8Array {
  const { status, headers, body } = answer;
  if (status === 416) return new Uint8Array(0);
  if (status === 200) {
    // A server may answer with the whole object when all of it was asked for.
    return body.subarray(Math.min(range.offset, body.byteLength), range.offset + range.length);
  }
  const parts = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(headers['content-range'] ?? '');
  const [first, last] = [Number(parts?.[1]), Number(parts?.[2])];
  const isWhole = body.byteLength === range.length || parts?.[3] === '*' || last + 1 === Number(parts?.[3]);
  if (status !== 206 || first !== range.offset || last - first + 1 !== body.byteLength || body.byteLength > range.length || !isWhole) {
    throw new StoreError('PROTOCOL', `${doing}: the server answered with another range than was asked for`);
  }
  return body;
}

/** The error for a status that means the same everywhere; any other is outside the protocol. */
export function statusError(answer: HttpAnswer, doing: string, clock: Clock): StoreError {
  const { status } = answer;
  if (status === 407) return new StoreError('DENIED', `${doing}: the proxy wants credentials`);
  if (status === 507) return new StoreError('FULL', `${doing}: there is no room left, or the quota is used up (status ${status})`);
  if (status === 408 || status === 429 || (status >= 500 && status !== 501 && status !== 505)) return unavailableError(answer, doing, clock);
  return new StoreError('PROTOCOL', `${doing}: the server answers with status ${status}`);
}

/** The error of a request that may succeed later, at the time that the answer names, if any. */
export function unavailableError(answer: HttpAnswer, doing: string, clock: Clock, details = `status ${answer.status}`): StoreError {
  return new StoreError('UNAVAILABLE', `${doing}: the server cannot answer now (${details})`, { retryAfterMs: retryAfterMs(answer, clock) });
}

/**
 * The delay in a `Retry-After` header (RFC 9110, 10.2.3), at most five minutes; `undefined` when there is none that
 * makes sense.
 */
function retryAfterMs(answer: HttpAnswer, clock: Clock): number | undefined {
  const text = answer.headers['retry-after'];
  if (text === undefined) return undefined;
  const ms = /^\d{1,9}$/.test(text) ? Number(text) * 1000 : Date.parse(text) - clock.now().sec * 1000;
  return Number.isFinite(ms) ? Math.min(Math.max(ms, 0), 300_000) : undefined;
}
