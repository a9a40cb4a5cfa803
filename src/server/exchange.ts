/**
 * One request and its answer: the bytes moved, the response, and the time limits (doc/server.md, "Protocol" and
 * "Limits").
 */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import type { Refusal } from './refusal.js';

/** How long a refused client may go on sending its body. */
export const lingerMs = 5000;

export class Exchange {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly startMs: number;
  /** For the access log. */
  tokenId: string | undefined;
  volume: string | undefined;
  operation = 'none';
  keyClass: string | undefined;
  /** Milliseconds that the request may take in addition to moving its bytes, because it waits. */
  patienceMs = 0;
  bytesOut = 0;
  /** Whether the client still waits for "100 Continue" before it sends its body. */
  #awaitsContinue: boolean;
  readonly #movedBefore: number;
  #movedLast: number;
  #movedLastMs: number;
  /** Kept because a closed connection no longer has one. */
  readonly #address: string | undefined;

  constructor(request: IncomingMessage, response: ServerResponse, startMs: number, awaitsContinue: boolean) {
    this.request = request;
    this.response = response;
    this.startMs = startMs;
    this.#awaitsContinue = awaitsContinue;
    this.#address = request.socket.remoteAddress;
    this.#movedBefore = this.#movedByConnection();
    this.#movedLast = this.#movedBefore;
    this.#movedLastMs = startMs;
    // Writing to a client that disconnected is no error of ours; the writer checks `isGone`.
    response.on('error', () => {});
    request.on('error', () => {});
  }

  /** Bytes moved over the connection in both directions since the request arrived. */
  get moved(): number {
    return this.#movedByConnection() - this.#movedBefore;
  }

  /** Milliseconds for which nothing has moved over the connection, as far as calls of this have noticed. */
  silentMs(nowMs: number): number {
    const moved = this.#movedByConnection();
    if (moved !== this.#movedLast) {
      this.#movedLast = moved;
      this.#movedLastMs = nowMs;
    }
    return nowMs - this.#movedLastMs;
  }

  #movedByConnection(): number {
    const { socket } = this.request;
    return socket.bytesRead + socket.bytesWritten;
  }

  /**
   * The client's address, for the log; behind a proxy the last one that the proxy was told, which is the one that it
   * saw itself.
   */
  remote(isBehindProxy: boolean): { readonly remote: string } | undefined {
    const { headers } = this.request;
    const forwarded = isBehindProxy ? headers['x-forwarded-for'] : undefined;
    const told = (Array.isArray(forwarded) ? forwarded.join(',') : forwarded)?.split(',').at(-1)?.trim();
    const address = told !== undefined && isIP(told) !== 0 ? told : this.#address;
    return address === undefined ? undefined : { remote: address };
  }

  get isGone(): boolean {
    return this.response.destroyed || this.response.writableEnded;
  }

  /** The announced size of the body; 0 without one, `undefined` when it is in chunks. */
  get bodySize(): number | undefined {
    const { headers } = this.request;
    if (headers['transfer-encoding'] !== undefined) return undefined;
    return headers['content-length'] === undefined ? 0 : Number(headers['content-length']);
  }

  /** Whether the client waits to be told that its body is wanted. */
  get asksFirst(): boolean {
    return this.#awaitsContinue;
  }

  /** Asks a client that waits for it to send its body. */
  invite(): void {
    if (this.#awaitsContinue) this.response.writeContinue();
    this.#awaitsContinue = false;
  }

  /** An answer without or with a short body; `json` is the body. */
  answer(status: number, json?: unknown, headers: OutgoingHttpHeaders = {}): void {
    if (this.isGone || this.response.headersSent) return;
    const body = json === undefined ? undefined : Buffer.from(`${JSON.stringify(json)}\n`, 'utf8');
    const length = status === 204 ? {} : { 'content-length': body?.byteLength ?? 0 };
    const isUnread = (this.bodySize ?? 1) > 0 && !this.request.complete;
    this.response.writeHead(status, {
      ...(body ? { 'content-type': 'application/json' } : {}),
      ...length,
      ...(isUnread ? { connection: 'close' } : {}),
      ...headers,
    });
    const sent = this.request.method === 'HEAD' ? undefined : body;
    this.bytesOut += sent?.byteLength ?? 0;
    if (!isUnread || this.#awaitsContinue) {
      this.response.end(sent);
      return;
    }
    // Closing at once would reset the connection, and the client might never see why. The answer is whole without the
    // end of the response.
    if (sent) this.response.write(sent);
    else this.response.flushHeaders();
    const end = (): void => {
      clearTimeout(timer);
      this.response.end();
    };
    const timer = setTimeout(end, lingerMs);
    timer.unref();
    this.request.on('end', end).on('close', end).resume();
  }

  refuse(refusal: Refusal, headers: OutgoingHttpHeaders = {}): void {
    if (this.response.headersSent) {
      // In the middle of a body only closing the connection shows that it is incomplete.
      this.request.destroy();
      return;
    }
    const { code, status, retryAfterSec } = refusal;
    if (retryAfterSec !== undefined) this.response.setHeader('retry-after', retryAfterSec);
    this.answer(status, { error: { code } }, headers);
  }

  /** Sends the head of an answer. Its `size` bytes follow by {@link write}, then {@link end}. */
  begin(status: number, size: number, headers: OutgoingHttpHeaders = {}): void {
    if (this.isGone) return;
    this.response.writeHead(status, { 'content-type': 'application/octet-stream', 'content-length': size, 'accept-ranges': 'bytes', ...headers });
  }

  /**
   * Resolves to true when there is room for more, and to false when the client is gone. `onSent` is called when the
   * bytes are no longer needed, unless sending fails.
   */
  write(piece: Uint8Array, onSent: () => void): Promise<boolean> | boolean {
    const { response } = this;
    if (this.isGone) return false;
    this.bytesOut += piece.byteLength;
    const hasRoom = response.write(piece, (error) => {
      if (!error) onSent();
    });
    if (hasRoom) return true;
    return new Promise((resolve) => {
      const settle = (): void => {
        response.off('drain', settle).off('close', settle);
        resolve(!this.isGone);
      };
      response.on('drain', settle).on('close', settle);
    });
  }

  end(): void {
    this.response.end();
  }
}
