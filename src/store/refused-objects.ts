/**
 * Objects that the store has and refuses to give: archived, encrypted with a disabled key, forbidden. Waiting does not
 * help, so no request waits; the log and `status` name the reason until the object can be read (doc/semantics.md,
 * "Errors").
 */
import type { Logger } from '../base/logger.js';
import type { ObjectKey } from './object-store.js';
import { StoreError } from './object-store.js';

/** The keys that are remembered; more are counted no further. */
const keysMax = 1000;

export interface RefusalFacts {
  readonly objects: number;
  /** The newest one, with what to do. */
  readonly reason: string;
}

export class RefusedObjects {
  readonly #logger: Logger;
  readonly #keys = new Map<ObjectKey, string>();
  /** What the log has told, without the name of the object. */
  readonly #told = new Set<string>();

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /**
   * How an attempt to read `key` ended; `error` is `undefined` when the store gave it, or said that there is no such
   * object.
   */
  ended(key: ObjectKey, error: unknown): void {
    if (error === undefined) {
      if (this.#keys.size > 0 && this.#keys.delete(key) && this.#keys.size === 0) this.#told.clear();
      return;
    }
    if (!(error instanceof StoreError) || (error.code !== 'REFUSED' && error.code !== 'DENIED')) return;
    this.#keys.delete(key);
    if (this.#keys.size >= keysMax) return;
    this.#keys.set(key, error.message);
    const reason = error.message.replace(key, '');
    if (this.#told.has(reason)) return;
    this.#told.add(reason);
    this.#logger.error('the store refuses to give an object', { reason: error.message });
  }

  /** `undefined`: nothing is refused now, as far as was asked. */
  get facts(): RefusalFacts | undefined {
    const reason = [...this.#keys.values()].at(-1);
    return reason === undefined ? undefined : { objects: this.#keys.size, reason };
  }
}
