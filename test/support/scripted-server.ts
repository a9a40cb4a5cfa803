/** An HTTP server that answers as a test says, for answers that no honest server would give. */

import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';

export interface ScriptedRequest {
  readonly method: string;
  readonly target: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

export type Script = (request: ScriptedRequest, answer: ServerResponse) => void;

export class ScriptedServer {
  readonly requests: ScriptedRequest[] = [];
  /** Called while a body arrives, with the number of bytes so far. */
  onArrival: (method: string, target: string, bytes: number) => void = () => {};
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static start(script: Script): Promise<ScriptedServer> {
    const server = createServer();
    const scripted = new ScriptedServer(server);
    server.on('request', (message: IncomingMessage, answer: ServerResponse) => {
      const parts: Buffer[] = [];
      let arrived = 0;
      message.on('data', (part: Buffer) => {
        parts.push(part);
        arrived += part.byteLength;
        scripted.onArrival(message.method ?? '', message.url ?? '', arrived);
      });
      message.on('end', () => {
        const request = { method: message.method ?? '', target: message.url ?? '', headers: message.headers, body: Buffer.concat(parts) };
        scripted.requests.push(request);
        script(request, answer);
      });
    });
    return new Promise((settle, reject) => {
      server.on('error', reject);
      server.listen(0, '127.0.0.1', () => settle(scripted));
    });
  }

  get origin(): string {
    const address = this.#server.address();
    return `http://127.0.0.1:${typeof address === 'object' && address ? address.port : 0}`;
  }

  async stop(): Promise<void> {
    const closed = new Promise((settle) => this.#server.close(settle));
    this.#server.closeAllConnections();
    await closed;
  }
}
