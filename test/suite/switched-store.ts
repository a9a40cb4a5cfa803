/**
 * A remote store in memory that a test can take offline and bring back, or whose uploads it can hold. It reports itself
 * offline as a ReachabilityStore would, so no time has to pass.
 */
import type { Disk } from '../../src/disk/disk.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { GetOptions, ListedObject, ListOptions, ObjectBody, ObjectKey, PutOutcome } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import type { Reachability } from '../../src/store/reachability-store.js';

export type StoreMood = 'there' | 'away' | 'hanging';

export class SwitchedStore extends MemoryStore implements Reachability {
  #mood: StoreMood = 'there';
  #awaySinceMs: number | undefined;
  readonly #listeners = new Set<(isOffline: boolean) => void>();
  #held: (() => void)[] | undefined;
  gets = 0;

  /** `disk`: where the bodies of puts lie. */
  constructor(disk: Disk = systemDisk) {
    super({ disk });
  }

  /** `hanging`: requests get no answer, and the drive has not noticed yet. */
  set mood(mood: StoreMood) {
    this.#mood = mood;
    this.#awaySinceMs = mood === 'away' ? performance.now() : undefined;
    for (const listener of this.#listeners) listener(mood === 'away');
  }

  get offlineSinceMs(): number | undefined {
    return this.#awaySinceMs;
  }

  onChange(listener: (isOffline: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** From now on uploads are held. */
  hold(): void {
    this.#held ??= [];
  }

  release(): void {
    for (const go of this.#held ?? []) go();
    this.#held = undefined;
  }

  /** Uploads that are held. */
  get heldCount(): number {
    return this.#held?.length ?? 0;
  }

  async #pass(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    if (this.#mood === 'away') throw new StoreError('UNAVAILABLE', 'the store is away', { retryAfterMs: Number.POSITIVE_INFINITY });
    if (this.#mood === 'hanging') await new Promise<never>(() => {});
  }

  override async get(key: ObjectKey, options: GetOptions = {}): Promise<Uint8Array | undefined> {
    this.gets++;
    await this.#pass(options.signal);
    return super.get(key, options);
  }

  override async head(key: ObjectKey): Promise<number | undefined> {
    await this.#pass();
    return super.head(key);
  }

  override async *list(prefix: string, options: ListOptions = {}): AsyncIterable<ListedObject> {
    await this.#pass(options.signal);
    yield* super.list(prefix, options);
  }

  override async put(
    key: ObjectKey,
    body: ObjectBody,
    options: { readonly ifAbsent?: boolean; readonly signal?: AbortSignal } = {},
  ): Promise<PutOutcome> {
    await this.#pass(options.signal);
    const held = this.#held;
    if (held) {
      await new Promise<void>((resolve, reject) => {
        held.push(resolve);
        options.signal?.addEventListener('abort', () => reject(options.signal?.reason as Error), { once: true });
      });
    }
    await this.#pass(options.signal);
    return super.put(key, body, options);
  }
}

/** Polls until `condition` holds, within the test's own timeout. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}
