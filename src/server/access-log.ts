/** A log file that is written in batches in the background, and reopened after it was rotated. */
import { closeSync, writeSync } from 'node:fs';
import { openSync } from '../disk/files.js';

/** Lines that may wait. A slower disk loses some, and the next line says how many. */
const waitingMax = 20_000;
const flushMs = 200;

export class AccessLog {
  readonly #path: string;
  #fd: number;
  #lines: string[] = [];
  #lostCount = 0;
  #timer: NodeJS.Timeout | undefined;

  /** Creates the file with mode 0600. Throws errors of the filesystem. */
  constructor(path: string) {
    this.#path = path;
    this.#fd = openSync(path, 'a', 0o600);
  }

  write(line: string): void {
    if (this.#lines.length >= waitingMax) this.#lostCount++;
    else this.#lines.push(line);
    if (this.#timer) return;
    this.#timer = setTimeout(() => this.#flush(), flushMs);
    this.#timer.unref();
  }

  /**
   * Writes later lines to the file that is now at the path. Throws errors of the filesystem, and then keeps the old.
   */
  reopen(): void {
    this.#flush();
    const fd = openSync(this.#path, 'a', 0o600);
    closeSync(this.#fd);
    this.#fd = fd;
  }

  close(): void {
    this.#flush();
    closeSync(this.#fd);
  }

  #flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const lost = this.#lostCount === 0 ? '' : `${JSON.stringify({ time: new Date().toISOString(), lost: this.#lostCount })}\n`;
    const text = this.#lines.join('') + lost;
    if (text === '') return;
    const count = this.#lines.length;
    this.#lines = [];
    this.#lostCount = 0;
    try {
      const bytes = Buffer.from(text, 'utf8');
      for (let done = 0; done < bytes.byteLength; ) done += writeSync(this.#fd, bytes, done);
    } catch {
      // A full disk must not stop the server.
      this.#lostCount = count;
    }
  }
}
