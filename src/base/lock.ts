/** Fair mutual exclusion for asynchronous sections (doc/concurrency.md, "Committing"). */
export class Lock {
  #tail: Promise<unknown> = Promise.resolve();
  #held = 0;

  get busy(): boolean {
    return this.#held > 0;
  }

  /** Runs `section` when all earlier ones have ended, with or without an error. */
  run<T>(section: () => T | Promise<T>): Promise<T> {
    this.#held++;
    const result = this.#tail.then(section);
    this.#tail = result.then(
      () => this.#held--,
      () => this.#held--,
    );
    return result;
  }
}
