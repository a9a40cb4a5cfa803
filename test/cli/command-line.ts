/**
 * Runs `bin/sealdrive` as a user or a script does: a process with arguments, a secret on a descriptor, an exit code and
 * two outputs.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { findMount } from '../../src/fuse/mount-table.js';

const root = resolve(import.meta.dirname, '..', '..', '..');
export const programPath = join(root, 'bin', 'sealdrive');

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** The secret on descriptor 3, which the arguments name. */
  readonly secret?: string;
  /** The secret on descriptor 4. */
  readonly newSecret?: string;
  /** A command that runs the program, such as `unshare ...`. */
  readonly wrapper?: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** A scratch folder for state, mount points and stores, with a command line that uses it. */
export class Workplace {
  readonly folder: string;

  constructor() {
    this.folder = mkdtempSync(join(tmpdir(), 'sealdrive-cli-'));
  }

  path(...names: string[]): string {
    return join(this.folder, ...names);
  }

  makeFolder(...names: string[]): string {
    const path = this.path(...names);
    mkdirSync(path, { recursive: true });
    return path;
  }

  run(words: readonly string[], options: RunOptions = {}): Promise<Outcome> {
    return new Promise((settle, reject) => {
      // tap injects hooks into every Node.js process; this one must run as users run it.
      const parameters = ['-u', 'NODE_OPTIONS', ...(options.wrapper ?? []), process.execPath, programPath, ...words];
      const child = spawn('env', parameters, {
        cwd: options.cwd ?? this.folder,
        env: { PATH: process.env['PATH'], HOME: this.folder, XDG_STATE_HOME: this.path('state'), ...options.env },
        // A new session, without a terminal to ask on.
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
      });
      let stdout = '';
      let stderr = '';
      child.stdout?.setEncoding('utf8').on('data', (text: string) => {
        stdout += text;
      });
      child.stderr?.setEncoding('utf8').on('data', (text: string) => {
        stderr += text;
      });
      for (const [fd, text] of [
        [3, options.secret],
        [4, options.newSecret],
      ] as const) {
        const pipe = child.stdio[fd];
        if (pipe && 'end' in pipe) pipe.on('error', () => {}).end(text === undefined ? '' : `${text}\n`);
      }
      child.on('error', reject);
      child.on('close', (code) => settle({ code, stdout, stderr }));
    });
  }

  /** Runs a command that must exit with 0; returns its standard output. */
  async succeed(words: readonly string[], options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(words, options);
    if (code !== 0) throw new Error(`sealdrive ${words.join(' ')} ended with ${code}: ${stderr}${stdout}`);
    return stdout;
  }

  /** Makes a volume that a key file opens quickly; returns its store and key file. */
  async makeVolume(name = 'store'): Promise<{ readonly store: string; readonly keyFile: string }> {
    const store = this.path(name);
    const keyFile = this.path(`${name}.key`);
    await this.succeed(['init', store, '--key-file', keyFile, '--no-recovery']);
    return { store, keyFile };
  }

  /** Unmounts everything still mounted below, and removes the folder. */
  async remove(): Promise<void> {
    for (const name of readdirSync(this.folder)) {
      if (await findMount(this.path(name))) await this.run(['unmount', this.path(name), '--force', '--timeout', '0s']);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Names, modes, sizes and content of everything below `folder`, as one hash: to show that nothing has changed. */
export function fingerprint(folder: string): string {
  const hash = createHash('sha256');
  const visit = (path: string): void => {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    hash.update(`${path} ${stat?.mode} ${stat?.isFile() ? stat.size : ''}\n`);
    if (stat?.isDirectory()) for (const name of readdirSync(path).toSorted()) visit(join(path, name));
    else if (stat?.isSymbolicLink()) hash.update(readlinkSync(path));
    else if (stat?.isFile()) hash.update(readFileSync(path));
  };
  visit(folder);
  return hash.digest('hex');
}
