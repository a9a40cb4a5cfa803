/**
 * An object store behind `sealdrive serve`: one volume, over the protocol of doc/server.md. Puts are exclusive, and a
 * client that waits for an object is answered as soon as it appears. Nothing that the server says is shown to people,
 * since it may be anyone.
 */
import { isAbsolute, join } from 'node:path';
import { assert } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import type { Disk } from '../disk/disk.js';
import { HttpObjects, type ObjectRequest, statusError } from './http-objects.js';
import type { HttpAnswer, HttpTransportOptions } from './http-transport.js';
import { HttpTransport } from './http-transport.js';
import type { ListingBudget } from './listing-budget.js';
import { listWithin } from './listing-budget.js';
import { type OpenRemoteOptions, parseLocation, pathSegments, StoreLocationError } from './location-url.js';
import { loadHttpCredentials, readSecretFile } from './netrc.js';
import type {
  AwaitOptions,
  GetOptions,
  ListedObject,
  ListOptions,
  ObjectBody,
  ObjectKey,
  ObjectStore,
  PutOptions,
  PutOutcome,
} from './object-store.js';
import { isObjectKey, StoreError } from './object-store.js';
import { readTransportSettings, tlsRemark, transportParameterNames } from './transport-settings.js';

export interface HttpStoreOptions {
  /** `http:` or `https:`, with nothing but host and port. */
  readonly origin: URL;
  /** The last one is the volume; those before it are a proxy's. */
  readonly segments: readonly string[];
  /** Called before the first request, and again when the server rejects the token. */
  readonly loadToken: () => Promise<string | undefined>;
  /** Reads file bodies. */
  readonly disk: Disk;
  readonly clock?: Clock;
  readonly transport?: HttpTransportOptions;
}

const listAnswerMax = 1024 * 1024;
const deleteBatch = 1000;
/** Shorter than the timeouts of common proxies. */
const waitMaxMs = 25_000;
/** Pause between two waits when the server answers at once instead of waiting. */
const waitPauseMs = 1000;

interface ServeRequest extends ObjectRequest {
  /** Below the volume: `/KEY` or `?query`. */
  readonly path: string;
  readonly isWait?: boolean;
}

export class HttpStore implements ObjectStore {
  readonly description: string;
  readonly local = false;
  readonly #options: HttpStoreOptions;
  readonly #clock: Clock;
  readonly #transport: HttpTransport;
  /** A separate transport, so that waits take no connections from reads and writes. */
  readonly #waitTransport: HttpTransport;
  readonly #root: string;
  readonly #objects = new HttpObjects({
    send: (key, request) => this.#request({ ...request, path: pathOf(key) }),
    isAbsent: ({ status }) => status === 404,
    error: (answer, doing) => this.#error(answer, doing),
  });
  #token: Promise<string | undefined> | undefined;

  /** Makes no request. */
  constructor(options: HttpStoreOptions) {
    const { origin, segments } = options;
    assert(segments.length > 0, 'a volume has a name');
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const settings = { clock: this.#clock, disk: options.disk, ...options.transport };
    this.#transport = new HttpTransport(origin, settings);
    this.#waitTransport = new HttpTransport(origin, { ...settings, idleMs: waitMaxMs + 15_000 });
    this.#root = `/${segments.join('/')}`;
    this.description = `volume ${segments.join('/')} at ${origin.host}${tlsRemark(options.transport)}`;
  }

  get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    return this.#objects.get(key, options);
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#objects.head(key);
  }

  async put(key: ObjectKey, body: ObjectBody, options: PutOptions = {}): Promise<PutOutcome> {
    const { signal } = options;
    signal?.throwIfAborted();
    const doing = `writing ${key}`;
    const headers = { 'if-none-match': '*', 'content-type': 'application/octet-stream' };
    const answer = await this.#request({ method: 'PUT', path: pathOf(key), headers, body, signal, doing });
    if (answer.status === 201) return 'created';
    if (answer.status === 412) return 'exists';
    throw this.#error(answer, doing);
  }

  list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    return listWithin(prefix, options, this.#clock, (after, budget) => this.#listPages(prefix, after, budget));
  }

  async *#listPages(prefix: string, from: string, budget: ListingBudget): AsyncGenerator<ListedObject> {
    const { doing } = budget;
    let after = from;
    for (;;) {
      budget.request();
      const path = `?list${prefix === '' ? '' : `&prefix=${prefix}`}${after === '' ? '' : `&after=${after}`}`;
      const answer = await this.#request({ method: 'GET', path, answerMax: listAnswerMax, signal: budget.signal, doing });
      if (answer.status !== 200) throw this.#error(answer, doing);
      budget.received(answer.body.byteLength);
      const page = decodePage(answer.body);
      if (!page) throw new StoreError('PROTOCOL', `${doing}: the server sends no list`);
      const before = after;
      for (const object of page.objects) {
        if (!object.key.startsWith(prefix))
          throw new StoreError('PROTOCOL', `${doing}: the server lists another prefix than the one that was asked for`);
        // A list is a hint; one that goes back would never end.
        if (object.key <= after) continue;
        after = object.key;
        budget.found();
        yield object;
      }
      if (!page.more) return;
      if (after === before) throw new StoreError('PROTOCOL', `${doing}: the server's list goes on without saying where`);
    }
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    for (let at = 0; at < keys.length; at += deleteBatch) {
      const batch = keys.slice(at, at + deleteBatch);
      const only = batch.length === 1 ? batch[0] : undefined;
      const doing = only === undefined ? `removing ${batch.length} objects` : `removing ${only}`;
      for (const key of batch) assert(isObjectKey(key), 'an object key is made of plain segments');
      const answer = await this.#request(
        only !== undefined
          ? { method: 'DELETE', path: pathOf(only), doing }
          : {
              method: 'POST',
              path: '?delete',
              headers: { 'content-type': 'application/json' },
              body: Buffer.from(JSON.stringify({ keys: batch }), 'utf8'),
              doing,
            },
      );
      if (answer.status !== 204) throw this.#error(answer, doing);
    }
  }

  async awaitObject(key: ObjectKey, options: AwaitOptions): Promise<boolean> {
    const { timeoutMs, signal } = options;
    const doing = `waiting for ${key}`;
    const endMs = this.#clock.monotonicMs() + timeoutMs;
    for (;;) {
      const startMs = this.#clock.monotonicMs();
      const wait = Math.max(0, Math.min(waitMaxMs, Math.ceil(endMs - startMs)));
      const answer = await this.#request({ method: 'HEAD', path: `${pathOf(key)}?wait=${wait}`, signal, doing, isWait: true });
      if (answer.status === 200) return true;
      if (answer.status !== 404) throw this.#error(answer, doing);
      const nowMs = this.#clock.monotonicMs();
      if (nowMs >= endMs) return false;
      // A server that does not wait must not be polled in a busy loop.
      if (nowMs - startMs < wait / 2) await this.#clock.sleep(Math.min(waitPauseMs, endMs - nowMs), signal);
    }
  }

  async close(): Promise<void> {
    await Promise.all([this.#transport.close(), this.#waitTransport.close()]);
  }

  /**
   * Looks whether the server is one and lets us in: a volume is there as soon as a token names it. Throws {@link
   * StoreError}.
   */
  async create(): Promise<void> {
    const doing = 'making the store';
    const answer = await this.#request({ method: 'GET', path: '?info', doing });
    if (answer.status !== 200) throw this.#error(answer, doing);
  }

  /**
   * One request, sent a second time when there is another token meanwhile. Answers come from a server of ours: see
   * {@link HttpStore.#require}.
   */
  async #request(request: ServeRequest): Promise<HttpAnswer> {
    request.signal?.throwIfAborted();
    const token = await this.#currentToken();
    const answer = await this.#send(request, token);
    if (answer.status !== 401) return this.#require(answer, request.doing);
    this.#token = undefined;
    const renewed = await this.#currentToken();
    if (renewed === token) return this.#require(answer, request.doing);
    return this.#require(await this.#send(request, renewed), request.doing);
  }

  /**
   * An answer of somebody else, such as a proxy that knows no such path, says nothing about objects, which
   * must not be called absent then.
   */
  #require(answer: HttpAnswer, doing: string): HttpAnswer {
    if (answer.headers['sealdrive'] === '1' || answer.status >= 500 || [401, 403, 407, 408, 429].includes(answer.status)) return answer;
    const { status } = answer;
    const where = status >= 300 && status < 400 ? 'redirects to another address: write that one' : 'is no "sealdrive serve"';
    throw new StoreError('NOT_A_STORE', `${doing}: what answers at ${this.#transport.host} ${where} (status ${status})`);
  }

  #currentToken(): Promise<string | undefined> {
    const token = (this.#token ??= this.#options.loadToken());
    token.catch(() => {
      if (this.#token === token) this.#token = undefined;
    });
    return token;
  }

  #send({ path, isWait, ...request }: ServeRequest, token: string | undefined): Promise<HttpAnswer> {
    const transport = isWait === true ? this.#waitTransport : this.#transport;
    const headers = { ...(token === undefined ? {} : { authorization: `Bearer ${token}` }), ...request.headers };
    return transport.request({ ...request, target: this.#root + path, headers });
  }

  #error(answer: HttpAnswer, doing: string): StoreError {
    const { status } = answer;
    const details = `status ${status}`;
    if (status === 401) {
      return new StoreError(
        'DENIED',
        `${doing}: the server does not take the token, or there is none (${details}); doc/stores.md says where it is looked for`,
      );
    }
    if (status === 403) {
      if (codeOf(answer) === 'READ_ONLY') return new StoreError('READ_ONLY', `${doing}: the server takes no writes now (${details})`);
      return new StoreError('DENIED', `${doing}: the token does not permit it (${details})`);
    }
    if (status === 413)
      return new StoreError('PROTOCOL', `${doing}: the server takes no objects of this size (${details}); --object-max sets it there`);
    return statusError(answer, doing, this.#clock);
  }
}

function pathOf(key: ObjectKey): string {
  assert(isObjectKey(key), 'an object key is made of plain segments');
  return `/${key}`;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString('utf8'));
  } catch {
    return undefined;
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null;

/** The code in the body of a refusal. */
function codeOf(answer: HttpAnswer): string | undefined {
  const value = parseJson(answer.body);
  const error = isRecord(value) ? value['error'] : undefined;
  const code = isRecord(error) ? error['code'] : undefined;
  return typeof code === 'string' ? code : undefined;
}

function decodePage(body: Uint8Array): { readonly objects: ListedObject[]; readonly more: boolean } | undefined {
  const value = parseJson(body);
  if (!isRecord(value) || !Array.isArray(value['objects']) || typeof value['more'] !== 'boolean') return undefined;
  const objects: ListedObject[] = [];
  for (const entry of value['objects'] as readonly unknown[]) {
    if (!Array.isArray(entry)) return undefined;
    const [key, size] = entry as readonly unknown[];
    // Foreign names are left out, as from any other store.
    if (typeof key !== 'string' || !isObjectKey(key)) continue;
    objects.push({ key, size: typeof size === 'number' && Number.isSafeInteger(size) && size >= 0 ? size : undefined });
  }
  return { objects, more: value['more'] };
}

const example = 'https://host[:port]/VOLUME?token-file=/path';
const credentialName = 'sealdrive-token';

/**
 * The volume of a server that an `https:` URL names (`http:` on this machine only: a token is as good as a password);
 * no request is made. Throws {@link StoreLocationError} and {@link StoreError}.
 */
export async function openHttpStore(location: string, options: OpenRemoteOptions): Promise<HttpStore> {
  const { url, parameters } = parseLocation(location, example, [...transportParameterNames, 'token-file']);
  const wrong = (what: string): StoreLocationError => new StoreLocationError('MALFORMED', `${what} (write ${example})`);
  const segments = pathSegments(url, example);
  if (url.protocol === 'http:' && !/^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(url.hostname)) {
    throw wrong('plain http: goes to this machine only, since anybody could listen: use https:');
  }
  if (segments.length === 0 || !segments.every((segment) => /^[0-9A-Za-z._~-]+$/.test(segment))) throw wrong('the URL names no volume');
  const given = parameters['token-file'];
  const tokenPath = given?.startsWith('~/') ? join(options.home, given.slice(2)) : given;
  // A daemon leaves the working directory, and reads the file when it needs it.
  if (tokenPath !== undefined && !isAbsolute(tokenPath)) throw wrong('the token file needs its whole path');
  return new HttpStore({
    origin: new URL(url.origin),
    segments,
    loadToken: () => loadToken(url.host, tokenPath, options),
    disk: options.disk,
    ...(options.clock ? { clock: options.clock } : {}),
    transport: await readTransportSettings(parameters, new URL(url.origin), options, example),
  });
}

/**
 * From the file that the URL names, else the systemd credential, else a netrc file. Throws {@link StoreError} `DENIED`.
 */
async function loadToken(host: string, path: string | undefined, { env, home }: OpenRemoteOptions): Promise<string | undefined> {
  if (path !== undefined) {
    const text = await readSecretFile(path, true);
    if (text === undefined) throw new StoreError('DENIED', `there is no token file ${path}`);
    return tokenOf(text, path);
  }
  const folder = env['CREDENTIALS_DIRECTORY'];
  if (folder) {
    const credential = join(folder, credentialName);
    const text = await readSecretFile(credential, false);
    if (text !== undefined) return tokenOf(text, credential);
  }
  const credentials = await loadHttpCredentials(host, undefined, { env, home });
  return credentials?.kind === 'bearer' ? credentials.token : undefined;
}

/** What can stand in a header (RFC 6750, 2.1). The text itself stays out of messages. */
function tokenOf(text: string, path: string): string {
  const token = text.trim();
  if (!/^[A-Za-z0-9._~+/-]{1,1000}=*$/.test(token)) throw new StoreError('DENIED', `the file ${path} does not hold one token and nothing else`);
  return token;
}
