/**
 * A bucket in memory behind a scripted server, that keeps to the S3 protocol as far as a test wants it to, and answers with the weather that the
 * test makes. It checks no signatures.
 */
import type { ServerResponse } from 'node:http';
import { ScriptedServer } from './scripted-server.js';
import type { Script, ScriptedRequest } from './scripted-server.js';

export interface BucketHabits {
  /** Of `If-None-Match: *`. */
  readonly condition: 'kept' | 'ignored' | 'refused';
  readonly ranges: boolean;
}

/** An error answer as S3 gives it. */
export function complain(answer: ServerResponse, status: number, code: string, headers: Readonly<Record<string, string>> = {}): void {
  answer.writeHead(status, { 'content-type': 'application/xml', ...headers });
  answer.end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>words\nof the server</Message></Error>`);
}

export class ScriptedBucket {
  readonly objects = new Map<string, Buffer>();
  /** Asked first; true: it has answered, or means not to. */
  weather: (request: ScriptedRequest, answer: ServerResponse) => boolean = () => false;
  readonly #habits: BucketHabits;

  constructor(habits: BucketHabits = { condition: 'kept', ranges: true }) {
    this.#habits = habits;
  }

  /** Called `bucket`. */
  start(): Promise<ScriptedServer> {
    return ScriptedServer.start(this.script);
  }

  readonly script: Script = (request, answer) => {
    if (this.weather(request, answer)) return;
    const url = new URL(request.target, 'http://x');
    const key = decodeURIComponent(url.pathname.slice('/bucket/'.length));
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
    this.objects.set(key, body);
    answer.writeHead(200).end();
  }

  #list(query: URLSearchParams, answer: ServerResponse): void {
    const names = [...this.objects.keys()].filter((name) => name.startsWith(query.get('prefix') ?? '')).toSorted();
    const later = names.filter((name) => name > (query.get('start-after') ?? ''));
    const contents = later.map((name) => `<Contents><Key>${name}</Key></Contents>`).join('');
    answer.writeHead(200).end(`<ListBucketResult><IsTruncated>false</IsTruncated>${contents}</ListBucketResult>`);
  }

  #get(key: string, { method, headers }: ScriptedRequest, answer: ServerResponse): void {
    const object = this.objects.get(key);
    if (!object) return complain(answer, 404, 'NoSuchKey');
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
