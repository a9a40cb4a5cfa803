/**
 * An object store in an S3 bucket, of Amazon or of anyone who speaks the protocol: own requests, own signatures, no SDK. Conditional
 * puts decide between devices (`If-None-Match: *`); where a server refuses them, a look before the put stands in, which the probe then
 * calls what it is (doc/stores.md, "S3"). Puts are single requests: packs are far below the 5 GiB that those may have.
 */
import { assert } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import { Limiter } from '../base/limiter.js';
import type { Disk } from '../disk/disk.js';
import { compareObject } from './compare-object.js';
import { bodyPieces, bodySize } from './file-body.js';
import { HttpTransport, rangeOfAnswer } from './http-transport.js';
import type { HttpAnswer, HttpRequest, HttpTransportOptions } from './http-transport.js';
import { listWithin } from './listing-budget.js';
import type { ListingBudget } from './listing-budget.js';
import { type OpenRemoteOptions, StoreLocationError, parseLocation, pathSegments } from './location-url.js';
import { StoreError, isObjectKey } from './object-store.js';
import type { GetOptions, ListedObject, ObjectBody, ObjectKey, ObjectStore, PutOutcome, StoreTraits } from './object-store.js';
import { loadProxyAuthorization } from './proxy-credentials.js';
import { md5Base64, sha256Hex, startSha256 } from './request-digest.js';
import { complaintOf, s3Error } from './s3-error.js';
import { loadAwsSettings } from './s3-credentials.js';
import type { AwsSettings } from './s3-credentials.js';
import { encodeQuery, encodeUnreserved, signRequest, unsignedPayload } from './sigv4.js';
import { readTlsParameters, tlsParameterNames, tlsRemark } from './tls-parameters.js';
import { XmlReader, childText } from './xml-answer.js';
import type { XmlNode } from './xml-answer.js';

export interface S3StoreOptions {
  readonly bucket: string;
  /** Segments before every key, joined by `/`, without one at either end; empty for none. */
  readonly prefix: string;
  /** Without a path. */
  readonly endpoint: URL;
  readonly region: string;
  /** Where the bucket's name stands: in the path, or in front of the endpoint's name. */
  readonly style: 'path' | 'virtual';
  /** Called at the first request, and again when the store says that credentials have expired. */
  readonly loadSettings: () => Promise<Pick<AwsSettings, 'credentials'>>;
  /** Reads file bodies. */
  readonly disk: Disk;
  readonly clock?: Clock;
  readonly transport?: HttpTransportOptions;
}

const defaultSizeMax = 64 * 1024 * 1024;
const listAnswerMax = 4 * 1024 * 1024;
/** Of one page; the protocol allows 1000. */
const pageEntriesMax = 10_000;
/** What the protocol allows in one request. */
const deleteBatch = 1000;
const deletesAtOnce = 8;
const uploadPieceSize = 256 * 1024;
const emptyHash = sha256Hex('');
/** More than this, and a server refuses the signature. */
const skewWorthwhileMs = 30_000;

interface S3Request {
  readonly method: string;
  /** Below the bucket; `undefined` for the bucket itself. */
  readonly key?: string | undefined;
  readonly query?: readonly (readonly [string, string])[];
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: ObjectBody | Uint8Array;
  readonly reader?: HttpRequest['reader'];
  readonly answerMax?: number;
  readonly signal?: AbortSignal | undefined;
  readonly doing: string;
}

export class S3Store implements ObjectStore {
  readonly description: string;
  readonly local = false;
  readonly #options: S3StoreOptions;
  readonly #clock: Clock;
  readonly #transport: HttpTransport;
  /** Encoded; ends in a slash. */
  readonly #bucketPath: string;
  readonly #prefix: string;
  readonly #deletes = new Limiter(deletesAtOnce);
  #settings: Promise<Pick<AwsSettings, 'credentials'>> | undefined;
  /** What the store's clock is ahead of ours by, when it told us off for the difference. */
  #skewMs = 0;
  #hasConditions = true;
  #hasBatchDelete = true;

  /** Makes no request. */
  constructor(options: S3StoreOptions) {
    const { bucket, endpoint, style, prefix } = options;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    const origin = style === 'virtual' ? new URL(`${endpoint.protocol}//${bucket}.${endpoint.host}`) : endpoint;
    this.#transport = new HttpTransport(origin, { clock: this.#clock, ...options.transport });
    this.#bucketPath = style === 'virtual' ? '/' : `/${encodeUnreserved(bucket)}/`;
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.description = `S3 bucket ${bucket}${prefix === '' ? '' : `, under ${prefix}`}, at ${endpoint.host}${tlsRemark(options.transport)}`;
  }

  /** Looks whether the bucket is there and can be listed; buckets are never made. Throws {@link StoreError}. */
  async create(): Promise<void> {
    for await (const _ of this.list('keys/')) break;
  }

  async get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    const { range, signal } = options;
    const doing = `reading ${key}`;
    if (range?.length === 0) return (await this.head(key)) === undefined ? undefined : new Uint8Array(0);
    const answer = await this.#request({
      method: 'GET',
      key: this.#fullKey(key),
      headers: range ? { range: `bytes=${range.offset}-${range.offset + range.length - 1}` } : {},
      answerMax: Math.min(options.sizeMax ?? Infinity, range?.length ?? options.sizeMax ?? defaultSizeMax),
      signal,
      doing,
    });
    if (answer.status === 200 && !range) return answer.body;
    if (range && [200, 206, 416].includes(answer.status)) return rangeOfAnswer(answer, range, doing);
    if (this.#isAbsent(answer)) return undefined;
    throw this.#error(answer, doing);
  }

  async head(key: ObjectKey): Promise<number | undefined> {
    const doing = `looking for ${key}`;
    const answer = await this.#request({ method: 'HEAD', key: this.#fullKey(key), doing });
    if (answer.status === 404) return undefined;
    if (answer.status !== 200) throw this.#error(answer, doing);
    const length = answer.headers['content-length'] ?? '';
    if (!/^\d{1,15}$/.test(length)) throw new StoreError('PROTOCOL', `${doing}: the store tells no size`);
    return Number(length);
  }

  async put(key: ObjectKey, body: ObjectBody, options: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal } = {}): Promise<PutOutcome> {
    const { signal } = options;
    const doing = `writing ${key}`;
    // No object is ever overwritten, so the condition is in every put, and costs nothing.
    const isConditional = this.#hasConditions;
    if (!isConditional && (await this.head(key)) !== undefined) return 'exists';
    const answer = await this.#request({
      method: 'PUT',
      key: this.#fullKey(key),
      headers: { 'content-type': 'application/octet-stream', ...(isConditional ? { 'if-none-match': '*' } : {}) },
      body,
      signal,
      doing,
    });
    if (answer.status === 200 || answer.status === 201 || answer.status === 204) return 'created';
    if (answer.status === 412) return 'exists';
    if (isConditional && answer.status === 501) {
      this.#hasConditions = false;
      return this.put(key, body, options);
    }
    const error = this.#error(answer, doing);
    // Losers of a race may get a conflict or an internal error, and so may those who won: what lies there decides.
    if (error.code === 'UNAVAILABLE' && (answer.status === 409 || answer.status === 500)) {
      const found = await compareObject(this, this.#options.disk, key, body, signal);
      if (found !== 'absent') return found === 'same' ? 'created' : 'exists';
    }
    throw error;
  }

  list(prefix: string, options: { readonly after?: ObjectKey; readonly signal?: AbortSignal } = {}): AsyncIterable<ListedObject> {
    assert(prefix === '' || (prefix.endsWith('/') && isObjectKey(prefix.slice(0, -1))), 'a list prefix is empty or ends in a slash');
    const doing = prefix === '' ? 'listing the store' : `listing ${prefix}`;
    return listWithin(doing, this.#clock, options.signal, (budget) => this.#listPages(prefix, options.after ?? '', doing, budget));
  }

  async *#listPages(prefix: string, after: string, doing: string, budget: ListingBudget): AsyncGenerator<ListedObject> {
    let token: string | undefined;
    let newest = after;
    do {
      const query: [string, string][] = [
        ['list-type', '2'],
        ['encoding-type', 'url'],
        ['prefix', this.#prefix + prefix],
      ];
      if (token !== undefined) query.push(['continuation-token', token]);
      else if (after !== '') query.push(['start-after', this.#prefix + after]);
      budget.request();
      const entries: XmlNode[] = [];
      const xml = new XmlReader('ListBucketResult', 'Contents', doing, (entry) => {
        if (entries.push(entry) > pageEntriesMax) throw new StoreError('PROTOCOL', `${doing}: the store's list has too long a page`);
      });
      const reader = {
        status: 200,
        write: (piece: Uint8Array): void => {
          budget.received(piece.byteLength);
          xml.write(piece);
        },
      };
      const answer = await this.#request({ method: 'GET', query, reader, answerMax: listAnswerMax, signal: budget.signal, doing });
      if (answer.status !== 200) throw this.#error(answer, doing);
      const page = xml.end();
      for (const object of this.#listedObjects(entries, childText(page, 'EncodingType') === 'url')) {
        if (!object.key.startsWith(prefix) || object.key <= after) continue;
        // Keys come in order: one that goes back may make the list endless, and pays for nothing.
        if (object.key > newest) {
          newest = object.key;
          budget.found();
        }
        yield object;
      }
      const next = childText(page, 'IsTruncated') === 'true' ? childText(page, 'NextContinuationToken') : undefined;
      if (childText(page, 'IsTruncated') === 'true' && (next === undefined || next === '' || next === token)) {
        throw new StoreError('PROTOCOL', `${doing}: the store's list goes on without saying where`);
      }
      token = next;
    } while (token !== undefined);
  }

  /** Those of a page that can be ours; foreign names are left out. */
  #listedObjects(entries: readonly XmlNode[], isEncoded: boolean): ListedObject[] {
    const objects: ListedObject[] = [];
    for (const entry of entries) {
      const name = childText(entry, 'Key') ?? '';
      const full = isEncoded ? decodeListed(name) : name;
      if (full === undefined || !full.startsWith(this.#prefix)) continue;
      const key = full.slice(this.#prefix.length);
      const size = childText(entry, 'Size') ?? '';
      if (isObjectKey(key)) objects.push({ key, size: /^\d{1,15}$/.test(size) ? Number(size) : undefined });
    }
    return objects;
  }

  async delete(keys: readonly ObjectKey[]): Promise<void> {
    for (let at = 0; at < keys.length; at += deleteBatch) {
      const batch = keys.slice(at, at + deleteBatch);
      // One is cheaper alone: its answer needs no parsing.
      if (batch.length > 1 && this.#hasBatchDelete && (await this.#deleteBatch(batch))) continue;
      await Promise.all(batch.map((key) => this.#deletes.run(() => this.#deleteOne(key))));
    }
  }

  /** False when the store knows no such request. */
  async #deleteBatch(keys: readonly ObjectKey[]): Promise<boolean> {
    const doing = `removing ${keys.length} objects`;
    // Keys are plain; the prefix may hold anything.
    const escaped = (text: string): string => text.replaceAll(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
    const names = keys.map((key) => `<Object><Key>${escaped(this.#fullKey(key))}</Key></Object>`).join('');
    const body = Buffer.from(`<?xml version="1.0" encoding="UTF-8"?><Delete><Quiet>true</Quiet>${names}</Delete>`);
    const checksum = md5Base64(body);
    // The protocol wants a checksum of this body, and older servers know this one only.
    if (checksum === undefined) return false;
    const failures: XmlNode[] = [];
    const xml = new XmlReader('DeleteResult', 'Error', doing, (failure) => {
      // One is enough to tell.
      if (failures.length === 0 && childText(failure, 'Code') !== 'NoSuchKey') failures.push(failure);
    });
    const answer = await this.#request({
      method: 'POST',
      query: [['delete', '']],
      headers: { 'content-type': 'application/xml', 'content-md5': checksum },
      body,
      reader: { status: 200, write: (piece) => xml.write(piece) },
      answerMax: listAnswerMax,
      doing,
    });
    if (
      [400, 404, 405, 501].includes(answer.status) &&
      ['', 'NotImplemented', 'MethodNotAllowed', 'MalformedXML'].includes(complaintOf(answer).code)
    ) {
      this.#hasBatchDelete = false;
      return false;
    }
    if (answer.status !== 200) throw this.#error(answer, doing);
    xml.end();
    for (const failure of failures) {
      const code = childText(failure, 'Code') ?? '';
      // As if it had been asked for alone; the answer's status says nothing about it.
      const status = code === 'AccessDenied' ? 403 : 500;
      const told = Buffer.from(`<Error><Code>${/^\w{1,64}$/.test(code) ? code : ''}</Code></Error>`);
      throw this.#error({ status, headers: {}, body: told }, doing);
    }
    return true;
  }

  async #deleteOne(key: ObjectKey): Promise<void> {
    const doing = `removing ${key}`;
    const answer = await this.#request({ method: 'DELETE', key: this.#fullKey(key), doing });
    if (answer.status !== 204 && answer.status !== 200 && !this.#isAbsent(answer)) throw this.#error(answer, doing);
  }

  traits(): Promise<StoreTraits> {
    return Promise.resolve({ batchDelete: this.#hasBatchDelete });
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }

  #fullKey(key: ObjectKey): string {
    assert(isObjectKey(key), 'an object key is made of plain segments');
    return this.#prefix + key;
  }

  /** Not there, in a bucket that is. */
  #isAbsent(answer: HttpAnswer): boolean {
    return answer.status === 404 && ['', 'NoSuchKey', 'NotFound'].includes(complaintOf(answer).code);
  }

  #error(answer: HttpAnswer, doing: string): StoreError {
    return s3Error(answer, doing, this.#clock);
  }

  /** One request, sent a second time when new credentials or the store's own time are likely to help. */
  async #request(request: S3Request): Promise<HttpAnswer> {
    request.signal?.throwIfAborted();
    const settings = await this.#currentSettings();
    const answer = await this.#send(request, settings);
    if (answer.status !== 403 && answer.status !== 400 && answer.status !== 401) return answer;
    // An answer to HEAD has no body to say why.
    const { code } = complaintOf(answer);
    if (code === 'RequestTimeTooSkewed' || code === 'RequestExpired' || (request.method === 'HEAD' && answer.status === 403)) {
      const storeMs = Date.parse(answer.headers['date'] ?? '');
      const skewMs = storeMs - this.#clock.now().sec * 1000;
      if (Number.isFinite(skewMs) && Math.abs(skewMs - this.#skewMs) > skewWorthwhileMs) {
        // The time of a signature is no secret, and a wrong one harms nobody but the store that told it.
        this.#skewMs = skewMs;
        return this.#send(request, settings);
      }
    }
    if (['ExpiredToken', 'TokenRefreshRequired', 'InvalidAccessKeyId', 'InvalidToken'].includes(code)) {
      this.#settings = undefined;
      const renewed = await this.#currentSettings();
      if (
        renewed.credentials.accessKeyId !== settings.credentials.accessKeyId ||
        renewed.credentials.sessionToken !== settings.credentials.sessionToken
      ) {
        return this.#send(request, renewed);
      }
    }
    return answer;
  }

  #currentSettings(): Promise<Pick<AwsSettings, 'credentials'>> {
    const settings = (this.#settings ??= this.#options.loadSettings());
    // What failed is tried again by the next request: someone may have written the file meanwhile.
    settings.catch(() => {
      if (this.#settings === settings) this.#settings = undefined;
    });
    return settings;
  }

  async #send(request: S3Request, settings: Pick<AwsSettings, 'credentials'>): Promise<HttpAnswer> {
    const { region, endpoint, disk } = this.#options;
    const { body } = request;
    const query = request.query ?? [];
    const path = this.#bucketPath + (request.key === undefined ? '' : request.key.split('/').map(encodeUnreserved).join('/'));
    const payloadHash =
      body === undefined ? emptyHash : endpoint.protocol === 'https:' && !(body instanceof Uint8Array) ? unsignedPayload : await this.#hash(body);
    const { host, ...headers } = signRequest(
      {
        method: request.method,
        path,
        query,
        headers: { host: this.#transport.host, 'x-amz-content-sha256': payloadHash, ...request.headers },
        payloadHash,
      },
      { credentials: settings.credentials, region, service: 's3', timeSec: Math.floor((this.#clock.now().sec * 1000 + this.#skewMs) / 1000) },
    );
    assert(host === this.#transport.host, 'the signature is for the host that gets the request');
    return this.#transport.request({
      method: request.method,
      target: query.length === 0 ? path : `${path}?${encodeQuery(query)}`,
      headers,
      ...(body === undefined
        ? {}
        : { body: body instanceof Uint8Array ? body : bodyPieces(disk, body, uploadPieceSize), bodySize: bodySize(body as ObjectBody) }),
      reader: request.reader,
      answerMax: request.answerMax ?? 64 * 1024,
      signal: request.signal,
      doing: request.doing,
    });
  }

  async #hash(body: ObjectBody | Uint8Array): Promise<string> {
    if (body instanceof Uint8Array) return sha256Hex(body);
    const hash = startSha256();
    for await (const piece of bodyPieces(this.#options.disk, body, uploadPieceSize)) hash.update(piece);
    return hash.finish();
  }
}

/** A name as `encoding-type=url` writes it: some servers write a space as `+`. */
function decodeListed(name: string): string | undefined {
  try {
    return decodeURIComponent(name.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}

const s3Example = 's3://bucket/prefix?endpoint=https://host&region=REGION&style=path&profile=NAME';

/** The store that an `s3:` URL names; no request is made: a drive mounts without a network. Throws {@link StoreLocationError} and {@link StoreError}. */
export async function openS3Store(location: string, options: OpenRemoteOptions): Promise<S3Store> {
  const { env, home } = options;
  const { url, parameters } = parseLocation(location, s3Example, ['endpoint', 'region', 'style', 'profile', ...tlsParameterNames]);
  const wrong = (what: string): StoreLocationError => new StoreLocationError('MALFORMED', `${what} (write ${s3Example})`);
  if (url.port !== '') throw wrong('the endpoint of an S3 store stands after endpoint=');
  const sources = { env, home, profile: parameters['profile'] };
  const settings = await loadAwsSettings(sources);
  const region = parameters['region'] ?? settings.region ?? 'us-east-1';
  if (!/^[a-z0-9-]{1,40}$/.test(region)) throw wrong('this is no region');
  const given = parameters['endpoint'] ?? settings.endpoint;
  let endpoint: URL;
  try {
    endpoint = new URL(given ?? `https://s3.${region}.amazonaws.com`);
  } catch {
    throw wrong('the endpoint is no URL');
  }
  if (!['http:', 'https:'].includes(endpoint.protocol) || endpoint.pathname !== '/' || endpoint.search !== '' || endpoint.username !== '') {
    throw wrong('the endpoint is an address such as https://host:port');
  }
  // Amazon's certificates cover one label before its name.
  const style = parameters['style'] ?? (given === undefined && !url.hostname.includes('.') ? 'virtual' : 'path');
  if (style !== 'path' && style !== 'virtual') throw wrong('the style is path or virtual');
  const proxyAuthorization = await loadProxyAuthorization(endpoint, { env, home });
  return new S3Store({
    bucket: url.hostname,
    prefix: pathSegments(url, s3Example).join('/'),
    endpoint,
    region,
    style,
    loadSettings: () => loadAwsSettings(sources),
    disk: options.disk,
    ...(options.clock ? { clock: options.clock } : {}),
    transport: {
      env,
      proxyAuthorization,
      bandwidth: options.bandwidth,
      ...(await readTlsParameters(parameters, endpoint, s3Example)),
    },
  });
}
