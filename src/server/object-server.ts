/**
 * The object server: authorizes each request, applies the limits, and shuts down in order (doc/server.md). Unknown
 * clients get few resources, and known ones are limited, too. It does not know the operations themselves, which are in
 * volume-operations.ts.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { ObjectStore } from '../store/object-store.js';
import type { Connection } from './connection.js';
import { Connections } from './connections.js';
import { Exchange, lingerMs } from './exchange.js';
import type { Certificate } from './http-listener.js';
import { checkMs, HttpListener, keepAliveMs, sendAway } from './http-listener.js';
import type { WaitOutcome } from './object-waiters.js';
import { ObjectWaiters } from './object-waiters.js';
import { PieceBuffers } from './piece-buffers.js';
import { Places, takePlace } from './places.js';
import { Refusal, refusalOf } from './refusal.js';
import type { RequestRecordsOptions } from './request-records.js';
import { RequestRecords } from './request-records.js';
import { keyClass, parseTarget } from './request-target.js';
import { ServerMetrics } from './server-metrics.js';
import type { Grant, TokenTable } from './token-file.js';
import type { UploadFolder } from './upload.js';
import { CutUpload } from './upload.js';
import { operationOf, VolumeOperations, waitOf } from './volume-operations.js';
import { VolumeUsage } from './volume-usage.js';

export interface ServerLimits {
  /** Bytes of an object. Default: 256 MiB. */
  readonly objectMax?: number;
  /** Requests at once. Default: 256, and half of that for one token. */
  readonly requestsMax?: number;
  readonly requestsPerTokenMax?: number;
  /** Requests that wait for an object at once. Default: 4096, and 64 for one token. */
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
  /** Time for the head of a request. Default: 10 seconds. */
  readonly headMs?: number;
  /** Time that a request may take in addition to moving its bytes. Default: a minute. */
  readonly graceMs?: number;
}

export interface ObjectServerOptions extends RequestRecordsOptions {
  /** Closed by the caller, after {@link ObjectServer.stop}. */
  readonly base: ObjectStore;
  readonly tokens: TokenTable;
  readonly uploads: UploadFolder;
  /** `port` 0 takes any free port. */
  readonly listen: { readonly host: string; readonly port: number };
  /** Without a certificate, the server speaks plain HTTP. */
  readonly certificate?: Certificate | undefined;
  /** Interval at which the base is polled for objects that requests wait for; 0 disables polling. */
  readonly pollMs: number;
  /** Bytes for each volume without a quota of its own. */
  readonly quota?: number | undefined;
  /** Bytes free where the base lies. */
  readonly freeSpace?: (() => Promise<number>) | undefined;
  readonly limits?: ServerLimits;
}

/** A client that stays slower than this is cut. */
const bytesPerMsMin = 8;
/** Connections of one token beyond its requests and waiters: clients keep some open for later. */
const idlePerTokenMax = 64;
const idleMax = 256;

export class ObjectServer {
  readonly metrics = new ServerMetrics();
  readonly #options: ObjectServerOptions;
  readonly #listener: HttpListener;
  readonly #operations: VolumeOperations;
  readonly #waiters: ObjectWaiters;
  readonly #requestPlaces: Places;
  readonly #waiterPlaces: Places;
  readonly #graceMs: number;
  readonly #pipelinedMax: number;
  readonly #connections: Connections;
  readonly #exchanges = new Set<Exchange>();
  readonly #records: RequestRecords;
  #isStopping = false;
  #wasCut = false;
  #expiry: NodeJS.Timeout | undefined;

  private constructor(options: ObjectServerOptions) {
    const { base, clock, logger, limits = {}, tokens, quota } = options;
    const { objectMax = 256 * 1024 * 1024, requestsMax = 256, waitersMax = 4096, headMs = 10_000 } = limits;
    this.#listener = new HttpListener(options.certificate, headMs);
    this.#options = options;
    this.#graceMs = limits.graceMs ?? 60_000;
    this.#pipelinedMax = limits.pipelinedMax ?? 16;
    this.#records = new RequestRecords(options, this.metrics);
    const { requestsPerTokenMax = Math.ceil(requestsMax / 2), waitersPerTokenMax = 64, strangersMax = 1024 } = limits;
    this.#requestPlaces = new Places(requestsMax, requestsPerTokenMax);
    this.#waiterPlaces = new Places(waitersMax, waitersPerTokenMax);
    this.#connections = new Connections(
      {
        strangersMax,
        // All clients of a proxy share its address, and the proxy has bounds of its own.
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
    const { server } = this.#listener;
    server.on('tlsClientError', () => this.metrics.add('sealdrive_malformed_total'));
    server.on('connection', (socket: Socket) => this.#connections.admit(socket));
    // Looked up now, while the TCP connection can still be found by its address.
    server.on('secureConnection', (socket: Socket) => void this.#connections.of(socket));
    server.on('request', (request, response) => this.#accept(request, response, false));
    server.on('checkContinue', (request, response) => this.#accept(request, response, true));
    server.on('checkExpectation', (request, response) => this.#accept(request, response, false));
    server.on('clientError', (error: Error, socket: Socket) => {
      this.metrics.add('sealdrive_malformed_total');
      const isBusy = [...this.#exchanges].some(({ request }) => request.socket === socket);
      sendAway(error, socket, isBusy);
    });
  }

  /** Throws {@link ServerError}. */
  static async start(options: ObjectServerOptions): Promise<ObjectServer> {
    const server = new ObjectServer(options);
    await server.#listener.listen(options.listen.host, options.listen.port);
    server.#expiry = setInterval(() => server.#expire(), checkMs);
    server.#expiry.unref();
    return server;
  }

  /** The port that is listened on. */
  get port(): number {
    return this.#listener.port;
  }

  /** For new connections. Throws {@link ServerError} `TLS` for one that cannot be used; the old one stays. */
  setCertificate(certificate: Certificate): void {
    this.#listener.setCertificate(certificate);
  }

  /** The metrics, with the gauges brought up to date. */
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
   * Takes no more connections, answers waiters, and resolves when all requests are answered, or were cut after
   * `timeoutMs`. True when none was cut.
   */
  async stop(timeoutMs: number): Promise<boolean> {
    this.#isStopping = true;
    const closed = new Promise<void>((resolve) => this.#listener.server.close(() => resolve()));
    this.#waiters.stop();
    this.#listener.server.closeIdleConnections();
    const timer = setTimeout(() => this.cut(), timeoutMs);
    // Connections without a request under way need not be waited for.
    const sweep = setInterval(() => {
      if (this.#exchanges.size === 0) this.cut();
    }, 50);
    await closed;
    clearTimeout(timer);
    clearInterval(sweep);
    clearInterval(this.#expiry);
    return !this.#wasCut;
  }

  /** Ends all connections, including those with requests under way. */
  cut(): void {
    this.#wasCut ||= this.#exchanges.size > 0;
    this.#connections.destroyAll();
  }

  #accept(request: IncomingMessage, response: ServerResponse, awaitsContinue: boolean): void {
    const { socket } = request;
    const connection = this.#connections.of(socket);
    if (!connection) {
      socket.destroy();
      return;
    }
    if (connection.isDoubtful) return;
    if (connection.requestCount >= this.#pipelinedMax) {
      this.metrics.add('sealdrive_malformed_total');
      connection.destroy();
      return;
    }
    connection.serveInTurn(socket, () => this.#serve(request, response, awaitsContinue, connection));
  }

  /** Resolves when the answer was sent or the client is gone; never rejects. */
  async #serve(request: IncomingMessage, response: ServerResponse, awaitsContinue: boolean, connection: Connection): Promise<void> {
    const exchange = new Exchange(request, response, this.#options.clock.monotonicMs(), awaitsContinue);
    this.#exchanges.add(exchange);
    response.setHeader('sealdrive', '1');
    response.setHeader('cache-control', 'no-store');
    if (this.#isStopping) response.shouldKeepAlive = false;
    const closed = new Promise<void>((resolve) => {
      response.on('close', () => {
        this.#exchanges.delete(exchange);
        this.#records.closed(exchange);
        // An answer begun before the stop has promised to keep the connection alive.
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
    // The token is checked before anything else, so that a client without one learns nothing.
    const grant = await authorize();
    const name = grant.tokenId;
    exchange.tokenId = name;
    this.#connections.recognize(connection, name);
    const target = parseTarget(request.url ?? '');
    if (!target || hasHeaderTwice(request)) throw new Refusal('BAD_REQUEST', 'the request is malformed');
    if (!/^(100-continue)?$/i.test(request.headers.expect ?? '')) throw new Refusal('EXPECTATION', 'the expectation is unknown');
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
    /** Exchanges the place of a request for that of a waiter: many waiters may be woken at once. */
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

  /** Answers with the reason of the failure. True when the connection must not be used any more. */
  #fail(exchange: Exchange, error: unknown): boolean {
    const { request } = exchange;
    if (error instanceof CutUpload) {
      request.destroy();
      return true;
    }
    const refusal = refusalOf(error);
    this.#records.refused(exchange, refusal);
    // Nothing more is read from such a client.
    const isLast = ['NO_TOKEN', 'STOPPING', 'BAD_REQUEST', 'LENGTH_REQUIRED', 'METHOD', 'EXPECTATION'].includes(refusal.code);
    const headers = {
      ...(refusal.code === 'NO_TOKEN' ? { 'www-authenticate': 'Bearer realm="sealdrive"' } : {}),
      ...(refusal.code === 'METHOD' ? { allow: 'GET, HEAD, PUT, DELETE, POST' } : {}),
      ...(isLast ? { connection: 'close' } : {}),
    };
    exchange.refuse(refusal, headers);
    return isLast;
  }

  /** Cuts requests whose bytes move too slowly, in either direction. */
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
}

/** When one of these is repeated, node:http takes the first, but a proxy in front may take the last. */
const singleHeaders = new Set(['host', 'authorization', 'range', 'if-none-match', 'expect', 'content-encoding']);

function hasHeaderTwice({ rawHeaders }: IncomingMessage): boolean {
  const seen = new Set<string>();
  for (const [index, header] of rawHeaders.entries()) {
    const name = header.toLowerCase();
    // Names have even indexes, values odd ones.
    if (index % 2 === 1 || !singleHeaders.has(name)) continue;
    if (seen.has(name)) return true;
    seen.add(name);
  }
  return false;
}
