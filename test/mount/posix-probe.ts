/**
 * Drives the interpreter of system calls in posix-probe.c, which is compiled once per process into a scratch directory.
 * One Probe is one child process with its own working directory, ids, umask, descriptors and locks; several make
 * several applications. Calls are answered in order and may be sent without waiting. It judges nothing: the suites do.
 */
import { type ChildProcessByStdio, execFile, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, sep } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { promisify } from 'node:util';

/** A path or name that is not UTF-8 text. */
export class RawName {
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
}

/** Text is a path, name or flag expression, and bytes are file data. */
export type ProbeArgument = string | number | bigint | Uint8Array | RawName;

/** The answer of a call. `error` is an errno name; times are nanoseconds since 1970; `data` and `target` are hex. */
export interface ProbeAnswer {
  readonly value: number;
  readonly error?: string;
  readonly data?: string;
  readonly names?: readonly string[];
  readonly entries?: readonly ProbeEntry[];
  readonly xattrs?: Readonly<Record<string, string>>;
  readonly digest?: string;
  readonly target?: string;
  readonly pid?: number;
  readonly start?: string;
  readonly length?: string;
}

export interface ProbeEntry {
  /** Bytes outside printable ASCII, spaces and percent signs are written %xx. */
  readonly name: string;
  readonly ino: string;
  readonly type: number;
  readonly at: string;
}

export interface ProbeStat {
  readonly ino: string;
  readonly dev: string;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly blocks: number;
  readonly blksize: number;
  readonly rdev: string;
  readonly atime: bigint;
  readonly mtime: bigint;
  readonly ctime: bigint;
  readonly btime: bigint | undefined;
}

/** The child is gone: killed, or its call never came back before it was closed. */
export class ProbeGoneError extends Error {
  override readonly name = 'ProbeGoneError';
}

/** A call that had to succeed failed. `code` is the errno name. */
export class ProbeCallError extends Error {
  override readonly name = 'ProbeCallError';
  readonly code: string;
  constructor(call: string, code: string) {
    super(`${call}: ${code}`);
    this.code = code;
  }
}

/** In the syntax of the interpreter: see the head of posix-probe.c. */
export function escapeName(name: string | Uint8Array): string {
  const bytes = typeof name === 'string' ? Buffer.from(name) : name;
  if (bytes.length === 0) return '%';
  let text = '';
  for (const byte of bytes) {
    text += byte <= 32 || byte >= 127 || byte === 37 ? `%${byte.toString(16).padStart(2, '0')}` : String.fromCharCode(byte);
  }
  return text;
}

/** The bytes of a name in an answer. */
export function unescapeName(text: string): Uint8Array {
  return Buffer.from(
    text.replace(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16))),
    'latin1',
  );
}

function writeArgument(argument: ProbeArgument): string {
  if (typeof argument === 'string') return escapeName(argument);
  if (argument instanceof RawName) return escapeName(argument.bytes);
  if (argument instanceof Uint8Array)
    return argument.length === 0 ? '-' : Buffer.from(argument.buffer, argument.byteOffset, argument.length).toString('hex');
  return String(argument);
}

/** A file of this repository, wherever the calling compiled program lies. */
export function sourcePath(...parts: string[]): string {
  const here = import.meta.dirname;
  const root = here.split(`${sep}dist${sep}`)[0] ?? here;
  return join(root === here ? join(here, '..', '..') : root, ...parts);
}

let program: Promise<string> | undefined;

async function compile(): Promise<string> {
  const scratch = await mkdtemp(join(tmpdir(), 'posix-probe-'));
  process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));
  const output = join(scratch, 'posix-probe');
  try {
    await promisify(execFile)('cc', ['-std=gnu17', '-O2', '-Wall', '-o', output, sourcePath('test', 'mount', 'posix-probe.c')]);
  } catch (cause) {
    await rm(scratch, { recursive: true, force: true });
    throw new Error('the system call interpreter needs a C compiler named cc', { cause });
  }
  return output;
}

type ProbeProcess = ChildProcessByStdio<Writable, Readable, null>;

export class Probe {
  readonly #child: ProbeProcess;
  readonly #waiting: { readonly call: string; readonly resolve: (answer: ProbeAnswer) => void; readonly reject: (reason: Error) => void }[] = [];
  readonly #exited: Promise<void>;
  #gone = false;

  private constructor(child: ProbeProcess) {
    this.#child = child;
    child.stdin.on('error', () => {});
    createInterface({ input: child.stdout, crlfDelay: Number.POSITIVE_INFINITY }).on('line', (line) => {
      const next = this.#waiting.shift();
      next?.resolve(JSON.parse(line) as ProbeAnswer);
    });
    this.#exited = new Promise((resolve) => {
      child.once('close', () => {
        this.#gone = true;
        for (const { call, reject } of this.#waiting.splice(0)) reject(new ProbeGoneError(`the probe ended during: ${call}`));
        resolve();
      });
    });
  }

  static async start(): Promise<Probe> {
    program ??= compile();
    return new Probe(spawn(await program, { cwd: '/', stdio: ['pipe', 'pipe', 'inherit'] }));
  }

  /** Makes one system call and returns its answer, whether it succeeded or not. */
  call(name: string, ...argument: readonly ProbeArgument[]): Promise<ProbeAnswer> {
    const line = [name, ...argument.map(writeArgument)].join(' ');
    return new Promise((resolve, reject) => {
      if (this.#gone) return reject(new ProbeGoneError(`the probe has ended before: ${line.slice(0, 200)}`));
      this.#waiting.push({ call: line.slice(0, 200), resolve, reject });
      this.#child.stdin.write(`${line}\n`);
    });
  }

  /** Makes one system call that must succeed; throws {@link ProbeCallError} when it does not. */
  async ok(name: string, ...argument: readonly ProbeArgument[]): Promise<number> {
    const answer = await this.need(name, ...argument);
    return answer.value;
  }

  /** As {@link ok}, but returns the whole answer. */
  async need(name: string, ...argument: readonly ProbeArgument[]): Promise<ProbeAnswer> {
    const answer = await this.call(name, ...argument);
    if (answer.error !== undefined) throw new ProbeCallError([name, ...argument.map(writeArgument)].join(' ').slice(0, 200), answer.error);
    return answer;
  }

  /** The errno name of a call, or 'OK'. */
  async errno(name: string, ...argument: readonly ProbeArgument[]): Promise<string> {
    return (await this.call(name, ...argument)).error ?? 'OK';
  }

  /** statx of a path (`stat` follows symbolic links, `lstat` does not) or a descriptor (`fstat`). */
  async stat(call: 'stat' | 'lstat' | 'fstat', target: ProbeArgument): Promise<ProbeStat> {
    return statOf(await this.need(call, target));
  }

  /** All of a file, or `size` bytes from `offset`, through a descriptor of its own. */
  async readFile(path: ProbeArgument, size = 1 << 24, offset = 0): Promise<Buffer> {
    const fd = await this.ok('open', path, 'O_RDONLY');
    const parts: Buffer[] = [];
    for (let at = offset; at < offset + size; ) {
      const part = await this.readAt(fd, Math.min(size - (at - offset), 1 << 18), at);
      if (part.length === 0) break;
      parts.push(part);
      at += part.length;
    }
    await this.ok('close', fd);
    return Buffer.concat(parts);
  }

  async readAt(fd: number, size: number, offset: number | bigint): Promise<Buffer> {
    return Buffer.from((await this.need('read', fd, size, offset)).data ?? '', 'hex');
  }

  /** Creates or truncates a file with this content, in pieces of 64 KiB. */
  async writeFile(path: ProbeArgument, content: string | Uint8Array, mode = 0o644): Promise<void> {
    const bytes = typeof content === 'string' ? Buffer.from(content) : content;
    const fd = await this.ok('open', path, 'O_WRONLY|O_CREAT|O_TRUNC', mode);
    for (let at = 0; at < bytes.length; at += 65536) await this.ok('write', fd, bytes.subarray(at, at + 65536));
    await this.ok('close', fd);
  }

  /** Ends the child; calls that are still open are rejected. */
  async close(): Promise<void> {
    this.#child.stdin.end();
    // A call that is stuck in the kernel never reads the end of input.
    if (this.#waiting.length > 0) this.#child.kill('SIGKILL');
    await this.#exited;
  }
}

export function statOf(answer: ProbeAnswer): ProbeStat {
  const raw = answer as unknown as Record<'atime' | 'mtime' | 'ctime', string> & { btime?: string } & Omit<
      ProbeStat,
      'atime' | 'mtime' | 'ctime' | 'btime'
    >;
  return {
    ...raw,
    atime: BigInt(raw.atime),
    mtime: BigInt(raw.mtime),
    ctime: BigInt(raw.ctime),
    btime: raw.btime === undefined ? undefined : BigInt(raw.btime),
  };
}
