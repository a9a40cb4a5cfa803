/**
 * A program that makes files one after the other, syncs some, renames some, and reports those that were acknowledged;
 * and the check that each of those is there, whole. It runs in a process of its own, so it can be killed, and can hang
 * on a mount without blocking the test.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const bytesMax = 90_000;

/** The process runs this source too, so it must stand on its own. */
function nameOf(number: number): string {
  return number % 5 === 4 ? `renamed-${number}` : `file-${number}`;
}

function contentOf(number: number, sizeMax: number): Buffer {
  return Buffer.alloc(1 + ((number * 7919) % sizeMax), `content of file ${number}, `);
}

const program = `
const fs = require('node:fs');
const { join } = require('node:path');
${nameOf.toString()}
${contentOf.toString()}
const [directory, first, sizeMax, persistent] = process.argv.slice(1);
for (let number = Number(first); ; ) {
  try {
    const plain = join(directory, 'file-' + number);
    const fd = fs.openSync(plain, 'w');
    try {
      fs.writeSync(fd, contentOf(number, Number(sizeMax)));
      if (number % 3 === 0) fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    if (nameOf(number) !== 'file-' + number) fs.renameSync(plain, join(directory, nameOf(number)));
    fs.writeSync(1, number + '\\n');
    number++;
  } catch (error) {
    fs.writeSync(1, error.code + '\\n');
    if (persistent !== 'yes') process.exit(3);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
  }
}
`;

export class AcknowledgedWriter {
  readonly #directory: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #sizeMax: number;
  #count: number;
  /** The number of errors, by code. */
  readonly errors = new Map<string, number>();
  #waiting: { readonly count: number; readonly resolve: () => void }[] = [];
  #failed: (() => void) | undefined;

  /** Starts with file number `first`; `persistent`: it retries the same file after an error. */
  constructor(directory: string, options: { readonly first?: number; readonly persistent?: boolean; readonly sizeMax?: number } = {}) {
    const { first = 0, persistent = false, sizeMax = bytesMax } = options;
    this.#directory = directory;
    this.#count = first;
    this.#sizeMax = sizeMax;
    this.#child = spawn(process.execPath, ['-e', program, directory, String(first), String(sizeMax), persistent ? 'yes' : 'no'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      cwd: '/',
      env: { PATH: process.env['PATH'] },
    });
    this.#ended = once(this.#child, 'exit');
    if (!this.#child.stdout) throw new Error('it has an output');
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      if (/^\d+$/.test(line)) {
        this.#count = Number(line) + 1;
        for (const waiter of this.#waiting.filter(({ count }) => count <= this.#count)) waiter.resolve();
        this.#waiting = this.#waiting.filter(({ count }) => count > this.#count);
      } else {
        this.errors.set(line, (this.errors.get(line) ?? 0) + 1);
        this.#failed?.();
      }
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The files below this number were acknowledged. */
  get count(): number {
    return this.#count;
  }

  /** Resolves when `more` further files are acknowledged. */
  advance(more: number): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ count: this.#count + more, resolve }));
  }

  /** Resolves at the next error. */
  failed(): Promise<void> {
    return new Promise((resolve) => {
      this.#failed = resolve;
    });
  }

  /** Resolves when the process has ended by itself. */
  async ended(): Promise<void> {
    await this.#ended;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#ended;
  }

  /** The defects of the acknowledged files; empty if there are none. */
  wrong(from = 0): string[] {
    const wrong: string[] = [];
    for (let number = from; number < this.#count; number++) {
      try {
        const found = readFileSync(join(this.#directory, nameOf(number)));
        if (!found.equals(contentOf(number, this.#sizeMax))) wrong.push(`${nameOf(number)}: other content (${found.length} bytes)`);
      } catch (error) {
        wrong.push(`${nameOf(number)}: ${(error as NodeJS.ErrnoException).code}`);
      }
    }
    return wrong;
  }
}
