/** One request's caller, and the way to tell an operation under way that the caller gave up. */
import { FuseError } from './fuse-error.js';
import type { RequestContext } from './operations.js';

export class KernelRequestContext implements RequestContext {
  readonly unique: number;
  readonly opcode: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  umask = 0;
  #controller: AbortController | undefined;
  #interrupted = false;

  constructor(unique: number, opcode: number, uid: number, gid: number, pid: number) {
    this.unique = unique;
    this.opcode = opcode;
    this.uid = uid;
    this.gid = gid;
    this.pid = pid;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.#interrupted) this.#abort();
    }
    return this.#controller.signal;
  }

  get interrupted(): boolean {
    return this.#interrupted;
  }

  /** The caller got a signal, or the connection ended. */
  interrupt(): void {
    this.#interrupted = true;
    this.#abort();
  }

  #abort(): void {
    this.#controller?.abort(new FuseError('INTERRUPTED', 'the caller gave up'));
  }
}
