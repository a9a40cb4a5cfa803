/**
 * HTTP as the remote stores use it: one origin, with bounds on time, memory and connections. It never follows a
 * redirect, so that credentials reach only the server that they are for. It does not retry (retrying-store.ts does) and
 * does not interpret statuses (each store does); it throws {@link StoreError} (doc/stores.md, "Over the network").
 */
import { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { Agent, EnvHttpProxyAgent, errors } from 'undici';
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Bandwidth } from '../base/rate-limit.js';
import type { Disk } from '../disk/disk.js';
import { bodyPieces, bodySize } from './file-body.js';
import type { FileBody } from './object-store.js';
import { StoreError } from './object-store.js';

export interface HttpTransportOptions {
  /** Environment variables: only those that name proxies are looked at. Default: no proxies. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** What a proxy is told who we are with: the value of `Proxy-Authorization`. Default: what the proxy's URL says. */
  readonly proxyAuthorization?: string | undefined;
  /** Certificates (PEM) of authorities to trust instead of the system's. */
  readonly authorities?: string;
  /**
   * The certificate of the server is not looked at: anybody in between can be it. Default: it is verified, whatever the
   * environment says.
   */
  readonly isUnverified?: boolean;
  readonly clock?: Clock;
  /** Reads bodies that are files. */
  readonly disk?: Disk;
  /** Time to connect. Default: 10 seconds. */
  readonly connectMs?: number;
  /**
   * From the end of the request to the answer's headers, and between two pieces of a body in either direction. Default:
   * 30 seconds.
   */
  readonly idleMs?: number;
  /** Connections at once. Default: 64. */
  readonly connectionsMax?: number;
  /** What bodies, in both directions, wait for. Default: nothing. */
  readonly bandwidth?: Bandwidth | undefined;
}

export interface HttpRequest {
  readonly method: string;
  /** Path and query, encoded. */
  readonly target: string;
  /** Lower-case names. */
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array | FileBody | undefined;
  /**
   * Takes the bodies of answers with this status piece by piece, as they arrive; the answer then has an empty one. What
   * it throws ends the request.
   */
  readonly reader?: { readonly status: number; write(piece: Uint8Array): void } | undefined;
  /**
   * A longer body of a successful answer is refused as `PROTOCOL`. Default: 64 KiB, where bodies of other answers are
   * cut.
   */
  readonly answerMax?: number;
  readonly signal?: AbortSignal | undefined;
  /** What is being done, for the message of an error: `reading keys/x`. */
  readonly doing: string;
}

export interface HttpAnswer {
  readonly status: number;
  /** Lower-case names; of repeated headers the values joined by commas. */
  readonly headers: Readonly<Record<string, string>>;
  /** Owned by the caller. */
  readonly body: Uint8Array;
}

const answerMaxDefault = 64 * 1024;
/**
 * Nobody sends slower than this for good: an attempt may last a minute, and longer by what its bytes take at this rate.
 */
const bytesPerMsMin = 8;
const attemptMs = 60_000;
/** Larger bodies are sent in pieces of this size, so that a slow link is told from one that hangs. */
const pieceSize = 256 * 1024;
/** The same where there is a limit. */
const limitedPieceSize = 64 * 1024;
/**
 * Bodies up to this size are counted and never held back: whether the store answers at all must not depend on what is
 * being moved.
 */
const smallBodyMax = 16 * 1024;

/** How long one request was held back by limits, the wait that is under way included. */
class Holding {
  readonly #clock: Clock;
  #endedMs = 0;
  #sinceMs: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get totalMs(): number {
    return this.#endedMs + (this.#sinceMs === undefined ? 0 : this.#clock.monotonicMs() - this.#sinceMs);
  }

  /** One at a time: a body goes in one direction. */
  async wait(turn: Promise<void> | undefined): Promise<void> {
    if (!turn) return;
    this.#sinceMs = this.#clock.monotonicMs();
    try {
      await turn;
    } finally {
      this.#endedMs = this.totalMs;
      this.#sinceMs = undefined;
    }
  }
}

export class HttpTransport {
  readonly #origin: string;
  readonly #host: string;
  readonly #dispatcher: Dispatcher;
  readonly #clock: Clock;
  readonly #bandwidth: Bandwidth | undefined;
  readonly #disk: Disk | undefined;
  /** Of the proxy for this origin, unless `no_proxy` leads past it. */
  readonly #proxy: { readonly url: URL; readonly hasCredentials: boolean } | undefined;

  /** `origin`: `https://host:port`. */
  constructor(origin: URL, options: HttpTransportOptions = {}) {
    this.#origin = origin.origin;
    this.#host = origin.host;
    this.#clock = options.clock ?? systemClock;
    this.#bandwidth = options.bandwidth;
    this.#disk = options.disk;
    const { env = {}, authorities, isUnverified = false, connectMs = 10_000, idleMs = 30_000, connectionsMax = 64 } = options;
    // Said, because the defaults are the environment's to change (NODE_TLS_REJECT_UNAUTHORIZED, --tls-min-v1.0).
    const verified = { rejectUnauthorized: true, minVersion: 'TLSv1.2' } as const;
    const tls = { ...verified, rejectUnauthorized: !isUnverified, ...(authorities === undefined ? {} : { ca: authorities }) };
    const settings = {
      connections: connectionsMax,
      pipelining: 1,
      headersTimeout: idleMs,
      bodyTimeout: idleMs,
      // Longer than the pauses between two polls, shorter than what common servers keep.
      keepAliveTimeout: 15_000,
      connect: { timeout: connectMs, ...tls },
    };
    const url = proxyFor(origin, env);
    const { proxyAuthorization } = options;
    this.#proxy = url && { url, hasCredentials: proxyAuthorization !== undefined || url.username !== '' };
    this.#dispatcher = url
      ? new EnvHttpProxyAgent({
          ...settings,
          requestTls: tls,
          // The proxy is another party, and gets credentials of its own.
          proxyTls: verified,
          httpProxy: url.href,
          httpsProxy: url.href,
          noProxy: env['no_proxy'] ?? env['NO_PROXY'] ?? '',
          ...(proxyAuthorization === undefined ? {} : { token: proxyAuthorization }),
        })
      : new Agent(settings);
  }

  /** `host:port` as it stands in the host header. */
  get host(): string {
    return this.#host;
  }

  /** Sends one request and reads its answer whole. Throws {@link StoreError}, or the reason of `signal`. */
  async request(request: HttpRequest): Promise<HttpAnswer> {
    request.signal?.throwIfAborted();
    const stop = new AbortController();
    const onAbort = (): void => stop.abort(request.signal?.reason);
    request.signal?.addEventListener('abort', onAbort, { once: true });
    const size = request.body ? bodySize(request.body) : 0;
    const limitMs = attemptMs + (size + (request.method === 'HEAD' ? 0 : (request.answerMax ?? answerMaxDefault))) / bytesPerMsMin;
    const done = new AbortController();
    const held = new Holding(this.#clock);
    void this.#outlast(limitMs, held, done.signal).then(
      () => stop.abort(new StoreError('UNAVAILABLE', `${request.doing}: ${this.#host} is too slow`)),
      () => {},
    );
    try {
      return await this.#exchange(request, size, held, stop.signal);
    } catch (error) {
      if (request.signal?.aborted) throw request.signal.reason as Error;
      throw this.#explain(error, request.doing);
    } finally {
      request.signal?.removeEventListener('abort', onAbort);
      done.abort(new Error('done'));
    }
  }

  /** Resolves after `limitMs`, to which is added what was held back meanwhile: that is not the server's fault. */
  async #outlast(limitMs: number, held: Holding, signal: AbortSignal): Promise<void> {
    let countedMs = 0;
    for (let leftMs = limitMs; leftMs > 0; ) {
      await this.#clock.sleep(leftMs, signal);
      const { totalMs } = held;
      leftMs = totalMs - countedMs;
      countedMs = totalMs;
    }
  }

  /**
   * The body as undici takes it: small ones whole, others in pieces that wait for their turn where there is a limit.
   */
  #outgoing(body: Uint8Array | FileBody, held: Holding, signal: AbortSignal): Uint8Array | Readable {
    const size = bodySize(body);
    const upload = this.#bandwidth?.upload;
    const isLimited = upload?.bytesPerSecond !== undefined;
    if (body instanceof Uint8Array && size <= (isLimited ? smallBodyMax : pieceSize)) {
      upload?.charge(size);
      return body;
    }
    // An iterable body of no bytes would be sent in chunks.
    if (size === 0) return new Uint8Array(0);
    const pieces = bodyPieces(this.#disk, body, isLimited ? limitedPieceSize : pieceSize);
    const inTurn = async function* (): AsyncGenerator<Uint8Array> {
      for await (const piece of pieces) {
        await held.wait(upload?.take(piece.byteLength, signal));
        yield piece;
      }
    };
    return Readable.from(inTurn(), { objectMode: false });
  }

  async #exchange(request: HttpRequest, size: number, held: Holding, signal: AbortSignal): Promise<HttpAnswer> {
    const headers: Record<string, string> = { 'user-agent': 'sealdrive', ...request.headers };
    if (request.body) headers['content-length'] = String(size);
    const answer: Dispatcher.ResponseData = await this.#dispatcher.request({
      origin: this.#origin,
      path: request.target,
      method: request.method,
      headers,
      body: request.body ? this.#outgoing(request.body, held, signal) : null,
      signal,
    });
    const { statusCode, body } = answer;
    // Giving a body up makes it fail, and nobody else listens.
    body.on('error', () => {});
    const isSuccess = statusCode >= 200 && statusCode < 300;
    const plain: Record<string, string> = {};
    for (const [name, value] of Object.entries(answer.headers)) {
      if (value !== undefined) plain[name] = Array.isArray(value) ? value.join(', ') : value;
    }
    const declared = /^\d{1,15}$/.test(plain['content-length'] ?? '') ? Number(plain['content-length']) : undefined;
    const bytesMax = isSuccess ? (request.answerMax ?? answerMaxDefault) : answerMaxDefault;
    if (request.method === 'HEAD') {
      await body.dump();
      return { status: statusCode, headers: plain, body: new Uint8Array(0) };
    }
    const parts: Uint8Array[] = [];
    let received = 0;
    const tooLong = (): StoreError =>
      new StoreError('PROTOCOL', `${request.doing}: ${this.#host} sends ${declared ?? 'too many'} bytes, at most ${bytesMax} are expected`);
    if (isSuccess && declared !== undefined && declared > bytesMax) {
      body.destroy();
      throw tooLong();
    }
    // Known lengths are read into one buffer of that size.
    const { reader } = request;
    const isStreamed = reader?.status === statusCode;
    const whole = isSuccess && declared !== undefined && !isStreamed ? Buffer.allocUnsafeSlow(declared) : undefined;
    for await (const piece of body as AsyncIterable<Buffer>) {
      if (received + piece.byteLength > bytesMax) {
        body.destroy();
        if (isSuccess) throw tooLong();
        parts.push(piece.subarray(0, bytesMax - received));
        break;
      }
      if (isStreamed) reader?.write(piece);
      else if (whole && received + piece.byteLength <= whole.byteLength) whole.set(piece, received);
      else parts.push(piece);
      received += piece.byteLength;
      // Not asking for more makes the server wait, too.
      if (!this.#bandwidth) continue;
      if (received <= smallBodyMax) this.#bandwidth.download.charge(piece.byteLength);
      else await held.wait(this.#bandwidth.download.take(piece.byteLength, signal));
    }
    if (whole && received !== whole.byteLength) {
      throw new StoreError('UNAVAILABLE', `${request.doing}: ${this.#host} announced ${declared} bytes and sent ${received}`);
    }
    return { status: statusCode, headers: plain, body: whole ?? Buffer.concat(parts) };
  }

  #explain(error: unknown, doing: string): StoreError {
    if (error instanceof StoreError) return error;
    const code = codeOf(error);
    // A broken invariant must not be blamed on the network.
    if (code === undefined) throw error;
    const ofProxy = this.#explainProxy(error, code, doing);
    if (ofProxy) return ofProxy;
    const [reason, isFinal] = networkReason(code, this.#host) ?? [`${this.#host} cannot be used: ${describeError(error)}`, false];
    return new StoreError('UNAVAILABLE', `${doing}: ${reason}`, { cause: error, ...(isFinal ? { retryAfterMs: Infinity } : {}) });
  }

  /** Failures that the proxy is to blame for. */
  #explainProxy(error: unknown, code: string, doing: string): StoreError | undefined {
    if (!this.#proxy || !(error instanceof Error)) return undefined;
    const { url, hasCredentials } = this.#proxy;
    const status = code === 'UND_ERR_ABORTED' ? /^Proxy response \((\d{3})\)/.exec(error.message)?.[1] : undefined;
    if (status === '407') return proxyWantsCredentials(url.host, hasCredentials, doing, error);
    if (status !== undefined) {
      const reason = `the proxy ${url.host} refuses to lead to ${this.#host} (status ${status})`;
      return new StoreError('UNAVAILABLE', `${doing}: ${reason}`, { cause: error });
    }
    const place = error as { readonly port?: unknown; readonly hostname?: unknown };
    if (place.port !== Number(url.port || (url.protocol === 'https:' ? 443 : 80)) && place.hostname !== url.hostname) return undefined;
    const [reason] = networkReason(code, `the proxy ${url.host}`) ?? [`the proxy ${url.host} cannot be used: ${describeError(error)}`];
    return new StoreError('UNAVAILABLE', `${doing}: ${reason}`, { cause: error });
  }

  async close(): Promise<void> {
    // Nobody waits any more for the requests under way.
    await this.#dispatcher.destroy();
  }
}

type Environment = NonNullable<HttpTransportOptions['env']>;

/** The proxy that the environment names for `origin`. Throws {@link StoreError} when it is none. */
export function proxyFor(origin: URL, env: Environment): URL | undefined {
  const plain = env['http_proxy'] ?? env['HTTP_PROXY'];
  const text = origin.protocol === 'https:' ? (env['https_proxy'] ?? env['HTTPS_PROXY'] ?? plain) : plain;
  if (!text) return undefined;
  let url: URL | undefined;
  try {
    url = new URL(text.includes('://') ? text : `http://${text}`);
  } catch {
    // The text stays out of the message: it may hold a password.
  }
  if (url && (url.protocol === 'http:' || url.protocol === 'https:')) return url;
  throw new StoreError('UNAVAILABLE', 'the proxy in http_proxy or https_proxy is no address such as http://host:port', { retryAfterMs: Infinity });
}

function proxyWantsCredentials(host: string, hasCredentials: boolean, doing: string, cause: unknown): StoreError {
  const reason = hasCredentials
    ? `the proxy ${host} does not take these credentials`
    : `the proxy ${host} wants credentials: write "machine ${host} login NAME password SECRET" into a netrc file (doc/stores.md says where)`;
  return new StoreError('DENIED', `${doing}: ${reason}`, { cause });
}

function codeOf(error: unknown): string | undefined {
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    if ('code' in at && typeof at.code === 'string') return at.code;
    if (at instanceof AggregateError) {
      const inner = codeOf(at.errors[0]);
      if (inner !== undefined) return inner;
    }
  }
  // The parser's error may have a meaningless code.
  if (error instanceof errors.HTTPParserError) return 'HPE_INVALID';
  return error instanceof errors.UndiciError ? error.name : undefined;
}

/** The reason in words, and whether retrying at once is of no use. */
function networkReason(code: string, host: string): readonly [reason: string, isFinal: boolean] | undefined {
  switch (code) {
    case 'ENOTFOUND':
      return [`there is no host ${host}; is its name right, and is this machine online?`, true];
    case 'EAI_AGAIN':
      return [`the name of ${host} cannot be resolved now; is this machine online?`, false];
    case 'ECONNREFUSED':
      return [`${host} refuses connections`, false];
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
    case 'ENETDOWN':
      return [`there is no way to ${host} now; is this machine online?`, false];
    case 'UND_ERR_CONNECT_TIMEOUT':
    case 'ETIMEDOUT':
      return [`${host} does not answer`, false];
    case 'UND_ERR_HEADERS_TIMEOUT':
    case 'UND_ERR_BODY_TIMEOUT':
      return [`${host} stopped answering`, false];
    case 'UND_ERR_SOCKET':
    case 'ECONNRESET':
    case 'EPIPE':
      return [`${host} cut the connection`, false];
    case 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH':
      return [`${host} sends another length than it announced`, false];
    case 'UND_ERR_HEADERS_OVERFLOW':
      return [`${host} sends too many headers`, true];
    case 'CERT_HAS_EXPIRED':
      return [`the certificate of ${host} has expired (or this machine's clock is wrong)`, true];
    case 'CERT_NOT_YET_VALID':
      return [`the certificate of ${host} is not valid yet (or this machine's clock is wrong)`, true];
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
      return [`the certificate of ${host} is for another name`, true];
    case 'DEPTH_ZERO_SELF_SIGNED_CERT':
    case 'SELF_SIGNED_CERT_IN_CHAIN':
    case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
    case 'UNABLE_TO_GET_ISSUER_CERT':
    case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
      return [`the certificate of ${host} was made by nobody whom this machine trusts; name your own authority with ca=FILE`, true];
    default:
      if (code.startsWith('HPE_')) return [`${host} does not speak HTTP`, true];
      if (code.startsWith('CERT_')) return [`the certificate of ${host} is not accepted (${code})`, true];
      if (code.startsWith('ERR_SSL_') || code === 'EPROTO') return [`no secure connection to ${host} comes about (${code})`, true];
      return undefined;
  }
}
