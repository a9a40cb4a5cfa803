/**
 * One SSH connection with one SFTP channel (draft-ietf-secsh-filexfer-02, with OpenSSH's extensions), for the SFTP
 * store: promises, a timeout for answers that do not come, and errors as statuses. It knows nothing of objects, and is
 * not used again once it has ended.
 */

import type { Attributes, AuthenticationType, ConnectConfig, FileEntryWithStats, ServerHostKeyAlgorithm, SFTPWrapper, Stats } from 'ssh2';
import ssh2 from 'ssh2';
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { DiskAccess } from '../disk/disk.js';
import type { KnownKey } from './known-hosts.js';
import { StoreError } from './object-store.js';

/** A name in a directory, with the attributes that the server reports. */
export type SftpEntry = FileEntryWithStats;

export interface SftpTarget {
  readonly host: string;
  readonly port: number;
  readonly user: string;
  /** Keys that the host may have, and must have one of. */
  readonly knownKeys: readonly KnownKey[];
  /** Private keys (OpenSSH or PEM, without a passphrase), tried in order. */
  readonly privateKeys: readonly Uint8Array[];
  /** Socket of an agent, asked first. */
  readonly agent?: string | undefined;
  /** Tried last. */
  readonly password?: string | undefined;
  readonly clock: Clock;
  /** Until the connection stands. */
  readonly connectMs: number;
  /** Without any answer while some are owed, the connection is given up. */
  readonly idleMs: number;
}

/** What a server says to a request: `EOF`, `NO_SUCH_FILE`, ...; `LOST` when it says nothing any more. */
export type SftpStatus = 'EOF' | 'NO_SUCH_FILE' | 'PERMISSION_DENIED' | 'FAILURE' | 'UNSUPPORTED' | 'LOST' | 'OTHER';

const statuses: Readonly<Record<number, SftpStatus>> = {
  1: 'EOF',
  2: 'NO_SUCH_FILE',
  3: 'PERMISSION_DENIED',
  4: 'FAILURE',
  6: 'LOST',
  7: 'LOST',
  8: 'UNSUPPORTED',
};

export class SftpStatusError extends Error {
  override readonly name = 'SftpStatusError';
  readonly status: SftpStatus;

  constructor(status: SftpStatus, cause: unknown) {
    super(describeError(cause), { cause });
    this.status = status;
  }
}

export const sftpStatus = (error: unknown): SftpStatus | undefined => (error instanceof SftpStatusError ? error.status : undefined);

type Callback<T> = (error: Error | null | undefined, value: T) => void;
export type SftpHandle = Buffer;

export class SftpConnection {
  readonly #client: ssh2.Client;
  readonly #sftp: SFTPWrapper;
  readonly #clock: Clock;
  readonly #idleMs: number;
  /** Rejecters of the calls under way. */
  readonly #owed = new Set<(error: Error) => void>();
  #lastAnswerMs = 0;
  #isWatching = false;
  #ended: Error | undefined;

  private constructor(client: ssh2.Client, sftp: SFTPWrapper, target: SftpTarget) {
    this.#client = client;
    this.#sftp = sftp;
    this.#clock = target.clock;
    this.#idleMs = target.idleMs;
    const end = (error?: Error): void => this.#end(error ?? new Error('the connection ended'));
    client.on('error', end);
    client.on('close', () => end());
    sftp.on('error', end);
    sftp.on('close', () => end());
  }

  get hasEnded(): boolean {
    return this.#ended !== undefined;
  }

  /** Throws {@link StoreError}. */
  static async open(target: SftpTarget): Promise<SftpConnection> {
    const where = `${target.host}:${target.port}`;
    const trusted = target.knownKeys.filter(({ isRevoked }) => !isRevoked);
    const revoked = target.knownKeys.filter(({ isRevoked }) => isRevoked);
    if (trusted.length === 0) {
      throw new StoreError(
        'UNAVAILABLE',
        `the host key of ${where} is in no file of known hosts: connect once with "ssh -p ${target.port} ${target.user}@${target.host}" and compare it`,
        { retryAfterMs: Infinity },
      );
    }
    const verdict = { isWrongKey: false };
    const client = new ssh2.Client();
    const config: ConnectConfig = {
      host: target.host,
      port: target.port,
      username: target.user,
      readyTimeout: target.connectMs,
      keepaliveInterval: 15_000,
      keepaliveCountMax: 3,
      // A host shows one key: it has to be of a kind that we know it by.
      algorithms: { serverHostKey: algorithmsOf(trusted) },
      hostVerifier: (key: Buffer): boolean => {
        const shown = key.toString('base64');
        const isRight = trusted.some((known) => known.key === shown) && !revoked.some((known) => known.key === shown);
        verdict.isWrongKey = !isRight;
        return isRight;
      },
      authHandler: authenticationOf(target),
    };
    try {
      const sftp = await new Promise<SFTPWrapper>((settle, reject) => {
        client.on('error', reject);
        client.on('close', () => reject(new Error('the connection was closed')));
        client.on('ready', () => client.sftp((error, channel) => (error ? reject(error) : settle(channel))));
        client.connect(config);
        // Else small requests wait 40 ms each for an acknowledgement of the last one (Nagle's algorithm).
        client.setNoDelay(true);
      });
      return new SftpConnection(client, sftp, target);
    } catch (error) {
      client.on('error', () => {});
      client.destroy();
      throw explainConnecting(error, where, verdict.isWrongKey);
    }
  }

  openFile(path: string, flags: 'r' | 'wx'): Promise<SftpHandle> {
    return this.#call((done: Callback<Buffer>) => this.#sftp.open(path, flags, { mode: 0o600 }, done));
  }

  /** Gives a file, by its handle, or a folder, by its path, rights and a group. */
  async setAccess(of: SftpHandle | string, { mode, group }: DiskAccess): Promise<void> {
    const stats = typeof of === 'string' ? await this.stat(of) : await this.sizeOf(of);
    if (stats.gid !== group) await this.#setAttributes(of, { uid: stats.uid, gid: group });
    if ((stats.mode & 0o7777) !== mode) await this.#setAttributes(of, { mode });
  }

  #setAttributes(of: SftpHandle | string, attributes: Partial<Attributes>): Promise<void> {
    return this.#call((done: Callback<void>) => {
      const ended = (error: Error | null | undefined): void => done(error ?? undefined, undefined);
      if (typeof of === 'string') this.#sftp.setstat(of, attributes, ended);
      else this.#sftp.fsetstat(of, attributes, ended);
    });
  }

  closeFile(handle: SftpHandle): Promise<void> {
    return this.#call((done: Callback<void>) => this.#sftp.close(handle, (error) => done(error, undefined)));
  }

  sizeOf(handle: SftpHandle): Promise<Stats> {
    return this.#call((done: Callback<Stats>) => this.#sftp.fstat(handle, done));
  }

  /** Up to `target.byteLength` bytes from `position` on; how many came. Zero at the end of the file. */
  async read(handle: SftpHandle, target: Uint8Array, position: number): Promise<number> {
    const buffer = Buffer.from(target.buffer, target.byteOffset, target.byteLength);
    try {
      return await this.#call((done: Callback<number>) => this.#sftp.read(handle, buffer, 0, buffer.byteLength, position, done));
    } catch (error) {
      if (sftpStatus(error) === 'EOF') return 0;
      throw error;
    }
  }

  write(handle: SftpHandle, bytes: Uint8Array, position: number): Promise<void> {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return this.#call((done: Callback<void>) => this.#sftp.write(handle, buffer, 0, buffer.byteLength, position, (error) => done(error, undefined)));
  }

  /** `UNSUPPORTED` where the server does not know fsync@openssh.com. */
  sync(handle: SftpHandle): Promise<void> {
    return this.#call((done: Callback<void>) => this.#sftp.ext_openssh_fsync(handle, (error) => done(error, undefined)));
  }

  /** `UNSUPPORTED` where the server does not know hardlink@openssh.com. */
  link(from: string, to: string): Promise<void> {
    return this.#call((done: Callback<void>) => this.#sftp.ext_openssh_hardlink(from, to, (error) => done(error, undefined)));
  }

  /** Of version 3 of the protocol, which refuses when something is at `to`. */
  rename(from: string, to: string): Promise<void> {
    return this.#call((done: Callback<void>) => this.#sftp.rename(from, to, (error) => done(error, undefined)));
  }

  unlink(path: string): Promise<void> {
    return this.#call((done: Callback<void>) => this.#sftp.unlink(path, (error) => done(error, undefined)));
  }

  makeDirectory(path: string): Promise<void> {
    return this.#call((done: Callback<void>) => this.#sftp.mkdir(path, { mode: 0o700 } as Attributes, (error) => done(error, undefined)));
  }

  stat(path: string): Promise<Stats> {
    return this.#call((done: Callback<Stats>) => this.#sftp.stat(path, done));
  }

  /** Bytes that the user may still write; `UNSUPPORTED` where the server does not know statvfs@openssh.com. */
  async freeSpace(path: string): Promise<number> {
    const info: unknown = await this.#call((done: Callback<unknown>) => this.#sftp.ext_openssh_statvfs(path, done));
    const { f_bavail: blocks, f_frsize: size } = (info ?? {}) as { readonly f_bavail?: unknown; readonly f_frsize?: unknown };
    return Number(blocks) * Number(size);
  }

  /** Gives the entries, in no order and without `.` and `..`, to `take` as they arrive; what it throws ends it. */
  async readDirectory(path: string, take: (entries: readonly SftpEntry[]) => void): Promise<void> {
    const handle = await this.#call((done: Callback<Buffer>) => this.#sftp.opendir(path, done));
    try {
      for (;;) {
        const batch = await this.#call((done: Callback<FileEntryWithStats[]>) => this.#sftp.readdir(handle, done));
        take(batch.filter(({ filename }) => filename !== '.' && filename !== '..'));
      }
    } catch (error) {
      if (sftpStatus(error) !== 'EOF') throw error;
    } finally {
      void this.closeFile(handle).catch(() => {});
    }
  }

  close(): void {
    this.#end(new Error('closed'));
  }

  #call<T>(start: (done: Callback<T>) => unknown): Promise<T> {
    return new Promise((settle, reject) => {
      if (this.#ended) {
        reject(new SftpStatusError('LOST', this.#ended));
        return;
      }
      this.#owed.add(reject);
      const done: Callback<T> = (error, value) => {
        this.#lastAnswerMs = this.#clock.monotonicMs();
        this.#owed.delete(reject);
        if (error) reject(statusErrorOf(error));
        else settle(value);
      };
      try {
        start(done);
      } catch (error) {
        // The library throws for what the server did not announce.
        this.#owed.delete(reject);
        reject(error instanceof Error && error.message.includes('does not support') ? new SftpStatusError('UNSUPPORTED', error) : error);
        return;
      }
      if (this.#owed.size === 1) this.#lastAnswerMs = this.#clock.monotonicMs();
      void this.#watch();
    });
  }

  /** Runs while answers are owed. */
  async #watch(): Promise<void> {
    if (this.#isWatching) return;
    this.#isWatching = true;
    while (this.#owed.size > 0 && !this.#ended) {
      await this.#clock.sleep(this.#idleMs / 4);
      if (this.#owed.size > 0 && this.#clock.monotonicMs() - this.#lastAnswerMs > this.#idleMs) this.#end(new Error('the server stopped answering'));
    }
    this.#isWatching = false;
  }

  #end(error: Error): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#client.destroy();
    for (const reject of this.#owed) reject(new SftpStatusError('LOST', error));
    this.#owed.clear();
  }
}

/** Whether it can be used as it is: those with a passphrase are for an agent, since nobody is there to be asked. */
export function isPlainKey(key: Uint8Array): boolean {
  const parsed: unknown = ssh2.utils.parseKey(Buffer.from(key));
  return !(parsed instanceof Error);
}

function statusErrorOf(error: Error): SftpStatusError {
  const code = 'code' in error && typeof error.code === 'number' ? error.code : undefined;
  return new SftpStatusError(code === undefined ? 'LOST' : (statuses[code] ?? 'OTHER'), error);
}

function algorithmsOf(keys: readonly KnownKey[]): ServerHostKeyAlgorithm[] {
  const known: Readonly<Record<string, readonly ServerHostKeyAlgorithm[]>> = {
    'ssh-ed25519': ['ssh-ed25519'],
    'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
    'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
    'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
    // The key is the same; signatures with SHA-1 are not taken.
    'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256'],
  };
  return Object.entries(known).flatMap(([type, algorithms]) => (keys.some((key) => key.type === type) ? algorithms : []));
}

function authenticationOf(target: SftpTarget): NonNullable<ConnectConfig['authHandler']> {
  const { user: username, agent, password } = target;
  const methods: ssh2.AnyAuthMethod[] = [];
  if (agent !== undefined) methods.push({ type: 'agent', username, agent });
  for (const key of target.privateKeys) methods.push({ type: 'publickey', username, key: Buffer.from(key) });
  if (password !== undefined) methods.push({ type: 'password', username, password });
  let at = 0;
  return (_left: AuthenticationType[] | null, _partial: boolean | null, next: ssh2.NextAuthHandler) => {
    const method = methods[at++];
    // The library's types know no end of the list.
    next(method ?? (false as unknown as ssh2.AnyAuthMethod));
  };
}

function explainConnecting(error: unknown, where: string, isWrongKey: boolean): StoreError {
  if (isWrongKey) {
    return new StoreError('UNAVAILABLE', `the host key of ${where} is not the one in the file of known hosts: somebody may be in between`, {
      cause: error,
      retryAfterMs: Infinity,
    });
  }
  const level = error instanceof Error && 'level' in error ? error.level : undefined;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const details = describeError(error);
  if (level === 'client-authentication') return new StoreError('DENIED', `${where} accepts none of the keys: ${details}`, { cause: error });
  if (level === 'agent') return new StoreError('DENIED', `the SSH agent cannot be used: ${details}`, { cause: error });
  const isFinal = code === 'ENOTFOUND' || level === 'handshake' || /no matching/i.test(details);
  return new StoreError('UNAVAILABLE', `no connection to ${where}: ${details}`, { cause: error, ...(isFinal ? { retryAfterMs: Infinity } : {}) });
}
