/** Clients that write raw bytes, for requests that no HTTP library would send. */

import type { Socket } from 'node:net';
import { connect } from 'node:net';

export class RawClient {
  readonly socket: Socket;
  #received = '';
  readonly #closed: Promise<void>;
  #watchers: (() => void)[] = [];

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      this.#received += text;
      this.#tell();
    });
    // A server that closes a connection may reset it.
    socket.on('error', () => {});
    this.#closed = new Promise((resolve) => {
      socket.on('close', () => {
        resolve();
        this.#tell();
      });
    });
  }

  static connect(port: number): Promise<RawClient> {
    return new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: false });
      const client = new RawClient(socket);
      socket.once('connect', () => resolve(client));
      socket.once('error', reject);
    });
  }

  send(text: string | Uint8Array): void {
    if (!this.socket.destroyed) this.socket.write(typeof text === 'string' ? Buffer.from(text, 'latin1') : text);
  }

  /** Everything received until the server closed the connection. */
  async rest(): Promise<string> {
    await this.#closed;
    return this.#received;
  }

  /** Resolves with the received text when it matches, or when the connection is closed. */
  async until(pattern: RegExp): Promise<string> {
    while (!pattern.test(this.#received) && !this.socket.destroyed) await new Promise<void>((resolve) => this.#watchers.push(resolve));
    return this.#received;
  }

  end(): void {
    this.socket.destroy();
  }

  #tell(): void {
    const watchers = this.#watchers;
    this.#watchers = [];
    for (const watcher of watchers) watcher();
  }
}

/** The statuses of all answers in the text from a connection. */
export const statusesOf = (received: string): number[] => [...received.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map((match) => Number(match[1]));

/** Polls until the result is true; the runner ends a test that waits forever. */
export async function eventually(ask: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await ask())) await new Promise((resolve) => setTimeout(resolve, 5));
}
