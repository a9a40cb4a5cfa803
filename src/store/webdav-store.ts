/**
 * An object store in a WebDAV collection (RFC 4918): an object is a file at the path that its key spells, and
 * conditional puts decide between devices. Some servers ignore `If-None-Match`. The maker of a store finds that out and
 * records in it that objects are claimed by moving instead: each is then a collection `KEY_` holding `body`, since no
 * server moves a collection onto one that is not empty (doc/stores.md, "WebDAV"). `_` is in no key, so none of these
 * names can be one.
 */
import { assert } from '../base/assert.js';
import type { Sealed } from '../base/brand.js';
import { toHex } from '../base/bytes.js';
import { Limiter } from '../base/limiter.js';
import { compareObject } from './compare-object.js';
import { describeNames, namesInTheWay } from './folder-leftovers.js';
import { HttpObjects } from './http-objects.js';
import type { HttpAnswer } from './http-transport.js';
import type { ListingBudget } from './listing-budget.js';
import { listWithin } from './listing-budget.js';
import { type OpenRemoteOptions, parseLocation, pathSegments } from './location-url.js';
import { loadHttpCredentials } from './netrc.js';
import type {
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectBody,
  ObjectKey,
  ObjectStore,
  PutOptions,
  PutOutcome,
  StoreTraits,
} from './object-store.js';
import { isObjectKey, StoreError } from './object-store.js';
import { readTransportSettings, transportParameterNames } from './transport-settings.js';
import type { WebdavCollectionOptions } from './webdav-collection.js';
import { timedPropfind, WebdavCollection } from './webdav-collection.js';

/** How one of several writers of a key wins: a conditional put, or the move of a collection. */
export type WebdavClaim = 'put' | 'move';

/** Members of one collection that are kept, to be sorted. */
const membersMax = 1_000_000;
const deletesAtOnce = 8;
const markerName = '_sealdrive';
const temporaryName = '_tmp';
const bodyName = 'body';
/** A temporary collection this old belongs to nobody: no attempt to upload lasts that long. */
const staleMs = 24 * 60 * 60 * 1000;
const claimWriters = 12;
const claimRounds = 3;
export class WebdavStore implements ObjectStore {
  readonly description: string;
  readonly local = false;
  readonly listsWhole = true;
  readonly #options: WebdavCollectionOptions;
  readonly #collection: WebdavCollection;
  readonly #deletes = new Limiter(deletesAtOnce);
  readonly #objects = new HttpObjects({
    send: async (key, request) => this.#collection.request({ ...request, path: await this.#pathOf(key) }),
    isAbsent: ({ status }) => status === 404 || status === 410,
    error: (answer, doing) => this.#collection.error(answer, doing),
    omitsLengthZero: true,
  });
  #claim: Promise<WebdavClaim> | undefined;
  #hasCleaned = false;

  /** Makes no request. */
  constructor(options: WebdavCollectionOptions) {
    this.#options = options;
    this.#collection = new WebdavCollection(options);
    this.description = this.#collection.description;
  }

  /**
   * Makes the collection, and what it lies in, where there is none, and a store in it; opens the store that is there.
   * Throws {@link StoreError}.
   */
  async create(): Promise<void> {
    const doing = 'making the store';
    const members = await this.#collection.allMembers('', doing);
    if (!members) await this.#makeRoot(doing);
    const names = namesInTheWay((members ?? []).map(({ name }) => name));
    if (names.includes(markerName) || names.includes('keys')) return;
    if (names.length > 0) {
      throw new StoreError('NOT_A_STORE', `${this.description} holds other files (${describeNames(names)}): a store is made in an empty collection`);
    }
    const claim = (await this.#isPutExclusive(doing)) || !(await this.#isMoveExclusive(doing)) ? 'put' : 'move';
    // Of several makers the first one decides for all, since they would not see each other's objects otherwise.
    const headers = { 'if-none-match': '*' };
    const body = Buffer.from(`Sealdrive store, claim=${claim}\n`);
    const answer = await this.#collection.request({ method: 'PUT', path: markerName, headers, body, doing });
    if ((answer.status < 200 || answer.status > 299) && !(await this.#hasMarker(doing))) throw this.#collection.error(answer, doing);
    this.#claim = undefined;
  }

  async #hasMarker(doing: string): Promise<boolean> {
    return (await this.#collection.request({ method: 'GET', path: markerName, doing })).status === 200;
  }

  async #makeRoot(doing: string): Promise<void> {
    const parts = this.#options.segments;
    for (let count = 1; count <= parts.length; count++) {
      const above = '../'.repeat(parts.length - count);
      const answer = await this.#collection.request({ method: 'MKCOL', path: above, doing });
      // Only the last one must be there in the end: those above may belong to others.
      if (count < parts.length || answer.status === 201 || answer.status === 405) continue;
      // Losers of a race may get any answer.
      if (!(await this.#collection.allMembers('', doing))) throw this.#collection.error(answer, doing);
    }
  }

  /** Tries whether exactly one of several concurrent conditional puts wins. */
  async #isPutExclusive(doing: string): Promise<boolean> {
    const { random } = this.#options;
    for (let round = 0; round < claimRounds; round++) {
      const path = `_probe-${toHex(random.bytes(8))}`;
      const put = async (): Promise<number> => {
        const answer = await this.#collection.request({ method: 'PUT', path, headers: { 'if-none-match': '*' }, body: random.bytes(64), doing });
        if ([401, 403, 405, 507].includes(answer.status)) throw this.#collection.error(answer, doing);
        return answer.status;
      };
      const statuses = await Promise.all(Array.from({ length: claimWriters }, put));
      statuses.push(await put());
      await this.#collection.request({ method: 'DELETE', path, doing });
      if (statuses.filter((status) => status >= 200 && status < 300).length !== 1) return false;
    }
    return true;
  }

  /**
   * Tries the same with moves. When neither is exclusive, conditional puts suffice for the single writer that such a
   * store can have.
   */
  async #isMoveExclusive(doing: string): Promise<boolean> {
    const { random } = this.#options;
    this.#claim = Promise.resolve('move');
    for (let round = 0; round < claimRounds; round++) {
      const key = `probe-${toHex(random.bytes(8))}`;
      const move = (): Promise<PutOutcome> => this.#putMoved(key, random.bytes(64) as Sealed, undefined);
      try {
        const outcomes = await Promise.all(Array.from({ length: claimWriters }, move));
        outcomes.push(await move());
        if (outcomes.filter((outcome) => outcome === 'created').length !== 1) return false;
      } catch (error) {
        if (error instanceof StoreError && ['PROTOCOL', 'UNAVAILABLE'].includes(error.code) && error.retryAfterMs === undefined) return false;
        throw error;
      } finally {
        await this.#collection.request({ method: 'DELETE', path: `${key}_/`, doing }).catch(() => {});
      }
    }
    return true;
  }

  /** How writers claim keys in this store, as recorded by its maker. */
  claim(): Promise<WebdavClaim> {
    const claim = (this.#claim ??= this.#readClaim());
    claim.catch(() => {
      if (this.#claim === claim) this.#claim = undefined;
    });
    return claim;
  }

  async #readClaim(): Promise<WebdavClaim> {
    const doing = 'reading how the store is written to';
    const answer = await this.#collection.request({ method: 'GET', path: markerName, doing });
    if (answer.status === 404) return 'put';
    if (answer.status !== 200) throw this.#collection.error(answer, doing);
    const claim = /^Sealdrive store, claim=(put|move)\n$/.exec(Buffer.from(answer.body).toString('latin1'))?.[1];
    if (claim === 'put' || claim === 'move') return claim;
    throw new StoreError('PROTOCOL', `${markerName} in the ${this.description} is damaged, or of a newer Sealdrive`);
  }

  get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    return this.#objects.get(key, options);
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#objects.head(key);
  }

  async put(key: ObjectKey, body: ObjectBody, options: PutOptions = {}): Promise<PutOutcome> {
    options.signal?.throwIfAborted();
    assert(isObjectKey(key), 'an object key is made of plain segments');
    return (await this.claim()) === 'put' ? this.#putFile(key, body, options.signal) : this.#putMoved(key, body, options.signal);
  }

  async #putFile(key: ObjectKey, body: ObjectBody, signal: AbortSignal | undefined): Promise<PutOutcome> {
    const doing = `writing ${key}`;
    const send = (): Promise<HttpAnswer> =>
      this.#collection.request({
        method: 'PUT',
        path: key,
        headers: { 'if-none-match': '*', 'content-type': 'application/octet-stream' },
        body,
        signal,
        doing,
      });
    let answer = await send();
    if ([404, 409, 500].includes(answer.status)) {
      // The parent collections may be missing. Some servers answer that with 500, which may mean anything else, too.
      const isUncertain = answer.status === 500;
      await this.#makeParents(key, doing);
      answer = await send();
      if (isUncertain && answer.status === 412) return this.#decideByLooking(answer, key, body, signal, doing);
    }
    if (answer.status === 412) return 'exists';
    if (answer.status >= 200 && answer.status < 300) return 'created';
    return this.#decideByLooking(answer, key, body, signal, doing);
  }

  async #putMoved(key: ObjectKey, body: ObjectBody, signal: AbortSignal | undefined): Promise<PutOutcome> {
    const doing = `writing ${key}`;
    // Runs once, before the first write, and the upload does not wait for it.
    if (!this.#hasCleaned) {
      this.#hasCleaned = true;
      void this.#removeStale().catch(() => {});
    }
    const temporary = `${temporaryName}/${toHex(this.#options.random.bytes(12))}`;
    const made = async (): Promise<HttpAnswer> => this.#collection.request({ method: 'MKCOL', path: `${temporary}/`, signal, doing });
    let answer = await made();
    if (answer.status === 409 || answer.status === 404) {
      await this.#makeParents(temporary, doing);
      answer = await made();
    }
    if (answer.status !== 201) throw this.#collection.error(answer, doing);
    try {
      answer = await this.#collection.request({
        method: 'PUT',
        path: `${temporary}/${bodyName}`,
        headers: { 'content-type': 'application/octet-stream' },
        body,
        signal,
        doing,
      });
      if (answer.status < 200 || answer.status > 299) throw this.#collection.error(answer, doing);
      const move = (): Promise<HttpAnswer> =>
        this.#collection.request({
          method: 'MOVE',
          path: `${temporary}/`,
          headers: { destination: `${this.#options.origin.origin}${this.#collection.root}${key}_/`, overwrite: 'F' },
          signal,
          doing,
        });
      answer = await move();
      if ([207, 404, 409, 500].includes(answer.status) && (await this.head(key)) === undefined) {
        await this.#makeParents(key, doing);
        answer = await move();
      }
    } finally {
      if (answer.status !== 201 && answer.status !== 204)
        await this.#collection.request({ method: 'DELETE', path: `${temporary}/`, doing }).catch(() => {});
    }
    if (answer.status === 412) return 'exists';
    if (answer.status === 201 || answer.status === 204) return 'created';
    return this.#decideByLooking(answer, key, body, signal, doing);
  }

  /** Removes the remains of old interrupted uploads. Those that cannot be removed do no harm. */
  async #removeStale(): Promise<void> {
    const members = (await this.#collection.allMembers(`${temporaryName}/`, 'looking for leftovers', timedPropfind)) ?? [];
    // Only the server's clock counts, which may differ from ours by any amount; its newest file shows the time there.
    const newestMs = members.reduce((newest, { modifiedMs }) => Math.max(newest, modifiedMs ?? 0), 0);
    for (const { name, isCollection, modifiedMs } of members) {
      if (!isCollection || !/^[0-9a-f]{24}$/.test(name) || modifiedMs === undefined || newestMs - modifiedMs <= staleMs) continue;
      await this.#collection.request({ method: 'DELETE', path: `${temporaryName}/${name}/`, doing: 'removing leftovers' });
    }
  }

  /** Decides by the stored object after an answer that does not say who won, which losers of a race may get. */
  async #decideByLooking(answer: HttpAnswer, key: ObjectKey, body: ObjectBody, signal: AbortSignal | undefined, doing: string): Promise<PutOutcome> {
    const error = this.#collection.error(answer, doing);
    if ([207, 403, 409, 412, 423, 500].includes(answer.status)) {
      const found = await compareObject(this, this.#options.disk, key, body, signal);
      if (found !== 'absent') return found === 'same' ? 'created' : 'exists';
    }
    throw error;
  }

  /** Makes the collections above `path`. */
  async #makeParents(path: string, doing: string): Promise<void> {
    const parts = path.split('/').slice(0, -1);
    for (let count = 1; count <= parts.length; count++) {
      const answer = await this.#collection.request({ method: 'MKCOL', path: `${parts.slice(0, count).join('/')}/`, doing });
      if (answer.status === 409 && count === 1) throw new StoreError('NOT_A_STORE', `${doing}: there is no ${this.description}`);
      // 405 means that it exists. Losers of a race may get a conflict, an error, or "forbidden" (Apache); the next put
      // shows whether it exists.
      if (answer.status === 401 || answer.status === 507) throw this.#collection.error(answer, doing);
    }
  }

  list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    return listWithin(prefix, options, this.#collection.clock, (after, budget) => this.#walk(prefix, after, budget));
  }

  /** One collection at a time is in memory. */
  async *#walk(prefix: string, after: string, budget: ListingBudget): AsyncGenerator<ListedObject> {
    const { doing } = budget;
    const claim = await this.claim();
    const found: { readonly key: string; readonly sort: string; readonly size: number | undefined; readonly isFolder: boolean }[] = [];
    const isThere = await this.#collection.eachMember(prefix, budget, ({ name, isCollection, size }) => {
      const isObject = claim === 'put' ? !isCollection : isCollection && name.endsWith('_');
      const key = prefix + (isObject && claim === 'move' ? name.slice(0, -1) : name);
      // Foreign names are ignored.
      if (!isObjectKey(key)) return;
      if (isObject) budget.found();
      if (isObject && key > after) found.push({ key, sort: key, size: claim === 'put' ? size : undefined, isFolder: false });
      // Everything below sorts between `key/` and `key0`.
      else if (isCollection && !isObject && `${key}0` > after) found.push({ key, sort: `${key}/`, size: undefined, isFolder: true });
      if (found.length > membersMax) throw new StoreError('PROTOCOL', `${doing}: a collection has more than ${membersMax} members`);
    });
    if (!isThere) {
      // A missing store must not look like an empty one.
      if (prefix === '' || !(await this.#collection.exists(doing, budget.signal)))
        throw new StoreError('NOT_A_STORE', `${doing}: there is no ${this.description}`);
      return;
    }
    found.sort((a, b) => (a.sort < b.sort ? -1 : 1));
    for (const { key, size, isFolder } of found) {
      budget.signal.throwIfAborted();
      if (isFolder) yield* this.#walk(`${key}/`, after, budget);
      else yield { key, size };
    }
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    const claim = await this.claim();
    await Promise.all(
      keys.map((key) =>
        this.#deletes.run(async () => {
          assert(isObjectKey(key), 'an object key is made of plain segments');
          const doing = `removing ${key}`;
          const answer = await this.#collection.request({ method: 'DELETE', path: claim === 'put' ? key : `${key}_/`, doing });
          // 409 means that a parent collection is missing.
          if (![200, 202, 204, 404, 409, 410].includes(answer.status)) throw this.#collection.error(answer, doing);
        }),
      ),
    );
  }

  async traits(): Promise<StoreTraits> {
    return { claims: (await this.claim()) === 'move', batchDelete: false };
  }

  async close(): Promise<void> {
    await this.#collection.close();
  }

  async #pathOf(key: ObjectKey): Promise<string> {
    assert(isObjectKey(key), 'an object key is made of plain segments');
    return (await this.claim()) === 'put' ? key : `${key}_/${bodyName}`;
  }
}

const example = 'webdav+https://host/path';

/**
 * The store that a `webdav+https:` or `webdav+http:` URL names; no request is made. Throws `StoreLocationError` and
 * {@link StoreError}.
 */
export async function openWebdavStore(location: string, options: OpenRemoteOptions): Promise<WebdavStore> {
  // URLs with schemes that are not special are parsed by other rules.
  const { url, parameters } = parseLocation(location.replace(/^webdav\+/, ''), example, transportParameterNames, { user: true });
  const user = url.username === '' ? undefined : decodeURIComponent(url.username);
  const { env, home } = options;
  const origin = new URL(url.origin);
  return new WebdavStore({
    origin,
    segments: pathSegments(url, example),
    loadCredentials: () => loadHttpCredentials(url.host, user, { env, home }),
    disk: options.disk,
    random: options.random,
    ...(options.clock ? { clock: options.clock } : {}),
    transport: await readTransportSettings(parameters, origin, options, example),
  });
}
