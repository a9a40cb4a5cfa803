/**
 * rsync at work on the drive, for the soak: it copies a changing tree again and again. The source is on another
 * filesystem, and the check allows for what an interrupted run may have left undone.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeededRandom } from '../model/seeded-random.js';
import { compareTrees } from '../mount/compare-trees.js';
import type { Worker } from '../mount/worker.js';

/**
 * Copies a changing tree to the drive again and again: the files of a finished run are there, and an interrupted run
 * touched only what it had to.
 */
export class RsyncWorker implements Worker {
  readonly name = 'rsync';
  readonly #source: string;
  readonly #target: string;
  readonly #random: SeededRandom;
  #child: ChildProcess | undefined;
  #running: Promise<void> | undefined;
  #stopped = false;
  #failure: string | undefined;
  #count = 0;
  /** Names that the current run, or the last one if it was interrupted, may leave as they were. */
  readonly #changing = new Set<string>();

  constructor(directory: string, scratch: string, seed: number) {
    this.#source = join(scratch, 'source');
    this.#target = join(directory, 'rsync');
    this.#random = new SeededRandom(seed);
  }

  get failure(): string | undefined {
    return this.#failure;
  }

  begin(): void {
    this.#stopped = false;
    this.#failure = undefined;
    this.#running = this.#work();
  }

  async #work(): Promise<void> {
    await mkdir(join(this.#source, 'deep'), { recursive: true });
    while (!this.#stopped) {
      for (let changes = this.#count === 0 ? 60 : 8; changes > 0; changes--) {
        const name = `f${this.#random.below(60)}`;
        const path = join(this.#source, this.#random.below(2) === 0 ? name : join('deep', name));
        this.#changing.add(name);
        await writeFile(path, this.#random.bytes(this.#random.below(60_000)));
        // rsync does not update a time that differs by less than a second.
        await utimes(path, 1_000_000_000 + this.#count, 1_000_000_000 + this.#count);
      }
      for (const path of ['deep', '.']) await utimes(join(this.#source, path), 1_000_000_000, 1_000_000_000);
      this.#count++;
      // Its processes have a session of their own, so all of them end with it.
      const child = spawn('rsync', ['-a', '--checksum', `${this.#source}/`, this.#target], { stdio: 'ignore', cwd: '/', detached: true });
      this.#child = child;
      const [code] = (await once(child, 'exit')) as [number | null];
      if (code !== 0) {
        if (!this.#stopped) this.#failure = `rsync ended with ${code ?? child.signalCode}`;
        return;
      }
      this.#changing.clear();
    }
  }

  async end(): Promise<void> {
    this.#stopped = true;
    const child = this.#child;
    if (child?.pid !== undefined && child.exitCode === null && child.signalCode === null) {
      try {
        process.kill(-child.pid, 'SIGKILL');
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
      }
    }
    await this.#running;
  }

  async verify(): Promise<string | undefined> {
    if (!existsSync(this.#target)) return this.#changing.size > 0 || this.#count === 0 ? undefined : 'the target is gone';
    const { differences } = await compareTrees(this.#source, this.#target, { differenceMax: 1000 });
    const wrong = differences.filter((line) => {
      const path = line.slice(0, line.indexOf(': '));
      const name = path.slice(path.lastIndexOf('/') + 1);
      // An interrupted run leaves its temporary files, and possibly folders whose times are not set yet.
      if (name.startsWith('.')) return false;
      return this.#changing.size === 0 || !(this.#changing.has(name) || name === 'deep' || name === '');
    });
    return wrong.length > 0 ? wrong.slice(0, 20).join('\n') : undefined;
  }
}
