/**
 * Records the requests of the server: in metrics, in the access log, and failures in the log (doc/server.md). Outsiders
 * can cause requests at will, so the lines about refused ones are limited; those about objects that exist or are looked
 * for are not.
 */
import type { Clock } from '../base/clock.js';
import { CodedError, describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { Exchange } from './exchange.js';
import { LineBudget } from './line-budget.js';
import type { Refusal } from './refusal.js';
import type { ServerMetrics } from './server-metrics.js';

/** One request in the access log. */
export type AccessEntry = Readonly<Record<string, string | number | boolean>>;

export interface RequestRecordsOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Whether the last address of `x-forwarded-for` is the client's. */
  readonly isBehindProxy?: boolean;
  readonly onAccess?: (entry: AccessEntry) => void;
}

const methods: ReadonlySet<string | undefined> = new Set(['GET', 'HEAD', 'PUT', 'POST', 'DELETE']);

export class RequestRecords {
  readonly #options: RequestRecordsOptions;
  readonly #metrics: ServerMetrics;
  readonly #lines: LineBudget;

  constructor(options: RequestRecordsOptions, metrics: ServerMetrics) {
    this.#options = options;
    this.#metrics = metrics;
    this.#lines = new LineBudget(options.clock);
  }

  /** Records a request that was answered or cut. */
  closed(exchange: Exchange): void {
    const { request, response, operation } = exchange;
    const isCut = !response.writableFinished;
    const status = response.headersSent ? response.statusCode : 0;
    const tookMs = this.#options.clock.monotonicMs() - exchange.startMs;
    const bytesIn = request.complete ? (exchange.bodySize ?? 0) : 0;
    this.#metrics.add('sealdrive_requests_total', 1, { operation, status: isCut ? 'cut' : status });
    if (exchange.patienceMs === 0) this.#metrics.add('sealdrive_request_seconds_total', tookMs / 1000, { operation });
    if (operation === 'put' && status === 201) this.#metrics.add('sealdrive_received_bytes_total', bytesIn);
    this.#metrics.add('sealdrive_sent_bytes_total', exchange.bytesOut);
    const { onAccess } = this.#options;
    if (!onAccess) return;
    const isRefused = status < 200 || (status >= 400 && ![404, 409, 412].includes(status));
    if (isRefused && !this.#lines.take(exchange.tokenId ?? 'stranger')) return;
    const withheld = this.#lines.takeWithheld();
    const method = methods.has(request.method) ? (request.method ?? '') : 'OTHER';
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

  /** Logs a refusal that the operator should know of: a defect, or a failure of the base store. */
  refused(exchange: Exchange, refusal: Refusal): void {
    const { logger } = this.#options;
    const { code, cause } = refusal;
    if (code === 'DEFECT') {
      if (this.#lines.take('defect'))
        logger.error('defect', { reason: describeError(cause), stack: cause instanceof Error ? cause.stack : undefined });
    } else if (cause instanceof CodedError) {
      this.#metrics.add('sealdrive_base_failures_total', 1, { code: cause.code });
      if (this.#lines.take('base'))
        logger.warn('the base store failed', { operation: exchange.operation, code: cause.code, reason: describeError(cause) });
    }
  }
}
