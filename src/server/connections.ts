/**
 * The connections of a server, and which of them is closed when there are too many (doc/server.md, "Connections"). A
 * connection belongs to a stranger until a request on it has shown a valid token, and to that token afterwards.
 * Strangers have their own places and little time, so that they never displace a connection with a token, however many
 * they are.
 */
import type { Socket } from 'node:net';
import { Connection } from './connection.js';

export interface ConnectionLimits {
  /** Connections that have shown no valid token, in all and from one party. Whoever holds most loses its oldest one. */
  readonly strangersMax: number;
  readonly strangersPerPartyMax: number;
  /** Connections that have shown one, in all and for one token. Beyond these the one that was idle longest is ended. */
  readonly knownMax: number;
  readonly knownPerTokenMax: number;
  /** Time that a stranger has, from connecting, to show a token and read an answer. */
  readonly strangerMs: number;
  /** Time that a connection with a token may stay open without a request. */
  readonly idleMs: number;
}

export class Connections {
  readonly #limits: ConnectionLimits;
  readonly #nowMs: () => number;
  readonly #onDrop: (who: 'stranger' | 'known') => void;
  /** By the sockets of TCP connections and of the TLS connections on them. */
  readonly #bySocket = new WeakMap<Socket, Connection>();
  /** By the client's address and port, which a TLS connection shares with its TCP connection. */
  readonly #byPeer = new Map<string, Connection>();
  readonly #all = new Set<Connection>();
  /** Each in the order of acceptance. */
  readonly #strangers = new Map<string, Set<Connection>>();
  #strangerCount = 0;
  readonly #known = new Map<string, Set<Connection>>();

  constructor(limits: ConnectionLimits, nowMs: () => number, onDrop: (who: 'stranger' | 'known') => void) {
    this.#limits = limits;
    this.#nowMs = nowMs;
    this.#onDrop = onDrop;
  }

  get count(): number {
    return this.#all.size;
  }

  get strangerCount(): number {
    return this.#strangerCount;
  }

  /** Admits a new TCP connection, and closes another one when there is no place for both. */
  admit(socket: Socket): void {
    const connection = new Connection(socket, this.#nowMs);
    this.#bySocket.set(socket, connection);
    const peer = peerOf(socket);
    this.#byPeer.set(peer, connection);
    this.#all.add(connection);
    const own = addTo(this.#strangers, connection.party, connection);
    this.#strangerCount++;
    socket.on('close', () => {
      if (this.#byPeer.get(peer) === connection) this.#byPeer.delete(peer);
      this.#remove(connection);
    });
    if (own.size > this.#limits.strangersPerPartyMax) this.#drop(firstOf(own));
    else if (this.#strangerCount > this.#limits.strangersMax) this.#drop(firstOf(this.#largestParty()));
  }

  /** The connection that carries `socket`, TCP or TLS; `undefined` when it is gone. */
  of(socket: Socket): Connection | undefined {
    const found = this.#bySocket.get(socket) ?? this.#byPeer.get(peerOf(socket));
    if (found) this.#bySocket.set(socket, found);
    return found;
  }

  /** A request with a valid token has come. */
  recognize(connection: Connection, tokenId: string): void {
    if (connection.tokenId === tokenId || !this.#all.has(connection)) return;
    this.#leaveShare(connection);
    connection.tokenId = tokenId;
    const own = addTo(this.#known, tokenId, connection);
    const { knownMax, knownPerTokenMax } = this.#limits;
    if (own.size > knownPerTokenMax) this.#dropIdle(own, connection);
    else if (this.#all.size - this.#strangerCount > knownMax) this.#dropIdle(this.#all, connection);
  }

  /** Closes connections that have been open or idle for too long. */
  expire(): void {
    const nowMs = this.#nowMs();
    const { strangerMs, idleMs } = this.#limits;
    for (const connection of this.#all) {
      const { tokenId, acceptedMs, requestCount, idleSinceMs } = connection;
      const isOver = tokenId === undefined ? nowMs - acceptedMs > strangerMs : requestCount === 0 && nowMs - idleSinceMs > idleMs;
      if (isOver) this.#drop(connection);
    }
  }

  destroyAll(): void {
    for (const connection of this.#all) connection.destroy();
  }

  #largestParty(): ReadonlySet<Connection> {
    let largest: ReadonlySet<Connection> = new Set();
    for (const own of this.#strangers.values()) if (own.size > largest.size) largest = own;
    return largest;
  }

  /**
   * Drops the connection that has been idle for the longest time. When all have requests under way none is dropped:
   * requests have limits of their own.
   */
  #dropIdle(connections: ReadonlySet<Connection>, except: Connection): void {
    let oldest: Connection | undefined;
    for (const one of connections) {
      if (one === except || one.tokenId === undefined || one.requestCount > 0) continue;
      if (!oldest || one.idleSinceMs < oldest.idleSinceMs) oldest = one;
    }
    this.#drop(oldest);
  }

  #drop(connection: Connection | undefined): void {
    if (!connection) return;
    this.#onDrop(connection.tokenId === undefined ? 'stranger' : 'known');
    // Removed at once, since its socket reports the end only later.
    this.#remove(connection);
    connection.destroy();
  }

  #remove(connection: Connection): void {
    if (!this.#all.delete(connection)) return;
    this.#leaveShare(connection);
  }

  #leaveShare(connection: Connection): void {
    const { tokenId, party } = connection;
    if (tokenId === undefined) this.#strangerCount--;
    const [shares, name] = tokenId === undefined ? [this.#strangers, party] : [this.#known, tokenId];
    const own = shares.get(name);
    own?.delete(connection);
    if (own?.size === 0) shares.delete(name);
  }
}

const peerOf = (socket: Socket): string => `${socket.remoteAddress} ${socket.remotePort}`;

function addTo(shares: Map<string, Set<Connection>>, name: string, connection: Connection): Set<Connection> {
  const own = shares.get(name) ?? new Set<Connection>();
  shares.set(name, own);
  own.add(connection);
  return own;
}

const firstOf = (connections: ReadonlySet<Connection>): Connection | undefined => connections.values().next().value;
