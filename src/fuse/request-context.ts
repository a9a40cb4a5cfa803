/** The caller of one request, and the signal by which a running operation learns that the caller gave up. */
import { FuseError } from './fuse-error.js';
import type { RequestContext } from './operations.js';
import { bitsOf, readProcessStatus } from './process-status.js';

const CAP_FSETID = 1n << 4n;

interface Credentials {
  readonly groups: ReadonlySet<number>;
  readonly keepsSetId: boolean;
}

export class KernelRequestContext implements RequestContext {
  readonly unique: number;
  readonly opcode: number;
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  umask = 0;
  #controller: AbortController | undefined;
  #interrupted = false;
  #credentials: Credentials | undefined;

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

  get keepsSetId(): boolean {
    return this.#readCredentials().keepsSetId;
  }

  isMemberOf(gid: number): boolean {
    return gid === this.gid || this.#readCredentials().groups.has(gid);
  }

  /**
   * Read once, since the caller waits for the answer and cannot change them meanwhile. If they cannot be read, nothing
   * is granted.
   */
  #readCredentials(): Credentials {
    if (this.#credentials === undefined) {
      const status = readProcessStatus(this.pid) ?? '';
      const groups = /^Groups:([\s\d]*)$/m.exec(status)?.[1]?.trim().split(/\s+/) ?? [];
      // Root of another user namespace has the capability there, but comes with another uid.
      const keepsSetId = this.uid === 0 && ((bitsOf(status, 'CapEff') ?? 0n) & CAP_FSETID) !== 0n;
      this.#credentials = { groups: new Set(groups.filter((text) => text !== '').map(Number)), keepsSetId };
    }
    return this.#credentials;
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
