/**
 * The server: connections, tokens, limits and shutdown (doc/server.md). Unknown clients get little, and known ones are
 * limited too. The operations are in volume-operations.ts; node:http parses, strictly.
 */

import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer as createHttpServer } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { createServer as createHttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import type { Clock } from '../base/clock.js';
import { CodedError, describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { ObjectStore } from '../store/object-store.js';
import type { Connection } from './connections.js';
import { Connections } from './connections.js';
import { Exchange, lingerMs } from './exchange.js';
import { LineBudget } from './line-budget.js';
import type { WaitOutcome } from './object-waiters.js';
import { ObjectWaiters } from './object-waiters.js';
import { PieceBuffers } from './piece-buffers.js';
import { Places, takePlace } from './places.js';
import { Refusal, refusalOf } from './refusal.js';
import { keyClass, parseTarget } from './request-target.js';
import { ServerError } from './server-error.js';
import { ServerMetrics } from './server-metrics.js';
import type { Grant, TokenTable } from './token-file.js';
import type { UploadFolder } from './upload.js';
import { CutUpload } from './upload.js';
import { operationOf, VolumeOperations, waitOf } from './volume-operations.js';
import { VolumeUsage } from './volume-usage.js';

export interface ServerLimits {
  /** Bytes of an object. Default: 256 MiB. */
  readonly objectMax?: number;
  /** At once. Default: 256, and half of that for one token. */
  readonly requestsMax?: number;
  readonly requestsPerTokenMax?: number;
  /** At once. Default: 4096, and 64 for one token. */
  readonly waitersMax?: number;
  readonly waitersPerTokenMax?: number;
  /** Connections that have shown no valid token. Default: 1024, and 128 from one address. */
  readonly strangersMax?: number;
  readonly strangersPerAddressMax?: number;
  /** Requests that a client may send before it has the answer to the first of them. Default: 16. */
  readonly pipelinedMax?: number;
  /**
   * Bytes of uploads under way, by what they announce. Default: 16 objects of the largest size, and 4 for one token.
   */
  readonly uploadingMax?: number;
  readonly uploadingPerTokenMax?: number;
  /** For the head of a request. Default: 10 seconds. */
  readonly headMs?: number;
  /** What a request may take besides its bytes. Default: a minute. */
  readonly graceMs?: number;
}

export interface Certificate {
  /** PEM, both. */
  readonly cert: string;
  readonly key: string;
}

/** What is said of a request in the access log. */
export type AccessEntry = Readonly<Record<string, string | number | boolean>>;

export interface ObjectServerOptions {
  /** Closed by the caller, after {@link ObjectServer.stop}. */
  readonly base: ObjectStore;
  readonly tokens: TokenTable;
  readonly uploads: UploadFolder;
  readonly clock: Clock;
  readonly logger: Logger;
  /** `port` 0: any that is free. */
  readonly listen: { readonly host: string; readonly port: number };
  /** Without it: plain HTTP. */
  readonly certificate?: Certificate | undefined;
  /** Whether the last address of `x-forwarded-for` is the client's. */
  readonly isBehindProxy?: boolean;
  /** Between two looks into the base for what is waited for; 0: never. */
  readonly pollMs: number;
  /** Of volumes without a quota of their own, in bytes. */
  readonly quota?: number | undefined;
  /** Bytes free where the base lies. */
  readonly freeSpace?: (() => Promise<number>) | undefined;
  readonly limits?: ServerLimits;
  readonly onAccess?: (entry: AccessEntry) => void;
}

/** Nobody is so slow for good. */
const bytesPerMsMin = 8;
const checkMs = 1000;
/** Longer than what clients and proxies keep idle connections, so that they close them. */
const keepAliveMs = 75_000;
/** What one token may have open besides its requests and waiters: clients keep some connections for later. */
const idlePerTokenMax = 64;
const idleMax = 256;

export class ObjectServer {
  readonly metrics = new ServerMetrics();
  readonly #options: ObjectServerOptions;
  readonly #server: Server;
  readonly #tls: TlsServer | undefined;
  readonly #operations: VolumeOperations;
  readonly #waiters: ObjectWaiters;
  readonly #requestPlaces: Places;
  readonly #waiterPlaces: Places;
  readonly #graceMs: number;
  readonly #pipelinedMax: number;
  readonly #connections: Connections;
  readonly #exchanges = new Set<Exchange>();
  readonly #lines: LineBudget;
  #isStopping = false;
  #wasCut = false;
  #expiry: NodeJS.Timeout | undefined;

  private constructor(options: ObjectServerOptions) {
    const { base, clock, logger, limits = {}, tokens, quota } = options;
    const { objectMax = 256 * 1024 * 1024, requestsMax = 256, waitersMax = 4096, headMs = 10_000 } = limits;
    this.#options = options;
    this.#graceMs = limits.graceMs ?? 60_000;
    this.#pipelinedMax = limits.pipelinedMax ?? 16;
    this.#lines = new LineBudget(clock);
    const { requestsPerTokenMax = Math.ceil(requestsMax / 2), waitersPerTokenMax = 64, strangersMax = 1024 } = limits;
    this.#requestPlaces = new Places(requestsMax, requestsPerTokenMax);
    this.#waiterPlaces = new Places(waitersMax, waitersPerTokenMax);
    this.#connections = new Connections(
      {
        strangersMax,
        // A proxy is one address for all who come through it, and has bounds of its own.
        strangersPerPartyMax: options.isBehindProxy === true ? strangersMax : (limits.strangersPerAddressMax ?? 128),
        knownMax: requestsMax + waitersMax + idleMax,
        knownPerTokenMax: requestsPerTokenMax + waitersPerTokenMax + idlePerTokenMax,
        strangerMs: headMs + lingerMs,
        idleMs: keepAliveMs + headMs,
      },
      () => clock.monotonicMs(),
      (who) => this.metrics.add('sealdrive_dropped_connections_total', 1, { who }),
    );
    this.#waiters = new ObjectWaiters(base, { clock, logger, pollMs: options.pollMs });
    const usage = new VolumeUsage(base, { clock, logger });
    for (const volume of tokens.volumes) if ((tokens.quotaOf(volume) ?? quota) !== undefined) usage.prepare(volume);
    const { uploads, freeSpace } = options;
    this.#operations = new VolumeOperations({
      base,
      uploads,
      buffers: new PieceBuffers(),
      waiters: this.#waiters,
      usage,
      objectMax,
      uploading: new Places(limits.uploadingMax ?? 16 * objectMax, limits.uploadingPerTokenMax ?? 4 * objectMax),
      quota,
      freeSpace,
    });
    const settings = {
      maxHeaderSize: 8192,
      headersTimeout: headMs,
      // Bodies have a pace to keep instead: see #expire.
      requestTimeout: 0,
      keepAliveTimeout: keepAliveMs,
      connectionsCheckingInterval: Math.min(checkMs, headMs),
      insecureHTTPParser: false,
      noDelay: true,
    };
    if (options.certificate) {
      const tls = createHttpsServer({ ...settings, ...options.certificate, minVersion: 'TLSv1.2', handshakeTimeout: headMs });
      tls.on('tlsClientError', () => this.metrics.add('sealdrive_malformed_total'));
      this.#tls = tls;
      this.#server = tls;
    } else this.#server = createHttpServer(settings);
    const server = this.#server;
    server.maxHeadersCount = 64;
    server.on('connection', (socket: Socket) => this.#connections.admit(socket));
    // Now, while the connection is sure to be known by its address.
    server.on('secureConnection', (socket: Socket) => void this.#connections.of(socket));
    server.on('request', (request, response) => this.#accept(request, response, false));
    server.on('checkContinue', (request, response) => this.#accept(request, response, true));
    server.on('checkExpectation', (request, response) => this.#accept(request, response, false));
    server.on('clientError', (error: Error, socket: Socket) => this.#sendAway(error, socket));
  }

  /** Throws {@link ServerError}. */
  static async start(options: ObjectServerOptions): Promise<ObjectServer> {
    if (options.certificate) checkCertificate(options.certificate);
    const server = new ObjectServer(options);
    const { host, port } = options.listen;
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', (error) => {
        reject(new ServerError('LISTEN', `${host} port ${port} cannot be listened on: ${describeError(error)}`, { cause: error }));
      });
      server.#server.listen({ host, port }, resolve);
    });
    server.#expiry = setInterval(() => server.#expire(), checkMs);
    server.#expiry.unref();
    return server;
  }

  /** The port that is listened on. */
  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  /** For new connections. Throws {@link ServerError} `TLS` for one that cannot be used; the old one stays. */
  setCertificate(certificate: Certificate): void {
    checkCertificate(certificate);
    this.#tls?.setSecureContext({ ...certificate, minVersion: 'TLSv1.2' });
  }

  /** Brings the values that are no counts up to date. */
  measure(): ServerMetrics {
    const { metrics } = this;
    metrics.set('sealdrive_requests', this.#requestPlaces.count);
    metrics.set('sealdrive_waiters', this.#waiterPlaces.count);
    metrics.set('sealdrive_connections', this.#connections.count);
    metrics.set('sealdrive_strangers', this.#connections.strangerCount);
    metrics.set('sealdrive_tokens', this.#options.tokens.size);
    const { user, system } = process.cpuUsage();
    metrics.set('process_resident_memory_bytes', process.memoryUsage.rss());
    metrics.set('process_cpu_seconds_total', (user + system) / 1e6);
    return metrics;
  }

  /**
   * Takes no more connections, sends waiters away, and resolves when all requests are answered, or were cut after
   * `timeoutMs`; true: none was cut.
   */
  async stop(timeoutMs: number): Promise<boolean> {
    this.#isStopping = true;
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#waiters.stop();
    this.#server.closeIdleConnections();
    const timer = setTimeout(() => this.cut(), timeoutMs);
    // A connection that is between two requests, or never sent one, keeps nobody waiting.
    const sweep = setInterval(() => {
      if (this.#exchanges.size === 0) this.cut();
    }, 50);
    await closed;
    clearTimeout(timer);
    clearInterval(sweep);
    clearInterval(this.#expiry);
    return !this.#wasCut;
  }

  /** Ends all connections, whatever they are in the middle of. */
  cut(): void {
    this.#wasCut ||= this.#exchanges.size > 0;
    this.#connections.destroyAll();
  }

  /**
   * Requests of a connection are done one after the other. While one waits for its turn nothing more is read, and those
   * that have come have a bound.
   */
  #accept(request: IncomingMessage, response: ServerResponse, awaitsContinue: boolean): void {
    const { socket } = request;
    const connection = this.#connections.of(socket);
    if (!connection) {
      socket.destroy();
      return;
    }
    if (connection.isDoubtful) return;
    if (++connection.requestCount > this.#pipelinedMax) {
      this.metrics.add('sealdrive_malformed_total');
      connection.destroy();
      return;
    }
    if (connection.requestCount > 1) hold(socket, connection);
    connection.tail = connection.tail.then(async () => {
      if (!connection.isDoubtful && !socket.destroyed) await this.#serve(request, response, awaitsContinue, connection);
      connection.requestCount--;
      connection.idleSinceMs = this.#options.clock.monotonicMs();
      if (connection.requestCount === 1) socket.resume();
    });
  }

  /** Resolves when the answer has left, or nobody is there to take it; never rejects. */
  async #serve(request: IncomingMessage, response: ServerResponse, awaitsContinue: boolean, connection: Connection): Promise<void> {
    const exchange = new Exchange(request, response, this.#options.clock.monotonicMs(), awaitsContinue);
    this.#exchanges.add(exchange);
    response.setHeader('sealdrive', '1');
    response.setHeader('cache-control', 'no-store');
    if (this.#isStopping) response.shouldKeepAlive = false;
    const closed = new Promise<void>((resolve) => {
      response.on('close', () => {
        this.#exchanges.delete(exchange);
        this.#note(exchange);
        // An answer that was begun before the stop promised to keep the connection.
        if (this.#isStopping) request.socket.destroySoon();
        resolve();
      });
    });
    try {
      await this.#handle(exchange, connection);
    } catch (error) {
      if (this.#fail(exchange, error)) connection.isDoubtful = true;
    }
    await closed;
  }

  async #handle(exchange: Exchange, connection: Connection): Promise<void> {
    const { request } = exchange;
    const { tokens } = this.#options;
    const authorize = async (): Promise<Grant> => {
      const grant = await tokens.authorize(request.headers.authorization);
      if (!grant) throw new Refusal('NO_TOKEN', 'no valid token');
      return grant;
    };
    // Before anything else is looked at: a client without a token learns nothing.
    const grant = await authorize();
    const name = grant.tokenId;
    exchange.tokenId = name;
    this.#connections.recognize(connection, name);
    const target = parseTarget(request.url ?? '');
    if (!target || hasHeaderTwice(request)) throw new Refusal('BAD_REQUEST', 'no request of ours');
    if (!/^(100-continue)?$/i.test(request.headers.expect ?? '')) throw new Refusal('EXPECTATION', 'what is expected is not known');
    if (target.volume !== grant.volume) throw new Refusal('FORBIDDEN', 'the token is for another volume');
    exchange.volume = target.volume;
    exchange.keyClass = target.key === undefined ? undefined : keyClass(target.key);
    const operation = operationOf(request.method ?? '', target);
    exchange.operation = operation;
    exchange.patienceMs = waitOf(target);
    takePlace(this.#requestPlaces, name);
    let isPlaced = true;
    const leave = (): void => {
      if (isPlaced) this.#requestPlaces.give(name);
      isPlaced = false;
    };
    /** Waits in a place for those who wait. Its end may come at once for many, who then have no bounds but these. */
    const rest = async (wait: () => Promise<WaitOutcome>): Promise<WaitOutcome> => {
      takePlace(this.#waiterPlaces, name);
      leave();
      try {
        const outcome = await wait();
        if (outcome === 'there') this.metrics.add('sealdrive_woken_total');
        return outcome;
      } finally {
        this.#waiterPlaces.give(name);
      }
    };
    const confirm = async (): Promise<void> => {
      const now = await authorize();
      if (now.volume !== grant.volume || now.right !== grant.right) throw new Refusal('NO_TOKEN', 'the token was changed');
    };
    try {
      await this.#operations.run(operation, exchange, target, grant, rest, confirm);
    } finally {
      leave();
    }
  }

  /** Answers with why it failed; true: the connection is not to be used any more. */
  #fail(exchange: Exchange, error: unknown): boolean {
    const { request } = exchange;
    if (error instanceof CutUpload) {
      request.destroy();
      return true;
    }
    const refusal = refusalOf(error);
    const cause = refusal.cause;
    if (refusal.code === 'DEFECT') {
      if (this.#lines.take('defect'))
        this.#options.logger.error('defect', { reason: describeError(cause), stack: cause instanceof Error ? cause.stack : undefined });
    } else if (cause instanceof CodedError) {
      this.metrics.add('sealdrive_base_failures_total', 1, { code: cause.code });
      if (this.#lines.take('base'))
        this.#options.logger.warn('the base store failed', { operation: exchange.operation, code: cause.code, reason: describeError(cause) });
    }
    // A client without a token is not read from any longer.
    const isLast = ['NO_TOKEN', 'STOPPING', 'BAD_REQUEST', 'LENGTH_REQUIRED', 'METHOD', 'EXPECTATION'].includes(refusal.code);
    const headers = {
      ...(refusal.code === 'NO_TOKEN' ? { 'www-authenticate': 'Bearer realm="sealdrive"' } : {}),
      ...(refusal.code === 'METHOD' ? { allow: 'GET, HEAD, PUT, DELETE, POST' } : {}),
      ...(isLast ? { connection: 'close' } : {}),
    };
    exchange.refuse(refusal, headers);
    return isLast;
  }

  /** Cuts what is too slow: in either direction, and whatever it waits for. */
  #expire(): void {
    this.#connections.expire();
    const nowMs = this.#options.clock.monotonicMs();
    for (const exchange of this.#exchanges) {
      const graceMs = this.#graceMs + exchange.patienceMs;
      if (exchange.silentMs(nowMs) <= graceMs && nowMs - exchange.startMs <= graceMs + exchange.moved / bytesPerMsMin) continue;
      this.metrics.add('sealdrive_expired_total');
      exchange.request.destroy();
    }
  }

  /** What came is no request. In the middle of an answer to another one nothing can be said about it. */
  #sendAway(error: Error, socket: Socket): void {
    this.metrics.add('sealdrive_malformed_total');
    const code = 'code' in error ? error.code : undefined;
    const isBusy = [...this.#exchanges].some(({ request }) => request.socket === socket);
    if (isBusy || !socket.writable || code === 'ECONNRESET') {
      socket.destroy();
      return;
    }
    const status =
      code === 'HPE_HEADER_OVERFLOW'
        ? '431 Request Header Fields Too Large'
        : code === 'ERR_HTTP_REQUEST_TIMEOUT'
          ? '408 Request Timeout'
          : '400 Bad Request';
    socket.end(`HTTP/1.1 ${status}\r\nsealdrive: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`);
    socket.destroySoon();
  }

  #note(exchange: Exchange): void {
    const { request, response, operation } = exchange;
    const isCut = !response.writableFinished;
    const status = response.headersSent ? response.statusCode : 0;
    const tookMs = this.#options.clock.monotonicMs() - exchange.startMs;
    const bytesIn = request.complete ? (exchange.bodySize ?? 0) : 0;
    this.metrics.add('sealdrive_requests_total', 1, { operation, status: isCut ? 'cut' : status });
    if (exchange.patienceMs === 0) this.metrics.add('sealdrive_request_seconds_total', tookMs / 1000, { operation });
    if (operation === 'put' && status === 201) this.metrics.add('sealdrive_received_bytes_total', bytesIn);
    this.metrics.add('sealdrive_sent_bytes_total', exchange.bytesOut);
    const { onAccess } = this.#options;
    if (!onAccess) return;
    // What was asked for and is there, or is looked for, is told always; what was refused only within bounds.
    const isRefused = status < 200 || (status >= 400 && ![404, 409, 412].includes(status));
    if (isRefused && !this.#lines.take(exchange.tokenId ?? 'stranger')) return;
    const withheld = this.#lines.takeWithheld();
    const method = ['GET', 'HEAD', 'PUT', 'POST', 'DELETE'].includes(request.method ?? '') ? (request.method ?? '') : 'OTHER';
    onAccess({
      time: new Date().toISOString(),
      ...exchange.remote(this.#options.isBehindProxy === true),
      ...(exchange.tokenId === undefined ? {} : { token: exchange.tokenId }),
      ...(exchange.volume === undefined ? {} : { volume: exchange.volume }),
      method,
      operation,
      ...(exchange.keyClass === undefined ? {} : { class: exchange.keyClass }),
      ...(exchange.patienceMs === 0 ? {} : { wait: true }),
      status,
      in: bytesIn,
      out: exchange.bytesOut,
      ms: Math.round(tookMs * 10) / 10,
      ...(isCut ? { cut: true } : {}),
      ...(withheld > 0 ? { withheld } : {}),
    });
  }
}

/**
 * Reads nothing more from the connection until one request at most is left on it, whoever else wants it read meanwhile.
 */
function hold(socket: Socket, connection: Connection): void {
  if (connection.isHeld) return;
  connection.isHeld = true;
  const holdOn = (): void => {
    if (connection.requestCount > 1) socket.pause();
    else {
      connection.isHeld = false;
      socket.off('resume', holdOn);
    }
  };
  socket.on('resume', holdOn);
  socket.pause();
}

/** Of these node:http takes the first, and something in front of us perhaps the last. */
const singleHeaders = new Set(['host', 'authorization', 'range', 'if-none-match', 'expect', 'content-encoding']);

function hasHeaderTwice({ rawHeaders }: IncomingMessage): boolean {
  const seen = new Set<string>();
  for (const [index, header] of rawHeaders.entries()) {
    const name = header.toLowerCase();
    // Names stand at even places, values at odd ones.
    if (index % 2 === 1 || !singleHeaders.has(name)) continue;
    if (seen.has(name)) return true;
    seen.add(name);
  }
  return false;
}

function checkCertificate({ cert, key }: Certificate): void {
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw new ServerError('TLS', `certificate and key cannot be used: ${describeError(error)}`, { cause: error });
  }
}
