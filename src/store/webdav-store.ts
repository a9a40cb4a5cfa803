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
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import { Limiter } from '../base/limiter.js';
import type { Random } from '../base/random.js';
import type { Disk } from '../disk/disk.js';
import { compareObject } from './compare-object.js';
import { HttpAuthentication } from './http-authentication.js';
import { HttpObjects, type ObjectRequest, statusError, unavailableError } from './http-objects.js';
import type { HttpAnswer, HttpRequest, HttpTransportOptions } from './http-transport.js';
import { HttpTransport } from './http-transport.js';
import { ListingBudget, listWithin } from './listing-budget.js';
import { type OpenRemoteOptions, parseLocation, pathSegments } from './location-url.js';
import type { HttpCredentials } from './netrc.js';
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
import { encodeUnreserved } from './sigv4.js';
import { readTransportSettings, tlsRemark, transportParameterNames } from './transport-settings.js';
import type { XmlNode } from './xml-answer.js';
import { childrenOf, childText, XmlReader } from './xml-answer.js';

export interface WebdavStoreOptions {
  /** `http:` or `https:`, with nothing but host and port. */
  readonly origin: URL;
  /** Of the collection that is the store, before encoding. */
  readonly segments: readonly string[];
  /** Called when the server asks who we are, and again when it does not like the answer. */
  readonly loadCredentials: () => Promise<HttpCredentials | undefined>;
  readonly disk: Disk;
  readonly random: Random;
  readonly clock?: Clock;
  readonly transport?: HttpTransportOptions;
}

/** How one of several writers of a key wins: a conditional put, or the move of a collection. */
export type WebdavClaim = 'put' | 'move';

/** Of the answer about one collection, which is read as it arrives; a million members are described by less. */
const listAnswerMax = 2 * 1024 * 1024 * 1024;
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
const propfind =
  '<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:resourcetype/><D:getcontentlength/></D:prop></D:propfind>';
const timedPropfind = propfind.replace('<D:getcontentlength/>', '<D:getlastmodified/>');

interface DavRequest extends ObjectRequest {
  /** Below the store's collection; empty for the collection itself. */
  readonly path: string;
}

interface Member {
  readonly name: string;
  readonly isCollection: boolean;
  readonly size: number | undefined;
  /** By the clock of the server, in milliseconds since 1970; only where it was asked for. */
  readonly modifiedMs: number | undefined;
}

export class WebdavStore implements ObjectStore {
  readonly description: string;
  readonly local = false;
  readonly listsWhole = true;
  readonly #options: WebdavStoreOptions;
  readonly #clock: Clock;
  readonly #transport: HttpTransport;
  /** Encoded path of the collection; begins and ends in a slash. */
  readonly #root: string;
  readonly #isProtected: boolean;
  readonly #deletes = new Limiter(deletesAtOnce);
  readonly #objects = new HttpObjects({
    send: async (key, request) => this.#request({ ...request, path: await this.#pathOf(key) }),
    isAbsent: ({ status }) => status === 404 || status === 410,
    error: (answer, doing) => this.#error(answer, doing),
    omitsLengthZero: true,
  });
  #authentication: HttpAuthentication | undefined;
  #claim: Promise<WebdavClaim> | undefined;
  #hasCleaned = false;

  /** Makes no request. */
  constructor(options: WebdavStoreOptions) {
    const { origin, segments } = options;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#transport = new HttpTransport(origin, { clock: this.#clock, disk: options.disk, ...options.transport });
    this.#root = `/${segments.map((segment) => `${encodeUnreserved(segment)}/`).join('')}`;
    this.#isProtected = origin.protocol === 'https:' || /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(origin.hostname);
    this.description = `WebDAV collection /${segments.join('/')} at ${origin.host}${tlsRemark(options.transport)}`;
  }

  /**
   * Makes the collection, and what it lies in, where there is none, and a store in it; opens the store that is there.
   * Throws {@link StoreError}.
   */
  async create(): Promise<void> {
    const doing = 'making the store';
    const members = await this.#allMembers('', doing);
    if (!members) await this.#makeRoot(doing);
    else if (members.some(({ name }) => name === markerName || name === 'keys')) return;
    else if (members.length > 0) throw new StoreError('NOT_A_STORE', `${this.description} holds other files: a store is made in an empty collection`);
    const claim = (await this.#isPutExclusive(doing)) || !(await this.#isMoveExclusive(doing)) ? 'put' : 'move';
    const answer = await this.#request({ method: 'PUT', path: markerName, body: Buffer.from(`Sealdrive store, claim=${claim}\n`), doing });
    if (answer.status < 200 || answer.status > 299) throw this.#error(answer, doing);
    this.#claim = undefined;
  }

  async #makeRoot(doing: string): Promise<void> {
    const parts = this.#options.segments;
    for (let count = 1; count <= parts.length; count++) {
      const above = '../'.repeat(parts.length - count);
      const answer = await this.#request({ method: 'MKCOL', path: above, doing });
      // The last one decides: those above may belong to others.
      if (count === parts.length && answer.status !== 201 && answer.status !== 405) throw this.#error(answer, doing);
    }
  }

  /** Whether of concurrent conditional puts one wins, found out by doing it. */
  async #isPutExclusive(doing: string): Promise<boolean> {
    const { random } = this.#options;
    for (let round = 0; round < claimRounds; round++) {
      const path = `_probe-${toHex(random.bytes(8))}`;
      const put = async (): Promise<number> => {
        const answer = await this.#request({ method: 'PUT', path, headers: { 'if-none-match': '*' }, body: random.bytes(64), doing });
        if ([401, 403, 405, 507].includes(answer.status)) throw this.#error(answer, doing);
        return answer.status;
      };
      const statuses = await Promise.all(Array.from({ length: claimWriters }, put));
      statuses.push(await put());
      await this.#request({ method: 'DELETE', path, doing });
      if (statuses.filter((status) => status >= 200 && status < 300).length !== 1) return false;
    }
    return true;
  }

  /** The same of moves, where puts are not. When neither is, puts do for the one writer that such a store can have. */
  async #isMoveExclusive(doing: string): Promise<boolean> {
    const { random } = this.#options;
    this.#claim = Promise.resolve('move');
    for (let round = 0; round < claimRounds; round++) {
      const key = `probe/${toHex(random.bytes(8))}`;
      const move = (): Promise<PutOutcome> => this.#putMoved(key, random.bytes(64) as Sealed, undefined);
      try {
        const outcomes = await Promise.all(Array.from({ length: claimWriters }, move));
        outcomes.push(await move());
        if (outcomes.filter((outcome) => outcome === 'created').length !== 1) return false;
      } catch (error) {
        if (error instanceof StoreError && ['PROTOCOL', 'UNAVAILABLE'].includes(error.code) && error.retryAfterMs === undefined) return false;
        throw error;
      } finally {
        await this.#request({ method: 'DELETE', path: `${key}_/`, doing }).catch(() => {});
      }
    }
    return true;
  }

  /** How writers win in this store, as its maker found out. */
  claim(): Promise<WebdavClaim> {
    const claim = (this.#claim ??= this.#readClaim());
    claim.catch(() => {
      if (this.#claim === claim) this.#claim = undefined;
    });
    return claim;
  }

  async #readClaim(): Promise<WebdavClaim> {
    const doing = 'reading how the store is written to';
    const answer = await this.#request({ method: 'GET', path: markerName, doing });
    if (answer.status === 404) return 'put';
    if (answer.status !== 200) throw this.#error(answer, doing);
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
      this.#request({
        method: 'PUT',
        path: key,
        headers: { 'if-none-match': '*', 'content-type': 'application/octet-stream' },
        body,
        signal,
        doing,
      });
    let answer = await send();
    if ([404, 409, 500].includes(answer.status)) {
      // What it should lie in is not there yet: some servers call that an error of their own, and then it may be any
      // other.
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
    // Once, before the first write; the upload does not wait for it.
    if (!this.#hasCleaned) {
      this.#hasCleaned = true;
      void this.#removeStale().catch(() => {});
    }
    const temporary = `${temporaryName}/${toHex(this.#options.random.bytes(12))}`;
    const made = async (): Promise<HttpAnswer> => this.#request({ method: 'MKCOL', path: `${temporary}/`, signal, doing });
    let answer = await made();
    if (answer.status === 409 || answer.status === 404) {
      await this.#makeParents(temporary, doing);
      answer = await made();
    }
    if (answer.status !== 201) throw this.#error(answer, doing);
    try {
      answer = await this.#request({
        method: 'PUT',
        path: `${temporary}/${bodyName}`,
        headers: { 'content-type': 'application/octet-stream' },
        body,
        signal,
        doing,
      });
      if (answer.status < 200 || answer.status > 299) throw this.#error(answer, doing);
      const move = (): Promise<HttpAnswer> =>
        this.#request({
          method: 'MOVE',
          path: `${temporary}/`,
          headers: { destination: `${this.#options.origin.origin}${this.#root}${key}_/`, overwrite: 'F' },
          signal,
          doing,
        });
      answer = await move();
      if ([207, 404, 409, 500].includes(answer.status) && (await this.head(key)) === undefined) {
        await this.#makeParents(key, doing);
        answer = await move();
      }
    } finally {
      if (answer.status !== 201 && answer.status !== 204) await this.#request({ method: 'DELETE', path: `${temporary}/`, doing }).catch(() => {});
    }
    if (answer.status === 412) return 'exists';
    if (answer.status === 201 || answer.status === 204) return 'created';
    return this.#decideByLooking(answer, key, body, signal, doing);
  }

  /** Removes what uploads that were cut off left behind long ago. What cannot be removed does no harm. */
  async #removeStale(): Promise<void> {
    const members = (await this.#allMembers(`${temporaryName}/`, 'looking for leftovers', timedPropfind)) ?? [];
    // Only the server's clock counts, which may differ from ours by any amount: its newest file gives the time.
    const newestMs = members.reduce((newest, { modifiedMs }) => Math.max(newest, modifiedMs ?? 0), 0);
    for (const { name, isCollection, modifiedMs } of members) {
      if (!isCollection || !/^[0-9a-f]{24}$/.test(name) || modifiedMs === undefined || newestMs - modifiedMs <= staleMs) continue;
      await this.#request({ method: 'DELETE', path: `${temporaryName}/${name}/`, doing: 'removing leftovers' });
    }
  }

  /** After an answer that does not say who won, as losers of a race may get: what lies there decides. */
  async #decideByLooking(answer: HttpAnswer, key: ObjectKey, body: ObjectBody, signal: AbortSignal | undefined, doing: string): Promise<PutOutcome> {
    const error = this.#error(answer, doing);
    if ([207, 403, 409, 412, 423, 500].includes(answer.status)) {
      const found = await compareObject(this, this.#options.disk, key, body, signal);
      if (found !== 'absent') return found === 'same' ? 'created' : 'exists';
    }
    throw error;
  }

  /** The collections that `path` lies in. */
  async #makeParents(path: string, doing: string): Promise<void> {
    const parts = path.split('/').slice(0, -1);
    for (let count = 1; count <= parts.length; count++) {
      const answer = await this.#request({ method: 'MKCOL', path: `${parts.slice(0, count).join('/')}/`, doing });
      if (answer.status === 409 && count === 1) throw new StoreError('NOT_A_STORE', `${doing}: there is no ${this.description}`);
      // 405: it is there. Losers of a race hear of conflicts, of errors, or that it is forbidden (Apache): what is put
      // next tells.
      if (answer.status === 401 || answer.status === 507) throw this.#error(answer, doing);
    }
  }

  list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    return listWithin(prefix, options, this.#clock, (after, budget) => this.#walk(prefix, after, budget));
  }

  /** One collection at a time is in memory. */
  async *#walk(prefix: string, after: string, budget: ListingBudget): AsyncGenerator<ListedObject> {
    const { doing } = budget;
    const claim = await this.claim();
    const found: { readonly key: string; readonly sort: string; readonly size: number | undefined; readonly isFolder: boolean }[] = [];
    const isThere = await this.#eachMember(prefix, budget, ({ name, isCollection, size }) => {
      const isObject = claim === 'put' ? !isCollection : isCollection && name.endsWith('_');
      const key = prefix + (isObject && claim === 'move' ? name.slice(0, -1) : name);
      // Foreign names are none of ours, whatever they are.
      if (!isObjectKey(key)) return;
      if (isObject) budget.found();
      if (isObject && key > after) found.push({ key, sort: key, size: claim === 'put' ? size : undefined, isFolder: false });
      // Everything below sorts between `key/` and `key0`.
      else if (isCollection && !isObject && `${key}0` > after) found.push({ key, sort: `${key}/`, size: undefined, isFolder: true });
      if (found.length > membersMax) throw new StoreError('PROTOCOL', `${doing}: a collection has more than ${membersMax} members`);
    });
    if (!isThere) {
      // Without the collection of the store itself, "nothing there" would be a lie.
      if (prefix === '' || !(await this.#exists(doing, budget.signal)))
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

  async #exists(doing: string, signal: AbortSignal): Promise<boolean> {
    const answer = await this.#propfind('', '0', doing, signal);
    if (answer.status !== 207 && answer.status !== 404) throw this.#error(answer, doing);
    return answer.status === 207;
  }

  #propfind(
    path: string,
    depth: '0' | '1',
    doing: string,
    signal: AbortSignal | undefined,
    reader?: HttpRequest['reader'],
    query = propfind,
  ): Promise<HttpAnswer> {
    const headers = { depth, 'content-type': 'application/xml; charset=utf-8' };
    const answerMax = reader ? { answerMax: listAnswerMax } : {};
    return this.#request({ method: 'PROPFIND', path, headers, body: Buffer.from(query), reader, ...answerMax, signal, doing });
  }

  /** {@link WebdavStore.#eachMember} for collections that hold little; `undefined` when there is none. */
  async #allMembers(path: string, doing: string, query?: string): Promise<Member[] | undefined> {
    const budget = new ListingBudget(doing, this.#clock);
    const members: Member[] = [];
    try {
      return (await this.#eachMember(path, budget, (member) => void members.push(member), query)) ? members : undefined;
    } finally {
      budget.end();
    }
  }

  /**
   * Gives what lies directly in a collection below the store (a path that ends in a slash, or empty) to `take`; false
   * when there is none.
   */
  async #eachMember(path: string, budget: ListingBudget, take: (member: Member) => void, query?: string): Promise<boolean> {
    const { doing } = budget;
    const own = decodePath(this.#root + path) ?? '';
    const xml = new XmlReader('multistatus', 'response', doing, (response) => {
      const member = memberOf(response, own);
      if (member) take(member);
    });
    const reader = {
      status: 207,
      write: (piece: Uint8Array): void => {
        budget.received(piece.byteLength);
        xml.write(piece);
      },
    };
    budget.request();
    const answer = await this.#propfind(path, '1', doing, budget.signal, reader, query);
    if (answer.status === 404) return false;
    if (answer.status !== 207) throw this.#error(answer, doing);
    xml.end();
    return true;
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    const claim = await this.claim();
    await Promise.all(
      keys.map((key) =>
        this.#deletes.run(async () => {
          assert(isObjectKey(key), 'an object key is made of plain segments');
          const doing = `removing ${key}`;
          const answer = await this.#request({ method: 'DELETE', path: claim === 'put' ? key : `${key}_/`, doing });
          // 409: what it should lie in is not there.
          if (![200, 202, 204, 404, 409, 410].includes(answer.status)) throw this.#error(answer, doing);
        }),
      ),
    );
  }

  async traits(): Promise<StoreTraits> {
    return { claims: (await this.claim()) === 'move', batchDelete: false };
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }

  async #pathOf(key: ObjectKey): Promise<string> {
    assert(isObjectKey(key), 'an object key is made of plain segments');
    return (await this.claim()) === 'put' ? key : `${key}_/${bodyName}`;
  }

  /** One request, sent a second time when the server wants to know who we are. */
  async #request(request: DavRequest): Promise<HttpAnswer> {
    const answer = await this.#send(request);
    if (answer.status !== 401) return answer;
    const credentials = await this.#options.loadCredentials();
    if (!credentials) return answer;
    const authentication = new HttpAuthentication(credentials, this.#isProtected, this.#options.random);
    if (!authentication.accept(answer.headers['www-authenticate'] ?? '')) {
      throw new StoreError('DENIED', `${request.doing}: the server offers no way to log in that is safe here: it takes https, digest or a token`);
    }
    this.#authentication = authentication;
    return this.#send(request);
  }

  #send({ path, ...request }: DavRequest): Promise<HttpAnswer> {
    // Keys are plain and the root is encoded already.
    const target = resolveTarget(this.#root, path);
    const authorization = this.#authentication?.header(request.method, target);
    const headers = { ...request.headers, ...(authorization === undefined ? {} : { authorization }) };
    return this.#transport.request({ ...request, target, headers });
  }

  #error(answer: HttpAnswer, doing: string): StoreError {
    const { status } = answer;
    const details = `status ${status}`;
    if (status === 401)
      return new StoreError('DENIED', `${doing}: the server wants other credentials (${details}); doc/stores.md says where they are looked for`);
    if (status === 403) return new StoreError('DENIED', `${doing}: these credentials do not permit it (${details})`);
    if (status === 404) return new StoreError('NOT_A_STORE', `${doing}: there is no ${this.description}`);
    if (status === 405) return new StoreError('NOT_A_STORE', `${doing}: there is no WebDAV at this address (${details})`);
    if (status >= 300 && status < 400) {
      return new StoreError('NOT_A_STORE', `${doing}: the server sends us elsewhere (${details}): write the address that it really has`);
    }
    if ([207, 409, 412, 423].includes(status)) return unavailableError(answer, doing, this.#clock);
    return statusError(answer, doing, this.#clock);
  }
}

/** The direct member of the collection at the decoded path `own` that a `response` element describes. */
function memberOf(response: XmlNode, own: string): Member | undefined {
  const href = decodePath(childText(response, 'href') ?? '');
  if (href === undefined || !href.startsWith(own)) return undefined;
  const name = href.slice(own.length).replace(/\/$/, '');
  if (name === '' || name.includes('/')) return undefined;
  let isCollection = href.endsWith('/');
  let size: number | undefined;
  let modifiedMs: number | undefined;
  for (const status of childrenOf(response, 'propstat')) {
    for (const properties of childrenOf(status, 'prop')) {
      isCollection ||= childrenOf(properties, 'resourcetype').some((type) => Object.hasOwn(type, 'collection'));
      const length = childText(properties, 'getcontentlength') ?? '';
      if (/^\d{1,15}$/.test(length)) size = Number(length);
      const modified = Date.parse(childText(properties, 'getlastmodified') ?? '');
      if (Number.isFinite(modified)) modifiedMs = modified;
    }
  }
  return { name, isCollection, size, modifiedMs };
}

/** `../` at the start of `path` climbs out of the root, one level each. */
function resolveTarget(root: string, path: string): string {
  let base = root;
  let rest = path;
  for (; rest.startsWith('../'); rest = rest.slice(3)) base = base.replace(/[^/]+\/$/, '');
  return base + rest;
}

/** The decoded path of an href, which may be a whole URL; `undefined` when it is none. */
function decodePath(href: string): string | undefined {
  try {
    return decodeURIComponent(href.startsWith('/') ? href : new URL(href).pathname);
  } catch {
    return undefined;
  }
}

const example = 'webdav+https://host/path';

/**
 * The store that a `webdav+https:` or `webdav+http:` URL names; no request is made. Throws `StoreLocationError` and
 * {@link StoreError}.
 */
export async function openWebdavStore(location: string, options: OpenRemoteOptions): Promise<WebdavStore> {
  // Those of other schemes are read by other rules.
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
