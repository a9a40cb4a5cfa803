/**
 * A bucket in memory behind a scripted server. It follows the S3 protocol as far as a test wants, and fails as the test
 * says. It checks no signatures.
 */
import { createHash } from 'node:crypto';
import type { IncomingHttpHeaders, ServerResponse } from 'node:http';
import { md5Hex } from '../../src/store/request-digest.js';
import type { Script, ScriptedRequest } from './scripted-server.js';
import { ScriptedServer } from './scripted-server.js';

export interface BucketHabits {
  /** Of `If-None-Match: *`. */
  readonly condition: 'kept' | 'ignored' | 'refused';
  readonly ranges: boolean;
  /** Accepts uploads in parts. Default: no. */
  readonly uploads?: boolean;
  /** Keeps old versions under a default retention, and therefore refuses a body without a checksum. Default: no. */
  readonly isLocked?: boolean;
}

interface ScriptedUpload {
  readonly key: string;
  readonly initiatedMs: number;
  readonly parts: Map<number, Buffer>;
}

/** An error answer as S3 gives it. */
export function complain(answer: ServerResponse, status: number, code: string, headers: Readonly<Record<string, string>> = {}): void {
  answer.writeHead(status, { 'content-type': 'application/xml', ...headers });
  answer.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>words\nof the server</Message></Error>`);
}

/** Whether the sender named the right checksum of a body. */
function hasChecksum(headers: IncomingHttpHeaders, body: Buffer): boolean {
  const md5 = createHash('md5').update(body).digest('base64');
  const sha256 = createHash('sha256').update(body).digest('base64');
  return headers['content-md5'] === md5 || headers['x-amz-checksum-sha256'] === sha256;
}

export class ScriptedBucket {
  readonly objects = new Map<string, Buffer>();
  /** Objects that are listed but cannot be read. */
  readonly archived = new Set<string>();
  /** Uploads by id. */
  readonly uploads = new Map<string, ScriptedUpload>();
  #count = 0;
  /** Called first; true when it has answered, or withholds the answer. */
  faults: (request: ScriptedRequest, answer: ServerResponse) => boolean = () => false;
  readonly #habits: BucketHabits;

  constructor(habits: BucketHabits = { condition: 'kept', ranges: true }) {
    this.#habits = habits;
  }

  /** Called `bucket`. */
  start(): Promise<ScriptedServer> {
    return ScriptedServer.start(this.script);
  }

  readonly script: Script = (request, answer) => {
    if (this.faults(request, answer)) return;
    const url = new URL(request.target, 'http://x');
    const key = decodeURIComponent(url.pathname.slice('/bucket/'.length));
    if (this.#habits.uploads === true && this.#upload(key, url.searchParams, request, answer)) return;
    switch (request.method) {
      case 'PUT':
        return this.#put(key, request, answer);
      case 'POST':
        return complain(answer, 501, 'NotImplemented');
      case 'DELETE':
        this.objects.delete(key);
        return void answer.writeHead(204).end();
      default:
        return key === '' ? this.#list(url.searchParams, answer) : this.#get(key, request, answer);
    }
  };

  #put(key: string, { headers, body }: ScriptedRequest, answer: ServerResponse): void {
    const isConditional = headers['if-none-match'] !== undefined;
    if (isConditional && this.#habits.condition === 'refused') return complain(answer, 501, 'NotImplemented');
    if (isConditional && this.#habits.condition === 'kept' && this.objects.has(key)) return complain(answer, 412, 'PreconditionFailed');
    if (this.#habits.isLocked === true && !hasChecksum(headers, body)) return complain(answer, 400, 'InvalidRequest');
    this.objects.set(key, body);
    answer.writeHead(200, this.#habits.isLocked === true ? { 'x-amz-version-id': `v${this.#count++}` } : {}).end();
  }

  /** Returns false for other requests. */
  #upload(key: string, query: URLSearchParams, { method, headers, body }: ScriptedRequest, answer: ServerResponse): boolean {
    const id = query.get('uploadId') ?? '';
    const found = this.uploads.get(id);
    const xml = (text: string): void => void answer.writeHead(200, { 'content-type': 'application/xml' }).end(text);
    if (method === 'POST' && query.has('uploads')) {
      const begun = `upload-${this.#count++}`;
      this.uploads.set(begun, { key, initiatedMs: Date.now(), parts: new Map() });
      xml(`<InitiateMultipartUploadResult><UploadId>${begun}</UploadId></InitiateMultipartUploadResult>`);
    } else if (method === 'GET' && query.has('uploads')) {
      const entries = [...this.uploads]
        .filter(([, upload]) => upload.key.startsWith(query.get('prefix') ?? ''))
        .map(([name, upload]) => {
          const initiated = new Date(upload.initiatedMs).toISOString();
          return `<Upload><Key>${upload.key}</Key><UploadId>${name}</UploadId><Initiated>${initiated}</Initiated></Upload>`;
        });
      xml(`<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>${entries.join('')}</ListMultipartUploadsResult>`);
    } else if (!query.has('uploadId')) return false;
    else if (found?.key !== key) complain(answer, 404, 'NoSuchUpload');
    else if (method === 'PUT') {
      if (!hasChecksum(headers, body)) complain(answer, 400, 'InvalidRequest');
      else {
        found.parts.set(Number(query.get('partNumber')), body);
        answer.writeHead(200, { etag: `"${md5Hex(body)}"` }).end();
      }
    } else if (method === 'GET') {
      const parts = [...found.parts].map(
        ([number, part]) => `<Part><PartNumber>${number}</PartNumber><ETag>&quot;${md5Hex(part)}&quot;</ETag></Part>`,
      );
      xml(`<ListPartsResult>${parts.join('')}</ListPartsResult>`);
    } else if (method === 'DELETE') {
      this.uploads.delete(id);
      answer.writeHead(204).end();
    } else {
      const parts = [...found.parts].toSorted(([a], [b]) => a - b).map(([, part]) => part);
      if (parts.slice(0, -1).some((part) => part.length < 5 * 1024 * 1024)) complain(answer, 400, 'EntityTooSmall');
      else {
        this.objects.set(key, Buffer.concat(parts));
        this.uploads.delete(id);
        xml('<CompleteMultipartUploadResult></CompleteMultipartUploadResult>');
      }
    }
    return true;
  }

  #list(query: URLSearchParams, answer: ServerResponse): void {
    const names = [...this.objects.keys()].filter((name) => name.startsWith(query.get('prefix') ?? '')).toSorted();
    const later = names.filter((name) => name > (query.get('start-after') ?? ''));
    const contents = later
      .map((name) => `<Contents><Key>${name}</Key>${this.archived.has(name) ? '<StorageClass>GLACIER</StorageClass>' : ''}</Contents>`)
      .join('');
    answer.writeHead(200).end(`<ListBucketResult><IsTruncated>false</IsTruncated>${contents}</ListBucketResult>`);
  }

  #get(key: string, { method, headers }: ScriptedRequest, answer: ServerResponse): void {
    const object = this.objects.get(key);
    if (!object) return complain(answer, 404, 'NoSuchKey');
    if (method === 'GET' && this.archived.has(key)) return complain(answer, 403, 'InvalidObjectState');
    const range = /^bytes=(\d+)-(\d+)$/.exec(headers.range ?? '');
    if (!range || !this.#habits.ranges) {
      answer.writeHead(200, { 'content-length': object.length }).end(method === 'HEAD' ? undefined : object);
      return;
    }
    const part = object.subarray(Number(range[1]), Number(range[2]) + 1);
    if (part.length === 0) return complain(answer, 416, 'InvalidRange');
    const end = Number(range[1]) + part.length - 1;
    answer.writeHead(206, { 'content-range': `bytes ${range[1]}-${end}/${object.length}`, 'content-length': part.length }).end(part);
  }
}
