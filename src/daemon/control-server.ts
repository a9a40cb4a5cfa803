/**
 * The daemon's side of the control socket. Only the owner can reach it (mode 0600 in a directory of mode 0700), and the
 * kernel is asked who connected as well. It is not the FUSE session and knows no volume; `control-requests.ts` answers
 * the requests (doc/cli.md, "The control socket").
 */

import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { chmodSync, statSync, unlinkSync } from '../disk/files.js';
import { socketAddress } from '../disk/socket-address.js';
import type { RestoreCounts } from '../vfs/restoration.js';
import type { CollectProgress, CollectReport } from '../volume/collector.js';
import type { PinProgress } from '../volume/pin-keeper.js';
import type { FlushProgress } from '../volume/volume.js';
import { ControlError } from './control-error.js';
import type {
  ControlReply,
  ControlRequest,
  DaemonStatus,
  FilesResult,
  LimitResult,
  PinsResult,
  SubtreesResult,
  UnmountResult,
} from './control-protocol.js';
import { controlRequestSizeMax, decodeControlRequest } from './control-protocol.js';
import type { PastRequest, PastResult } from './past-protocol.js';

export interface ControlHandler {
  status(): DaemonStatus;
  flush(onProgress: (progress: FlushProgress) => void, signal: AbortSignal): Promise<void>;
  unmount(request: { force: boolean; timeoutMs: number | undefined }, onProgress: (progress: FlushProgress) => void): Promise<UnmountResult>;
  collect(
    request: Extract<ControlRequest, { method: 'collect' }>,
    onProgress: (progress: CollectProgress) => void,
    signal: AbortSignal,
  ): Promise<CollectReport>;
  /** Answers that one pin. */
  pin(request: Extract<ControlRequest, { method: 'pin' }>, onProgress: (progress: PinProgress) => void, signal: AbortSignal): Promise<PinsResult>;
  /** False: it was not pinned. */
  unpin(ino: number): Promise<boolean>;
  pins(): Promise<PinsResult>;
  limit(request: Extract<ControlRequest, { method: 'limit' }>): LimitResult;
  files(inos: readonly number[], deep: boolean, signal: AbortSignal): Promise<FilesResult | SubtreesResult>;
  past(request: PastRequest, onProgress: (counts: Readonly<RestoreCounts>) => void, signal: AbortSignal): Promise<PastResult>;
}

/** The process at the other end of a connection. */
export interface Peer {
  /** The number of the process; 0 when it is not known. */
  readonly pid: number;
}

/** The peer, if it may command this daemon. */
export type PeerCheck = (socket: Socket) => Peer | undefined;

export interface ControlServerOptions {
  readonly handler: ControlHandler;
  readonly identifyPeer: PeerCheck;
  readonly logger: Logger;
  /** How long a client may take to send its request, and to close after the answer. Default 10 s. */
  readonly patienceMs?: number;
}

/**
 * Bounds for all clients together and for one process, so that nobody who keeps connections open shuts out the others.
 */
const connectionsMax = 256;
const connectionsOfProcessMax = 16;
const defaultPatienceMs = 10_000;

interface Connection {
  readonly socket: Socket;
  readonly pid: number;
  /** It has sent no request yet. */
  isIdle: boolean;
}

export class ControlServer {
  readonly #options: ControlServerOptions;
  #server: Server | undefined;
  #path = '';
  /** Device and inode of the socket, to tell it from one that somebody else put in its place. */
  #place = '';
  /** Oldest first. */
  readonly #connections = new Set<Connection>();
  readonly #answering = new Set<Promise<void>>();

  private constructor(options: ControlServerOptions) {
    this.#options = options;
  }

  /**
   * Listens at `path` (at most 107 bytes), replacing a socket that a dead daemon left: the caller holds the lock of the
   * state directory, so nobody else serves it.
   */
  static async listen(path: string, options: ControlServerOptions): Promise<ControlServer> {
    const control = new ControlServer(options);
    await control.#listen(path);
    return control;
  }

  get path(): string {
    return this.#path;
  }

  /** Whether clients find the socket: somebody may have removed it, or the folder around it. */
  isInPlace(): boolean {
    return placeOf(this.#path) === this.#place;
  }

  /** Listens at the first of `paths` that works. Existing connections stay. Throws the system error of the last one. */
  async move(paths: readonly string[]): Promise<void> {
    // Closed first: closing removes the name, which must not be the new socket's.
    if (this.isInPlace()) removeSocket(this.#path);
    this.#server?.close();
    this.#server = undefined;
    for (const [index, path] of paths.entries()) {
      try {
        return await this.#listen(path);
      } catch (error) {
        if (index === paths.length - 1) throw error;
      }
    }
  }

  async #listen(path: string): Promise<void> {
    const { logger } = this.#options;
    removeSocket(path);
    const server = createServer();
    const place = socketAddress(path);
    // Node.js removes the socket by this address when it is closed.
    server.once('close', () => place.release());
    server.on('connection', (socket) => this.#admit(socket));
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(place.address, resolve);
    });
    server.on('error', (error) => logger.error('control socket', { reason: describeError(error) }));
    chmodSync(path, 0o600);
    this.#server = server;
    this.#path = path;
    this.#place = placeOf(path);
  }

  #admit(socket: Socket): void {
    const { identifyPeer, logger } = this.#options;
    socket.on('error', (error) => logger.debug('control connection', { reason: describeError(error) }));
    const peer = identifyPeer(socket);
    if (!peer) {
      logger.warn('control connection of another user refused');
      socket.destroy();
      return;
    }
    if (this.#connectionsOf(peer.pid).length >= connectionsOfProcessMax) this.#drop(peer.pid);
    else if (this.#connections.size >= connectionsMax) this.#drop(this.#greediest());
    this.#accept({ socket, pid: peer.pid, isIdle: true });
  }

  #connectionsOf(process: number): readonly Connection[] {
    return [...this.#connections].filter(({ pid }) => pid === process);
  }

  /** The process with the most connections. */
  #greediest(): number {
    const counts = new Map<number, number>();
    for (const { pid } of this.#connections) counts.set(pid, (counts.get(pid) ?? 0) + 1);
    return [...counts].reduce((most, one) => (one[1] > most[1] ? one : most), [0, 0])[0];
  }

  /**
   * Ends the oldest connection of a process, preferably one that has asked nothing yet: a client asks as soon as it
   * connects.
   */
  #drop(process: number): void {
    const own = this.#connectionsOf(process);
    const victim = own.find(({ isIdle }) => isIdle) ?? own.at(0);
    if (victim === undefined) return;
    this.#connections.delete(victim);
    victim.socket.destroy();
  }

  #accept(connection: Connection): void {
    const { handler, patienceMs = defaultPatienceMs } = this.#options;
    const { socket } = connection;
    this.#connections.add(connection);
    const gone = new AbortController();
    socket.on('close', () => {
      this.#connections.delete(connection);
      gone.abort();
    });
    socket.setEncoding('utf8');
    const deadline = setTimeout(() => socket.destroy(), patienceMs).unref();
    let received = '';
    socket.on('data', (text: string) => {
      if (!connection.isIdle) return;
      received += text;
      const end = received.indexOf('\n');
      if (end < 0) {
        if (received.length > controlRequestSizeMax) socket.destroy();
        return;
      }
      clearTimeout(deadline);
      connection.isIdle = false;
      const answered = answer(decodeControlRequest(received.slice(0, end)), handler, socket, gone.signal);
      this.#answering.add(answered);
      void answered.finally(() => {
        this.#answering.delete(answered);
        // A client that does not read its answer, or does not close, is not kept.
        setTimeout(() => socket.destroy(), patienceMs).unref();
      });
    });
  }

  /** Takes no new connections and resolves when those being answered have their answer. */
  async close(): Promise<void> {
    const server = this.#server;
    const closed = new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
    if (this.isInPlace()) removeSocket(this.#path);
    await Promise.all(this.#answering);
    for (const { socket } of this.#connections) {
      // The answer is written; a client that does not read it must not keep the daemon.
      if (socket.writableLength === 0) socket.destroy();
      else setTimeout(() => socket.destroy(), 1000).unref();
    }
    await closed;
  }
}

/** Empty when the socket's file cannot be looked at. */
function placeOf(path: string): string {
  try {
    const { dev, ino } = statSync(path);
    return `${dev} ${ino}`;
  } catch {
    return '';
  }
}

async function answer(request: ControlRequest | undefined, handler: ControlHandler, socket: Socket, gone: AbortSignal): Promise<void> {
  const send = (reply: ControlReply): void => {
    if (socket.writable) socket.write(`${JSON.stringify(reply)}\n`);
  };
  const onProgress = (progress: FlushProgress): void => send({ progress });
  try {
    if (request === undefined) throw new ControlError('PROTOCOL', 'the daemon does not know this request: is it of another version?');
    switch (request.method) {
      case 'status':
        send({ result: handler.status() });
        break;
      case 'flush':
        await handler.flush(onProgress, gone);
        send({ result: {} });
        break;
      case 'collect':
        send({ result: await handler.collect(request, (collected) => send({ collected }), gone) });
        break;
      case 'pin':
        send({ result: await handler.pin(request, (fetched) => send({ fetched }), gone) });
        break;
      case 'unpin':
        if (!(await handler.unpin(request.ino))) throw new ControlError('NOT_FOUND', 'it is not pinned; "sealdrive pin --list" shows what is');
        send({ result: {} });
        break;
      case 'pins':
        send({ result: await handler.pins() });
        break;
      case 'files':
        send({ result: await handler.files(request.inos, request.deep, gone) });
        break;
      case 'limit':
        send({ result: handler.limit(request) });
        break;
      case 'unmount':
        send({ result: await handler.unmount(request, onProgress) });
        break;
      default:
        send({ result: await handler.past(request, (counts) => send({ restored: { ...counts } }), gone) });
    }
  } catch (error) {
    // The message of a ControlError is for people and complete; its causes are in the log.
    if (error instanceof ControlError) send({ error: { code: error.code, message: error.message } });
    else send({ error: { code: 'FAILED', message: describeError(error) } });
  }
  socket.end();
}

function removeSocket(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
