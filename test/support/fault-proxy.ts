/**
 * Faults on a real connection: a TCP proxy on loopback that delays, limits, hangs and cuts connections as it is told,
 * and by a seed. It does not interpret what it carries; with `tunnel` it is a CONNECT proxy that leads every name to
 * the same server.
 */

import type { Server, Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import type { SeededRandom } from '../suite/seeded-random.js';

export interface Faults {
  /** Added to each piece in each direction. */
  latencyMs: number;
  /** The rate of all connections together, in each direction; 0 for no limit. */
  bytesPerSecond: number;
  /** The probability, 0 to 1, that a piece in either direction is cut in two and lost from there on. */
  cutChance: number;
  /** The number of next answers that never arrive: their first byte cuts the connection. */
  answersLost: number;
  /** Data is accepted and never forwarded. */
  isHanging: boolean;
  /** Connections are closed as soon as they are established. */
  isRefusing: boolean;
  /** The answer to the first request of each new connection, which is then closed; if empty, requests are forwarded. */
  answer: string;
}

export class FaultProxy {
  readonly faults: Faults = { latencyMs: 0, bytesPerSecond: 0, cutChance: 0, answersLost: 0, isHanging: false, isRefusing: false, answer: '' };
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #random: Pick<SeededRandom, 'below'>;
  #cuts = 0;
  #connections = 0;
  /** The time at which the link is free again, by direction, in milliseconds of performance.now(). */
  readonly #freeMs = { up: 0, down: 0 };

  private constructor(server: Server, random: Pick<SeededRandom, 'below'>) {
    this.#server = server;
    this.#random = random;
  }

  /** Starts a proxy in front of a port on loopback. */
  static start(port: number, random: Pick<SeededRandom, 'below'>, options: { readonly tunnel?: boolean } = {}): Promise<FaultProxy> {
    const server = createServer();
    const proxy = new FaultProxy(server, random);
    server.on('connection', (client) => proxy.#accept(client, port, options.tunnel === true));
    return new Promise((settle, reject) => {
      server.on('error', reject);
      server.listen(0, '127.0.0.1', () => settle(proxy));
    });
  }

  get port(): number {
    const address = this.#server.address();
    return typeof address === 'object' && address ? address.port : 0;
  }

  /** Connections that it has cut so far. */
  get cuts(): number {
    return this.#cuts;
  }

  /** Connections requested so far, including refused ones. */
  get connections(): number {
    return this.#connections;
  }

  /** Cuts all connections. */
  cutAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    const closed = new Promise((settle) => this.#server.close(settle));
    this.cutAll();
    await closed;
  }

  #accept(client: Socket, port: number, isTunnel: boolean): void {
    this.#connections++;
    if (this.faults.isRefusing) {
      client.destroy();
      return;
    }
    if (this.faults.answer !== '') {
      this.#answer(client, this.faults.answer);
      return;
    }
    const server = connect(port, '127.0.0.1');
    for (const [one, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(one);
      one.setNoDelay(true);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
    }
    const carry = (): void => {
      this.#carry(client, server, 'up');
      this.#carry(server, client, 'down');
    };
    if (!isTunnel) carry();
    else {
      client.once('data', () => {
        client.write('HTTP/1.1 200 OK\r\n\r\n');
        carry();
      });
    }
  }

  #answer(client: Socket, answer: string): void {
    this.#sockets.add(client);
    client.on('error', () => client.destroy());
    client.on('close', () => this.#sockets.delete(client));
    client.once('data', () => client.end(answer));
    // A body that follows is read, so that closing does not cause a reset that destroys the answer.
    client.resume();
  }

  #carry(from: Socket, to: Socket, direction: 'up' | 'down'): void {
    const { faults } = this;
    /** Pieces in transit: none overtakes another, even when the settings change. */
    const late: { readonly dueMs: number; readonly piece: Buffer }[] = [];
    let [isCut, hasEnded] = [false, false];
    const deliver = (): void => {
      let next = late[0];
      for (; next && next.dueMs <= performance.now(); next = late[0]) {
        late.shift();
        if (!to.destroyed) to.write(next.piece);
      }
      if (next) setTimeout(deliver, Math.max(1, next.dueMs - performance.now()));
      else if (hasEnded) to.end();
      else from.resume();
    };
    from.on('data', (piece) => {
      if (faults.isHanging || isCut) return;
      if (direction === 'down' && faults.answersLost > 0) {
        faults.answersLost--;
        this.#cut(from, to);
        return;
      }
      if (faults.cutChance > 0 && this.#random.below(1_000_000) < faults.cutChance * 1_000_000) {
        // Later data must not arrive in its place.
        isCut = true;
        if (late.length > 0) this.#cut(from, to);
        else to.write(piece.subarray(0, this.#random.below(piece.byteLength)), () => this.#cut(from, to));
        return;
      }
      const nowMs = performance.now();
      const isLimited = faults.bytesPerSecond > 0;
      if (isLimited) this.#freeMs[direction] = Math.max(nowMs, this.#freeMs[direction]) + (piece.byteLength * 1000) / faults.bytesPerSecond;
      const waitMs = faults.latencyMs + (isLimited ? this.#freeMs[direction] - nowMs : 0);
      if (waitMs === 0 && late.length === 0) {
        if (!to.write(piece)) {
          from.pause();
          to.once('drain', () => from.resume());
        }
        return;
      }
      late.push({ dueMs: Math.max(nowMs + waitMs, late.at(-1)?.dueMs ?? 0), piece });
      // A piece in transit delays the next one only by the rate.
      if (isLimited) from.pause();
      if (late.length === 1) setTimeout(deliver, waitMs);
    });
    from.on('end', () => {
      hasEnded = true;
      if (late.length === 0) to.end();
    });
  }

  #cut(one: Socket, other: Socket): void {
    this.#cuts++;
    one.destroy();
    other.destroy();
  }
}
