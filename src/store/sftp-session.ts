/**
 * Runs tasks over one SFTP connection that they share, and that is opened again when it has ended. Errors of the
 * connection become {@link StoreError} here (doc/stores.md, "SFTP").
 */
import { assert } from '../base/assert.js';
import { describeError } from '../base/errors.js';
import type { StoreErrorCode } from './object-store.js';
import { StoreError } from './object-store.js';
import type { SftpTarget } from './sftp-connection.js';
import { SftpConnection, sftpStatus } from './sftp-connection.js';

export interface SftpSessionOptions {
  /** Called for every connection, since files may have changed. */
  readonly loadTarget: () => Promise<SftpTarget>;
  /** `user@host`, for people. */
  readonly where: string;
}

export class SftpSession {
  readonly #options: SftpSessionOptions;
  /** The directory, for errors. */
  readonly #description: string;
  #connection: Promise<SftpConnection> | undefined;
  /** The connection that {@link #connection} has resolved to. */
  #current: SftpConnection | undefined;
  #isClosed = false;

  /** Makes no connection. */
  constructor(options: SftpSessionOptions, description: string) {
    this.#options = options;
    this.#description = description;
  }

  /**
   * Runs `task` over the connection, which is opened again when the last one has ended. Throws {@link StoreError},
   * or the reason of the signal.
   */
  async run<T>(doing: string, signal: AbortSignal | undefined, task: (connection: SftpConnection) => Promise<T>): Promise<T> {
    assert(!this.#isClosed, 'a closed store is not used');
    signal?.throwIfAborted();
    try {
      return await abortable(
        this.#connect().then((connection) => task(connection)),
        signal,
      );
    } catch (error) {
      if (signal?.aborted || error instanceof StoreError) throw error;
      throw this.#explain(error, doing);
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    const connection = await this.#connection?.catch(() => undefined);
    connection?.close();
  }

  #explain(error: unknown, doing: string): StoreError {
    const make = (code: StoreErrorCode, reason: string): StoreError => new StoreError(code, `${doing}: ${reason}`, { cause: error });
    const status = sftpStatus(error);
    // A broken invariant must not be blamed on the server.
    if (status === undefined) throw error;
    switch (status) {
      case 'PERMISSION_DENIED':
        return make('DENIED', 'the server does not permit it');
      case 'NO_SUCH_FILE':
        return make('NOT_A_STORE', `there is no ${this.#description}`);
      case 'LOST':
        return make('UNAVAILABLE', `the connection to ${this.#options.where} was lost: ${describeError(error)}`);
      case 'FAILURE':
        return make('UNAVAILABLE', 'the server says that it failed');
      default:
        return make('PROTOCOL', describeError(error));
    }
  }

  /** The open connection, or a new one, which all concurrent callers share. */
  async #connect(): Promise<SftpConnection> {
    // No await until the new connection is assigned: concurrent callers would open one each.
    if (this.#current?.hasEnded) this.#connection = this.#current = undefined;
    const made = (this.#connection ??= this.#options.loadTarget().then((target) => SftpConnection.open(target)));
    try {
      const connection = await made;
      if (this.#connection === made) this.#current = connection;
      return connection;
    } catch (error) {
      if (this.#connection === made) this.#connection = undefined;
      throw error;
    }
  }
}

/** Rejects with the signal's reason when it is aborted first; the task then goes on unobserved. */
function abortable<T>(task: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return task;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    task.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
