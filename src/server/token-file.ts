/**
 * The file of tokens: which token may do what in which volume, and the volumes' quotas (doc/server.md, "Tokens and
 * rights"). It holds hashes, never tokens. It is changed by replacing it as a whole; {@link TokenTable} is a running
 * server's view of it.
 */
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import type { Disk } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';
import { stat } from '../disk/file-promises.js';
import { readNamedFile, replaceFile } from '../disk/whole-file.js';
import { equalSecrets } from '../store/request-digest.js';
import { ServerError } from './server-error.js';
import type { TokenRight } from './token.js';
import { isTokenRight, isVolumeName, readAuthorization } from './token.js';

export interface TokenEntry {
  readonly id: string;
  readonly volume: string;
  readonly right: TokenRight;
  /** SHA-256 of the token, lower-case hex. */
  readonly hash: string;
  readonly label: string;
  /** Seconds since 1970. */
  readonly created: number;
}

export interface TokenFile {
  readonly tokens: readonly TokenEntry[];
  /** Quotas in bytes, of volumes that have one of their own. */
  readonly quotas: ReadonlyMap<string, number>;
}

/** The rights that a valid token grants. */
export interface Grant {
  readonly tokenId: string;
  readonly volume: string;
  readonly right: TokenRight;
  /** Bytes; `undefined` when the volume has no quota of its own. */
  readonly quota: number | undefined;
}

export const noTokens: TokenFile = { tokens: [], quotas: new Map() };

const fileSizeMax = 16 * 1024 * 1024;
const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> => typeof value === 'object' && value !== null && !Array.isArray(value);
const isCount = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;

function decodeEntry(value: unknown): TokenEntry | undefined {
  if (!isRecord(value)) return undefined;
  const { id, volume, right, hash, label, created } = value;
  if (typeof id !== 'string' || !/^[0-9a-f]{12}$/.test(id) || typeof volume !== 'string' || !isVolumeName(volume)) return undefined;
  if (!isTokenRight(right) || typeof hash !== 'string' || !/^[0-9a-f]{64}$/.test(hash) || typeof label !== 'string' || !isCount(created))
    return undefined;
  return { id, volume, right, hash, label, created };
}

/** Throws {@link ServerError} `TOKENS` for anything but what {@link encodeTokenFile} writes. */
export function decodeTokenFile(text: string, path: string): TokenFile {
  const wrong = (what: string): ServerError => new ServerError('TOKENS', `the token file ${path} ${what}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's message repeats a part of the file.
    throw wrong('is not JSON');
  }
  if (!isRecord(value) || value['version'] !== 1) throw wrong('is of no version that is known here');
  const { tokens, quotas } = value;
  if (!Array.isArray(tokens) || !isRecord(quotas)) throw wrong('lacks tokens or quotas');
  const entries = tokens.map((token: unknown, index) => {
    const entry = decodeEntry(token);
    if (!entry) throw wrong(`has a token that is none: number ${index + 1}`);
    return entry;
  });
  if (new Set(entries.map(({ id }) => id)).size !== entries.length) throw wrong('has a token twice');
  const sizes = Object.entries(quotas).map(([volume, bytes]): [string, number] => {
    if (!isVolumeName(volume) || !isCount(bytes)) throw wrong('has a quota that is none');
    return [volume, bytes];
  });
  return { tokens: entries, quotas: new Map(sizes) };
}

export function encodeTokenFile(file: TokenFile): string {
  return `${JSON.stringify({ version: 1, tokens: file.tokens, quotas: Object.fromEntries(file.quotas) }, undefined, 2)}\n`;
}

/** The content of the file; a missing file holds no tokens. Throws {@link ServerError} `TOKENS`. */
export async function readTokenFile(path: string): Promise<TokenFile> {
  const file = await readNamedFile(path, fileSizeMax).catch((error: unknown) => {
    throw new ServerError('TOKENS', `the token file ${path} cannot be read: ${describeError(error)}`, { cause: error });
  });
  if (!file) return noTokens;
  if ((file.mode & 0o027) !== 0) throw new ServerError('TOKENS', `other users can read or write the token file ${path}: chmod 600 it`);
  return decodeTokenFile(file.bytes.toString('utf8'), path);
}

/**
 * Replaces the file by what `change` returns. Of two simultaneous changes one fails. Throws {@link ServerError}
 * `TOKENS`, and what `change` throws.
 */
export async function changeTokenFile(disk: Disk, path: string, change: (file: TokenFile) => TokenFile): Promise<void> {
  const temporary = `${path}.new`;
  // Read only once the temporary file exists, which keeps others from changing the file meanwhile.
  const changed = async (): Promise<Buffer> => Buffer.from(encodeTokenFile(change(await readTokenFile(path))));
  try {
    await replaceFile(disk, path, changed, { temporary, isExclusive: true });
  } catch (error) {
    // Only errors of the system name a system call.
    if (!(error instanceof Error && 'syscall' in error)) throw error;
    const reason = diskErrorCode(error) === 'EEXIST' ? `it is being changed by somebody else (if not, remove ${temporary})` : describeError(error);
    throw new ServerError('TOKENS', `the token file ${path} cannot be changed: ${reason}`, { cause: error });
  }
}

export interface TokenTableOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** Interval at which the file is checked for changes. Default: 1 second. */
  readonly recheckMs?: number;
}

/** Compared when there is no such token, so that its absence takes as long to find. */
const nobody = '0'.repeat(64);

export class TokenTable {
  readonly #path: string;
  readonly #options: TokenTableOptions;
  readonly #recheckMs: number;
  #entries: ReadonlyMap<string, TokenEntry> = new Map();
  #quotas: ReadonlyMap<string, number> = new Map();
  /** Identifies the file that was read; when it changes, the content may have changed, too. */
  #seen = '';
  #checkedMs = -Infinity;
  #checking: Promise<void> | undefined;
  /** Why the file could not be used at the last check. Strangers cause many checks, but the reason is logged once. */
  #complaint = '';

  private constructor(path: string, options: TokenTableOptions) {
    this.#path = path;
    this.#options = options;
    this.#recheckMs = options.recheckMs ?? 1000;
  }

  /** Throws {@link ServerError} `TOKENS` for a file that cannot be used. A missing file may appear later. */
  static async open(path: string, options: TokenTableOptions): Promise<TokenTable> {
    const table = new TokenTable(path, options);
    await table.#read();
    return table;
  }

  get size(): number {
    return this.#entries.size;
  }

  get volumes(): ReadonlySet<string> {
    return new Set([...this.#entries.values()].map(({ volume }) => volume));
  }

  /** The quota of `volume` in the file, in bytes. */
  quotaOf(volume: string): number | undefined {
    return this.#quotas.get(volume);
  }

  /** The grant of the token in an `authorization` header, by a recent state of the file. */
  async authorize(header: string | undefined): Promise<Grant | undefined> {
    if (this.#options.clock.monotonicMs() - this.#checkedMs >= this.#recheckMs) await this.refresh();
    const given = readAuthorization(header);
    if (!given) return undefined;
    // The token may just have been added, and a client with a new token must not be refused.
    if (!this.#entries.has(given.id)) await this.refresh();
    const entry = this.#entries.get(given.id);
    const isKnown = equalSecrets(given.hash, entry?.hash ?? nobody);
    if (!entry || !isKnown) return undefined;
    return { tokenId: entry.id, volume: entry.volume, right: entry.right, quota: this.#quotas.get(entry.volume) };
  }

  /** Reads the file again if it has changed. A file that cannot be used changes nothing. */
  refresh(): Promise<void> {
    this.#checking ??= this.#refresh().finally(() => {
      this.#checking = undefined;
    });
    return this.#checking;
  }

  async #refresh(): Promise<void> {
    try {
      if ((await this.#identity()) !== this.#seen) {
        await this.#read();
        this.#options.logger.info('tokens read', { tokens: this.#entries.size });
      }
      this.#complaint = '';
    } catch (error) {
      const reason = describeError(error);
      if (reason !== this.#complaint) this.#options.logger.error('the tokens stay as they were', { reason });
      this.#complaint = reason;
    }
    this.#checkedMs = this.#options.clock.monotonicMs();
  }

  async #read(): Promise<void> {
    // Taken before reading, so that the next check notices what is written meanwhile.
    const identity = await this.#identity();
    this.#seen = identity;
    const { tokens, quotas } = await readTokenFile(this.#path);
    this.#entries = new Map(tokens.map((entry) => [entry.id, entry]));
    this.#quotas = quotas;
    this.#checkedMs = this.#options.clock.monotonicMs();
  }

  async #identity(): Promise<string> {
    try {
      const { dev, ino, size, mtimeNs, ctimeNs } = await stat(this.#path, { bigint: true });
      return [dev, ino, size, mtimeNs, ctimeNs].join(' ');
    } catch (error) {
      if (diskErrorCode(error) === 'ENOENT') return 'absent';
      throw error;
    }
  }
}
