/**
 * An object store in an S3 bucket, at Amazon or any server that speaks the protocol: own requests, own signatures, no
 * SDK. Conditional puts (`If-None-Match: *`) decide between devices; where a server refuses them, a look before the put
 * takes their place, and the probe reports that (doc/stores.md, "S3"). Small bodies are single requests; large ones go
 * in parts (s3-upload.ts).
 */
import { assert } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import { Limiter } from '../base/limiter.js';
import { compareObject } from './compare-object.js';
import { HttpObjects } from './http-objects.js';
import type { HttpAnswer } from './http-transport.js';
import type { ListingBudget } from './listing-budget.js';
import { listWithin } from './listing-budget.js';
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
import type { S3BucketOptions, S3Request } from './s3-bucket.js';
import { S3Bucket } from './s3-bucket.js';
import { complaintOf, s3Error } from './s3-error.js';
import { S3Uploads } from './s3-upload.js';
import { tlsRemark } from './transport-settings.js';
import type { XmlNode } from './xml-answer.js';
import { childText, XmlReader } from './xml-answer.js';

export interface S3StoreOptions extends S3BucketOptions {
  /** Segments before every key, joined by `/`, without one at either end; empty for none. */
  readonly prefix: string;
  readonly clock?: Clock;
}

const listAnswerMax = 4 * 1024 * 1024;
/** Of one page; the protocol allows 1000. */
const pageEntriesMax = 10_000;
/** What the protocol allows in one request. */
const deleteBatch = 1000;
const deletesAtOnce = 8;
/**
 * Classes of storage whose objects have to be restored before they are read; other classes with "GLACIER" in their
 * names are read at once.
 */
const archives: ReadonlySet<string> = new Set(['GLACIER', 'DEEP_ARCHIVE']);

export class S3Store implements ObjectStore {
  readonly description: string;
  readonly local = false;
  readonly #options: S3StoreOptions;
  readonly #clock: Clock;
  readonly #bucket: S3Bucket;
  readonly #prefix: string;
  readonly #deletes = new Limiter(deletesAtOnce);
  readonly #objects = new HttpObjects({
    send: async (key, request) => {
      const answer = await this.#request({ ...request, key: this.#fullKey(key) });
      this.#noteRetention(answer);
      return answer;
    },
    isAbsent: (answer) => this.#isAbsent(answer),
    error: (answer, doing) => this.#error(answer, doing),
  });
  #hasConditions = true;
  #hasBatchDelete = true;
  #keepsVersions = false;
  #retentionHours: number | undefined;
  readonly #uploads: S3Uploads;

  /** Makes no request. */
  constructor(options: S3StoreOptions) {
    const { bucket, prefix } = options;
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#bucket = new S3Bucket(options, this.#clock);
    this.#prefix = prefix === '' ? '' : `${prefix}/`;
    this.#uploads = new S3Uploads({ bucket: this.#bucket, prefix: this.#prefix, disk: options.disk, clock: this.#clock });
    this.description = `S3 bucket ${bucket}${prefix === '' ? '' : `, under ${prefix}`}, at ${this.#bucket.place}${tlsRemark(options.transport)}`;
  }

  /** Looks whether the bucket is there and can be listed; buckets are never made. Throws {@link StoreError}. */
  async create(): Promise<void> {
    for await (const _ of this.list('keys/')) break;
  }

  get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    return this.#objects.get(key, options);
  }

  head(key: ObjectKey): Promise<number | undefined> {
    return this.#objects.head(key);
  }

  async put(key: ObjectKey, body: ObjectBody, options: PutOptions = {}): Promise<PutOutcome> {
    const { signal } = options;
    const doing = `writing ${key}`;
    if (options.inParts === true || this.#uploads.isFor(key, body)) {
      const outcome = await this.#putInParts(key, body, signal);
      if (outcome !== undefined) return outcome;
    }
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
    if (answer.status === 200 || answer.status === 201 || answer.status === 204) {
      // A bucket whose versioning was never begun, or is suspended, names none.
      this.#keepsVersions ||= !['null', undefined].includes(answer.headers['x-amz-version-id']);
      return 'created';
    }
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

  /** `undefined`: the store does not take it this way. */
  async #putInParts(key: ObjectKey, body: ObjectBody, signal: AbortSignal | undefined): Promise<PutOutcome | undefined> {
    // One that arrived whole before a crash need not be sent to hear so.
    if ((await this.head(key)) !== undefined) return 'exists';
    const headers: Record<string, string> = this.#hasConditions ? { 'if-none-match': '*' } : {};
    for (let tries = 0; tries < 2; tries++) {
      const outcome = await this.#uploads.put(key, body, headers, signal);
      if (outcome === 'created' || outcome === 'exists') return outcome;
      if (outcome === 'unsupported') return undefined;
      // Given up by somebody, or put together by an attempt whose answer was lost.
      const found = await compareObject(this, this.#options.disk, key, body, signal);
      if (found !== 'absent') return found === 'same' ? 'created' : 'exists';
    }
    return undefined;
  }

  list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    return listWithin(prefix, options, this.#clock, (after, budget) => this.#listPages(prefix, after, budget));
  }

  async *#listPages(prefix: string, after: string, budget: ListingBudget): AsyncGenerator<ListedObject> {
    const { doing } = budget;
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
      const isEncoded = childText(page, 'EncodingType') === 'url';
      this.#requirePrefix(childText(page, 'Prefix') ?? '', prefix, isEncoded, doing);
      for (const object of this.#listedObjects(entries, prefix, isEncoded, doing)) {
        if (object.key <= after) continue;
        // Keys come in order: one that goes back may make the list endless, and pays for nothing.
        if (object.key > newest) {
          newest = object.key;
          budget.found();
        }
        yield object;
      }
      token = nextToken(page, token, doing);
    } while (token !== undefined);
  }

  /**
   * Those of a page that can be ours; foreign names are left out. Names outside of the prefix belong to another list:
   * throws {@link StoreError} `PROTOCOL`.
   */
  #listedObjects(entries: readonly XmlNode[], prefix: string, isEncoded: boolean, doing: string): ListedObject[] {
    const objects: ListedObject[] = [];
    for (const entry of entries) {
      const full = readListed(childText(entry, 'Key') ?? '', isEncoded, (name) => name.startsWith(this.#prefix + prefix));
      if (full === undefined) throw strayList(doing);
      const key = full.slice(this.#prefix.length);
      const size = childText(entry, 'Size') ?? '';
      const isArchived = archives.has(childText(entry, 'StorageClass') ?? '');
      if (isObjectKey(key)) objects.push({ key, size: /^\d{1,15}$/.test(size) ? Number(size) : undefined, ...(isArchived ? { isArchived } : {}) });
    }
    return objects;
  }

  /** Some services repeat the prefix of the list, which is how an empty list of another prefix is noticed. */
  #requirePrefix(repeated: string, prefix: string, isEncoded: boolean, doing: string): void {
    if (repeated === '') return;
    if (readListed(repeated, isEncoded, (name) => name === this.#prefix + prefix) === undefined) throw strayList(doing);
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
    const failures: XmlNode[] = [];
    const xml = new XmlReader('DeleteResult', 'Error', doing, (failure) => {
      // One is enough to tell.
      if (failures.length === 0 && childText(failure, 'Code') !== 'NoSuchKey') failures.push(failure);
    });
    const answer = await this.#request({
      method: 'POST',
      query: [['delete', '']],
      headers: { 'content-type': 'application/xml' },
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
    return Promise.resolve({
      batchDelete: this.#hasBatchDelete,
      resumablePuts: this.#uploads.works,
      keepsVersions: this.#keepsVersions,
      retentionHours: this.#retentionHours,
    });
  }

  /** How long a new object is retained; only clients with the right to know see the header. */
  #noteRetention({ headers }: HttpAnswer): void {
    const keptMs = Date.parse(headers['x-amz-object-lock-retain-until-date'] ?? '') - Date.parse(headers['last-modified'] ?? '');
    if (keptMs > 0) this.#retentionHours = Math.max(1, Math.round(keptMs / 3_600_000));
  }

  async close(): Promise<void> {
    await this.#bucket.close();
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

  #request(request: S3Request): Promise<HttpAnswer> {
    return this.#bucket.request(request);
  }
}

/**
 * Where the list goes on; `undefined` at its end. Throws {@link StoreError} `PROTOCOL` when it goes on without saying
 * where.
 */
function nextToken(page: XmlNode, token: string | undefined, doing: string): string | undefined {
  const next = childText(page, 'NextContinuationToken') ?? '';
  const isTruncated = childText(page, 'IsTruncated')?.toLowerCase() ?? String(next !== '');
  if (isTruncated === 'false') return undefined;
  if (isTruncated !== 'true' || next === '' || next === token) {
    throw new StoreError('PROTOCOL', `${doing}: the store's list goes on without saying where`);
  }
  return next;
}

const strayList = (doing: string): StoreError =>
  new StoreError(
    'PROTOCOL',
    `${doing}: the store lists another prefix than the one that was asked for: does a gateway or proxy on the way change the names of objects?`,
  );

/**
 * A listed name as it `fits`, decoded or as it stands, since some servers do not write names as they say; `undefined`
 * when neither fits.
 */
function readListed(name: string, isEncoded: boolean, fits: (name: string) => boolean): string | undefined {
  const decoded = decodeListed(name);
  return (isEncoded ? [decoded, name] : [name, decoded]).find((one) => one !== undefined && fits(one));
}

/** A name as `encoding-type=url` writes it: some servers write a space as `+`. */
function decodeListed(name: string): string | undefined {
  try {
    return decodeURIComponent(name.replaceAll('+', ' '));
  } catch {
    return undefined;
  }
}
