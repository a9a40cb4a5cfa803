/** `/metrics` for Prometheus and `/healthz` for balancers, at an address of their own (doc/server.md, "Running"). */

import type { Server } from 'node:http';
import { createServer } from 'node:http';
import { describeError } from '../base/errors.js';
import type { ObjectStore } from '../store/object-store.js';
import { ServerError } from './server-error.js';

/** No object has this key: asking for it shows whether the base answers. */
const healthKey = 'probe/health';

export class MetricsServer {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  /** Throws {@link ServerError} `LISTEN`. */
  static async start(
    listen: { readonly host: string; readonly port: number },
    metrics: () => string,
    base: Pick<ObjectStore, 'head'>,
  ): Promise<MetricsServer> {
    const server = createServer({ maxHeaderSize: 4096, headersTimeout: 5000, requestTimeout: 5000, connectionsCheckingInterval: 1000 });
    server.maxConnections = 32;
    server.on('request', (request, response) => {
      const say = (status: number, text: string): void => {
        response.writeHead(status, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' });
        response.end(text);
      };
      response.on('error', () => {});
      if (request.method !== 'GET') say(405, '');
      else if (request.url === '/metrics') say(200, metrics());
      else if (request.url === '/healthz') {
        base.head(healthKey).then(
          () => say(200, 'ok\n'),
          () => say(503, 'the base store does not answer\n'),
        );
      } else say(404, '');
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => {
        const { host, port } = listen;
        reject(new ServerError('LISTEN', `${host} port ${port} cannot be listened on: ${describeError(error)}`, { cause: error }));
      });
      server.listen(listen, resolve);
    });
    return new MetricsServer(server);
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  async stop(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#server.closeAllConnections();
    await closed;
  }
}
