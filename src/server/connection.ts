/**
 * One connection of a client, from its first byte (that of a TLS handshake included) to its end: whose it is, and its
 * requests, which are answered one after the other (doc/server.md, "Connections").
 */
import type { Socket } from 'node:net';
import { partyOf } from './client-address.js';

export class Connection {
  readonly party: string;
  readonly acceptedMs: number;
  /** Set after a request that made no sense: nothing that came with it is believed to be one. */
  isDoubtful = false;
  /** Requests that came and are not answered. */
  requestCount = 0;
  idleSinceMs: number;
  /** `undefined` until a request has shown a valid token. */
  tokenId: string | undefined;
  readonly #socket: Socket;
  readonly #nowMs: () => number;
  /** Resolves when all requests that came so far are answered; never rejects. */
  #tail: Promise<void> = Promise.resolve();
  #isHeld = false;

  constructor(socket: Socket, nowMs: () => number) {
    this.#socket = socket;
    this.#nowMs = nowMs;
    this.party = partyOf(socket.remoteAddress);
    this.acceptedMs = nowMs();
    this.idleSinceMs = this.acceptedMs;
  }

  destroy(): void {
    this.isDoubtful = true;
    this.#socket.destroy();
  }

  /**
   * Runs `serve`, which never rejects, when the requests before this one are answered. While requests wait for their
   * turn, nothing more is read from `socket`, which is the TLS connection where there is one.
   */
  serveInTurn(socket: Socket, serve: () => Promise<void>): void {
    if (++this.requestCount > 1) this.#hold(socket);
    this.#tail = this.#tail.then(async () => {
      if (!this.isDoubtful && !socket.destroyed) await serve();
      this.requestCount--;
      this.idleSinceMs = this.#nowMs();
      if (this.requestCount === 1) socket.resume();
    });
  }

  /** Pauses reading until at most one request is left, even when node:http resumes the socket meanwhile. */
  #hold(socket: Socket): void {
    if (this.#isHeld) return;
    this.#isHeld = true;
    const pauseAgain = (): void => {
      if (this.requestCount > 1) socket.pause();
      else {
        this.#isHeld = false;
        socket.off('resume', pauseAgain);
      }
    };
    socket.on('resume', pauseAgain);
    socket.pause();
  }
}
