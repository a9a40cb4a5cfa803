/**
 * Large bodies in parts (S3's multipart uploads), so that a link that is cut, or a machine that dies, loses a part and
 * not the whole. The store keeps what has arrived: nothing is written down here, and whoever puts the same body under
 * the same key later (a pack after a restart) asks for it and sends the rest. A part counts as arrived when the store
 * names the MD5 of its bytes. Only bodies whose key nobody else writes go this way; entries of the log never do
 * (doc/stores.md, "Large objects").
 *
 * Parts go one after the other: on a link that is cut every few seconds one that is whole is worth more than four that
 * are not. An attempt that fails says whether anything arrived, and whoever repeats it (retrying-store.ts) has patience
 * for as long as something does.
 */
import type { Clock } from '../base/clock.js';
import type { Disk } from '../disk/disk.js';
import { bodySize, readBodyPart } from './file-body.js';
import type { HttpAnswer } from './http-transport.js';
import type { ObjectBody, ObjectKey } from './object-store.js';
import { isObjectKey, StoreError } from './object-store.js';
import { md5Hex } from './request-digest.js';
import type { S3Bucket, S3Request } from './s3-bucket.js';
import { complaintOf, s3Error } from './s3-error.js';
import type { XmlNode } from './xml-answer.js';
import { childText, isNode, tryParseXml, XmlReader } from './xml-answer.js';

/** The least that all servers take for a part that is not the last; all but the last must be of one size for some. */
const partSize = 5 * 1024 * 1024;
/** Smaller bodies are sent whole: two parts would be the least, and three requests more. */
const partedMin = 8 * 1024 * 1024;
/** Below a store's prefix, where its large objects lie. */
const partedPrefix = 'packs/';
const listAnswerMax = 4 * 1024 * 1024;
/** Of uploads that others left behind in one bucket; what lies beyond is found another day. */
const listPagesMax = 20;
/** An upload this old, by the store's own clock, is abandoned: its device would begin a new one. */
const staleMs = 24 * 60 * 60 * 1000;

export interface S3UploadsOptions {
  readonly bucket: S3Bucket;
  /** Before every key. */
  readonly prefix: string;
  readonly disk: Disk;
  readonly clock: Clock;
}

interface Part {
  readonly etag: string;
  /** Sent by this process; of others it is not known yet that they are of this body. */
  readonly isOurs: boolean;
}

interface Upload {
  readonly id: string;
  /** Parts that have arrived, by their numbers; `undefined`: the store was not asked yet. */
  parts: Map<number, Part> | undefined;
}

/** `unsupported`: the store takes no uploads in parts, or not this one: it is sent whole. */
export type UploadOutcome = 'created' | 'exists' | 'gone' | 'unsupported';

export class S3Uploads {
  readonly #options: S3UploadsOptions;
  /** Uploads that were begun and not ended, by their keys. */
  readonly #begun = new Map<ObjectKey, Upload>();
  /** Keys of which the store may have an upload that we do not know: the answer to its beginning was lost. */
  readonly #uncertain = new Set<ObjectKey>();
  #surveyed: Promise<void> | undefined;
  #works: boolean | undefined;

  constructor(options: S3UploadsOptions) {
    this.#options = options;
  }

  /** Whether the store takes uploads in parts; `undefined`: it was not tried yet. */
  get works(): boolean | undefined {
    return this.#works;
  }

  /** Whether a body is sent in parts. */
  isFor(key: ObjectKey, body: ObjectBody): boolean {
    // Without MD5 it would not be known what has arrived.
    return this.#works !== false && key.startsWith(partedPrefix) && bodySize(body) > partedMin && md5Hex(new Uint8Array(0)) !== undefined;
  }

  /**
   * Sends what the store does not have of `body` yet, and puts it together under `key`. `gone`: the store knows no such
   * upload (any more), and the object may be there. Throws {@link StoreError}; with `UNAVAILABLE` what arrived is used
   * by the next call.
   */
  async put(key: ObjectKey, body: ObjectBody, headers: Readonly<Record<string, string>>, signal: AbortSignal | undefined): Promise<UploadOutcome> {
    const { disk } = this.#options;
    const doing = `writing ${key}`;
    await this.#survey(signal);
    const upload = await this.#begin(key, signal);
    if (!upload) return 'unsupported';
    const etags: string[] = [];
    let arrived = 0;
    try {
      upload.parts ??= await this.#partsOf(key, upload.id, signal);
      const size = bodySize(body);
      for (let number = 1, offset = 0; offset < size || number === 1; number++, offset += partSize) {
        const part = await readBodyPart(disk, body, offset, Math.min(partSize, size - offset));
        const known = upload.parts.get(number);
        if (known === undefined || (!known.isOurs && known.etag !== md5Hex(part))) {
          const query: [string, string][] = [
            ['partNumber', String(number)],
            ['uploadId', upload.id],
          ];
          const answer = await this.#send({
            method: 'PUT',
            key: this.#options.prefix + key,
            query,
            body: part,
            signal,
            doing: `${doing}, part ${number}`,
          });
          if (isGone(answer)) return this.#forget(key);
          const etag = answer.headers['etag']?.replaceAll('"', '') ?? '';
          if (answer.status !== 200 || !/^[\x21-\x7e]{1,200}$/.test(etag)) throw this.#error(answer, `${doing}, part ${number}`);
          upload.parts.set(number, { etag, isOurs: true });
          arrived++;
        }
        etags.push(upload.parts.get(number)?.etag ?? '');
      }
      return await this.#complete(key, upload.id, etags, headers, signal);
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'UNAVAILABLE' || arrived === 0) throw error;
      throw new StoreError(error.code, error.message, { cause: error.cause, retryAfterMs: error.retryAfterMs, isProgress: true });
    }
  }

  async #complete(
    key: ObjectKey,
    id: string,
    etags: readonly string[],
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<UploadOutcome> {
    const doing = `writing ${key}, putting its parts together`;
    const parts = etags.map((etag, index) => `<Part><PartNumber>${index + 1}</PartNumber><ETag>&quot;${escapeXml(etag)}&quot;</ETag></Part>`);
    const answer = await this.#send({
      method: 'POST',
      key: this.#options.prefix + key,
      query: [['uploadId', id]],
      headers: { 'content-type': 'application/xml', ...headers },
      body: Buffer.from(`<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${parts.join('')}</CompleteMultipartUpload>`),
      signal,
      doing,
    });
    // It takes its time, and may find out after it has begun to answer that it fails: then there is an error in an
    // answer that says "200".
    const { code } = complaintOf(answer);
    if (answer.status === 200 && code === '' && tryParseXml(answer.body)?.['Error'] === undefined) {
      this.#begun.delete(key);
      if (this.#uncertain.delete(key)) await this.#abortOthers(key, signal);
      return 'created';
    }
    if (isGone(answer)) return this.#forget(key);
    if (answer.status === 412 || code === 'PreconditionFailed') {
      await this.#abort(key, id);
      return 'exists';
    }
    if (answer.status === 409) {
      // The loser of a race has to begin again.
      await this.#abort(key, id);
      throw new StoreError('UNAVAILABLE', `${doing}: somebody else writes it (${code}, status 409)`);
    }
    if (answer.status === 501 && headers['if-none-match'] !== undefined) {
      return this.#complete(key, id, etags, {}, signal);
    }
    const error = this.#error(answer.status === 200 ? { ...answer, status: 500 } : answer, doing);
    if (error.code !== 'PROTOCOL') throw error;
    // Its parts are too small for it, of no use, or something else is wrong with the way: the whole is put in one
    // piece.
    await this.#abort(key, id);
    this.#works = false;
    return 'unsupported';
  }

  /** The upload to go on with; `undefined` when the store takes none. */
  async #begin(key: ObjectKey, signal: AbortSignal | undefined): Promise<Upload | undefined> {
    const known = this.#begun.get(key) ?? (this.#uncertain.has(key) ? (await this.#find(key, signal))[0] : undefined);
    if (known) {
      this.#begun.set(key, known);
      return known;
    }
    const doing = `writing ${key}, beginning its upload`;
    // Until there is an answer the store may have an upload of which nobody knows.
    this.#uncertain.add(key);
    const answer = await this.#send({
      method: 'POST',
      key: this.#options.prefix + key,
      query: [['uploads', '']],
      headers: { 'content-type': 'application/octet-stream' },
      signal,
      doing,
    });
    if (answer.status === 200) {
      const id = begunUpload(answer);
      this.#uncertain.delete(key);
      // A server that knows no such request may answer as if it were another one.
      if (!isUploadId(id)) {
        this.#works = false;
        return undefined;
      }
      const upload = { id, parts: new Map<number, Part>() };
      this.#begun.set(key, upload);
      this.#works = true;
      return upload;
    }
    this.#uncertain.delete(key);
    const error = this.#error(answer, doing);
    // A policy may permit plain puts only. The put of the whole body reports anything else that is wrong.
    if (error.code !== 'PROTOCOL' && complaintOf(answer).code !== 'AccessDenied' && !isGone(answer)) throw error;
    this.#works = false;
    return undefined;
  }

  /**
   * Once for a store that is written to: which uploads an earlier run left, and an end for those that nobody finishes.
   * A store that cannot list them is used without.
   */
  #survey(signal: AbortSignal | undefined): Promise<void> {
    const surveyed = (this.#surveyed ??= this.#listAll(signal));
    surveyed.catch(() => {
      if (this.#surveyed === surveyed) this.#surveyed = undefined;
    });
    return surveyed;
  }

  async #listAll(signal: AbortSignal | undefined): Promise<void> {
    for (const { key, id, ageMs } of await this.#listUploads(this.#options.prefix + partedPrefix, signal)) {
      if (ageMs > staleMs) await this.#abort(key, id);
      // The newest one, of several for one key: the others end when it does.
      else {
        if (this.#begun.has(key)) this.#uncertain.add(key);
        this.#begun.set(key, { id, parts: undefined });
      }
    }
  }

  async #find(key: ObjectKey, signal: AbortSignal | undefined): Promise<Upload[]> {
    const uploads = await this.#listUploads(this.#options.prefix + key, signal);
    return uploads.filter((upload) => upload.key === key).map(({ id }) => ({ id, parts: undefined }));
  }

  /** What a lost answer left behind. */
  async #abortOthers(key: ObjectKey, signal: AbortSignal | undefined): Promise<void> {
    for (const { id } of await this.#find(key, signal).catch(() => [])) await this.#abort(key, id);
  }

  /** Uploads of keys that begin with `prefix`, oldest first for one key. None where the store does not tell. */
  async #listUploads(
    prefix: string,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly key: ObjectKey; readonly id: string; readonly ageMs: number }[]> {
    const doing = 'looking for uploads that were cut off';
    const found: { readonly key: ObjectKey; readonly id: string; readonly ageMs: number }[] = [];
    let marker: readonly [string, string][] = [];
    for (let pages = 0; pages < listPagesMax; pages++) {
      const query: [string, string][] = [['uploads', ''], ['prefix', prefix], ...marker];
      const answer = await this.#send({ method: 'GET', query, answerMax: listAnswerMax, signal, doing });
      if (answer.status !== 200) {
        const error = this.#error(answer, doing);
        if (error.code === 'UNAVAILABLE') throw error;
        return found;
      }
      const listed = readPage(answer, 'ListMultipartUploadsResult', 'Upload', doing);
      if (!listed) return found;
      const { page, records } = listed;
      const storeMs = Date.parse(answer.headers['date'] ?? '');
      for (const entry of records) {
        const full = childText(entry, 'Key') ?? '';
        const key = full.slice(this.#options.prefix.length);
        const id = childText(entry, 'UploadId') ?? '';
        const ageMs = storeMs - Date.parse(childText(entry, 'Initiated') ?? '');
        if (full.startsWith(this.#options.prefix) && isObjectKey(key) && isUploadId(id)) found.push({ key, id, ageMs });
      }
      const [nextKey, nextId] = [childText(page, 'NextKeyMarker') ?? '', childText(page, 'NextUploadIdMarker') ?? ''];
      if (childText(page, 'IsTruncated') !== 'true' || nextKey === '') break;
      marker = [
        ['key-marker', nextKey],
        ['upload-id-marker', nextId],
      ];
    }
    return found.toSorted((a, b) => b.ageMs - a.ageMs);
  }

  /**
   * MD5s of the parts that have arrived, as the store names them: a store that encrypts them otherwise names something
   * else, and gets them again.
   */
  async #partsOf(key: ObjectKey, id: string, signal: AbortSignal | undefined): Promise<Map<number, Part>> {
    const doing = `writing ${key}, asking what has arrived`;
    const query: [string, string][] = [['uploadId', id]];
    const answer = await this.#send({ method: 'GET', key: this.#options.prefix + key, query, answerMax: listAnswerMax, signal, doing });
    const parts = new Map<number, Part>();
    if (answer.status !== 200) {
      const error = this.#error(answer, doing);
      if (error.code === 'UNAVAILABLE') throw error;
      return parts;
    }
    for (const entry of readPage(answer, 'ListPartsResult', 'Part', doing)?.records ?? []) {
      const etag = (childText(entry, 'ETag') ?? '').replaceAll(/"|&quot;/g, '');
      const number = Number(childText(entry, 'PartNumber'));
      if (Number.isSafeInteger(number) && /^[0-9a-f]{32}$/.test(etag)) parts.set(number, { etag, isOurs: false });
    }
    return parts;
  }

  /**
   * Nobody needs it: what has arrived takes room in the store. One that stays behind all the same is found when it is
   * old.
   */
  async #abort(key: ObjectKey, id: string): Promise<void> {
    if (this.#begun.get(key)?.id === id) this.#begun.delete(key);
    const doing = `giving up the upload of ${key}`;
    try {
      await this.#send({ method: 'DELETE', key: this.#options.prefix + key, query: [['uploadId', id]], doing });
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
    }
  }

  #forget(key: ObjectKey): 'gone' {
    this.#begun.delete(key);
    return 'gone';
  }

  #send(request: S3Request): Promise<HttpAnswer> {
    return this.#options.bucket.request(request);
  }

  #error(answer: HttpAnswer, doing: string): StoreError {
    return s3Error(answer, doing, this.#options.clock);
  }
}

interface Page {
  /** All but the records. */
  readonly page: XmlNode;
  readonly records: readonly XmlNode[];
}

/** The document called `name`, and its children called `record`; `undefined`: it is something else. */
function readPage(answer: HttpAnswer, name: string, record: string, doing: string): Page | undefined {
  const records: XmlNode[] = [];
  const xml = new XmlReader(name, record, doing, (one) => void records.push(one));
  try {
    xml.write(answer.body);
    return { page: xml.end(), records };
  } catch (error) {
    if (error instanceof StoreError) return undefined;
    throw error;
  }
}

/** The upload that a store says it has begun; empty when it says something else. */
function begunUpload(answer: HttpAnswer): string {
  const begun = tryParseXml(answer.body)?.['InitiateMultipartUploadResult'];
  return (isNode(begun) ? childText(begun, 'UploadId') : undefined) ?? '';
}

const isUploadId = (id: string): boolean => /^[\x21-\x7e]{1,1024}$/.test(id);
const isGone = (answer: HttpAnswer): boolean => answer.status === 404 && ['', 'NoSuchUpload', 'NoSuchKey'].includes(complaintOf(answer).code);
const escapeXml = (text: string): string => text.replaceAll(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
