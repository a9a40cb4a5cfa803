/**
 * The HTTP or HTTPS server of Node.js, set up strictly: limited heads, no lenient parsing, and a short answer to
 * anything that is not HTTP (doc/server.md, "Hostile clients"). It does not decide who may connect or what is answered.
 */
import type { Server } from 'node:http';
import { createServer as createHttpServer } from 'node:http';
import type { Server as TlsServer } from 'node:https';
import { createServer as createHttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { createSecureContext } from 'node:tls';
import { describeError } from '../base/errors.js';
import { ServerError } from './server-error.js';

export interface Certificate {
  /** PEM, both. */
  readonly cert: string;
  readonly key: string;
}

/** Longer than clients and proxies keep idle connections, so that they are the ones to close them. */
export const keepAliveMs = 75_000;
/** Between two looks for requests and connections that take too long. */
export const checkMs = 1000;
const minVersion = 'TLSv1.2';

export class HttpListener {
  readonly server: Server;
  readonly #tls: TlsServer | undefined;

  /** `headMs`: for the head of a request, and a TLS handshake. Throws {@link ServerError} `TLS`. */
  constructor(certificate: Certificate | undefined, headMs: number) {
    const settings = {
      maxHeaderSize: 8192,
      headersTimeout: headMs,
      // The server itself holds bodies to a pace.
      requestTimeout: 0,
      keepAliveTimeout: keepAliveMs,
      connectionsCheckingInterval: Math.min(checkMs, headMs),
      insecureHTTPParser: false,
      noDelay: true,
    };
    if (certificate) {
      checkCertificate(certificate);
      this.#tls = createHttpsServer({ ...settings, ...certificate, minVersion, handshakeTimeout: headMs });
    }
    this.server = this.#tls ?? createHttpServer(settings);
    this.server.maxHeadersCount = 64;
  }

  /** Throws {@link ServerError} `LISTEN`. */
  async listen(host: string, port: number): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.server.once('error', (error) => {
        reject(new ServerError('LISTEN', `${host} port ${port} cannot be listened on: ${describeError(error)}`, { cause: error }));
      });
      this.server.listen({ host, port }, resolve);
    });
  }

  /** The port that is listened on. */
  get port(): number {
    const address = this.server.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  /** For new connections. Throws {@link ServerError} `TLS` for one that cannot be used; the old one stays. */
  setCertificate(certificate: Certificate): void {
    checkCertificate(certificate);
    this.#tls?.setSecureContext({ ...certificate, minVersion });
  }
}

/**
 * Answers something that is no HTTP request, and closes the connection. In the middle of an answer to another request
 * (`isBusy`), nothing can be said about it.
 */
export function sendAway(error: Error, socket: Socket, isBusy: boolean): void {
  const code = 'code' in error ? error.code : undefined;
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

function checkCertificate({ cert, key }: Certificate): void {
  try {
    createSecureContext({ cert, key });
  } catch (error) {
    throw new ServerError('TLS', `certificate and key cannot be used: ${describeError(error)}`, { cause: error });
  }
}
