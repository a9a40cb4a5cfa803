/** A fair mutual exclusion for asynchronous sections; the name says what it guards, for the reader. */
export class Lock {
  #tail: Promise<unknown> = Promise.resolve();
  #held = 0;

  get busy(): boolean {
    return this.#held > 0;
  }

  /** Runs `section` when all earlier ones have ended, however they ended. */
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
