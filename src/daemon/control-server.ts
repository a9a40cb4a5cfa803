/**
 * The daemon's side of the control socket. The socket is reachable by the owner alone (mode 0600 in a directory of mode 0700) and asks
 * the kernel who connected besides. It is not the FUSE session and knows no volume: see daemon.ts for what the requests do.
 */
import { chmodSync, unlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { CodedError } from '../base/errors.js';
import { describeError } from '../base/log.js';
import type { Log } from '../base/log.js';
import type { PinProgress } from '../volume/pin-keeper.js';
import type { FlushProgress } from '../volume/volume.js';
import { controlRequestSizeMax, decodeControlRequest } from './control-protocol.js';
import type {
  ControlErrorCode,
  ControlReply,
  ControlRequest,
  DaemonStatus,
  FilesResult,
  LimitResult,
  PinsResult,
  SubtreesResult,
  UnmountResult,
} from './control-protocol.js';

export class ControlError extends CodedError<ControlErrorCode> {}

export interface ControlHandler {
  status(): DaemonStatus;
  flush(onProgress: (progress: FlushProgress) => void, signal: AbortSignal): Promise<void>;
  unmount(request: { force: boolean; timeoutMs: number | undefined }, onProgress: (progress: FlushProgress) => void): Promise<UnmountResult>;
  /** Answers that one pin. */
  pin(request: Extract<ControlRequest, { method: 'pin' }>, onProgress: (progress: PinProgress) => void, signal: AbortSignal): Promise<PinsResult>;
  /** False: it was not pinned. */
  unpin(ino: number): Promise<boolean>;
  pins(): Promise<PinsResult>;
  limit(request: Extract<ControlRequest, { method: 'limit' }>): LimitResult;
  files(inos: readonly number[], deep: boolean, signal: AbortSignal): Promise<FilesResult | SubtreesResult>;
}

/** Whether whoever is behind the connection may command this daemon. */
export type PeerCheck = (socket: Socket) => boolean;

const clientsMax = 32;
const requestTimeoutMs = 10_000;

export class ControlServer {
  readonly #server: Server;
  readonly #path: string;
  readonly #sockets = new Set<Socket>();
  readonly #answering = new Set<Promise<void>>();

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
  }

  /**
   * Listens at `path` (at most 107 bytes), replacing a socket that a dead daemon left: the caller holds the lock of the state directory,
   * so nobody else serves it.
   */
  static async listen(path: string, handler: ControlHandler, isAllowed: PeerCheck, log: Log): Promise<ControlServer> {
    removeSocket(path);
    const server = createServer();
    const control = new ControlServer(server, path);
    server.maxConnections = clientsMax;
    server.on('connection', (socket) => {
      if (!isAllowed(socket)) {
        log.warn('control connection of another user refused');
        socket.destroy();
        return;
      }
      control.#accept(socket, handler, log);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, resolve);
    });
    server.on('error', (error) => log.error('control socket', { reason: describeError(error) }));
    chmodSync(path, 0o600);
    return control;
  }

  #accept(socket: Socket, handler: ControlHandler, log: Log): void {
    this.#sockets.add(socket);
    const gone = new AbortController();
    socket.on('close', () => {
      this.#sockets.delete(socket);
      gone.abort();
    });
    socket.on('error', (error) => log.debug('control connection', { reason: describeError(error) }));
    socket.setEncoding('utf8');
    const deadline = setTimeout(() => socket.destroy(), requestTimeoutMs).unref();
    let received = '';
    socket.on('data', (text: string) => {
      const isComplete = received.includes('\n');
      if (isComplete) return;
      received += text;
      const end = received.indexOf('\n');
      if (end < 0) {
        if (received.length > controlRequestSizeMax) socket.destroy();
        return;
      }
      clearTimeout(deadline);
      const answered = answer(decodeControlRequest(received.slice(0, end)), handler, socket, gone.signal);
      this.#answering.add(answered);
      void answered.finally(() => this.#answering.delete(answered));
    });
  }

  /** Takes no new connections and resolves when those being answered have their answer. */
  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    removeSocket(this.#path);
    await Promise.all(this.#answering);
    for (const socket of this.#sockets) {
      // The answer is written; a client that does not read it must not keep the daemon.
      if (socket.writableLength === 0) socket.destroy();
      else setTimeout(() => socket.destroy(), 1000).unref();
    }
    await closed;
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
