/**
 * What has been opened so far. It is closed when the opening fails halfway, or when what was opened is no longer
 * needed.
 */
export class ClosingStack {
  readonly #closers: (() => void | Promise<void>)[] = [];

  push(close: () => void | Promise<void>): void {
    this.#closers.push(close);
  }

  /**
   * Closes the newest first, one after the other, also when one of them fails. Rejects with the first error in the end.
   */
  async close(): Promise<void> {
    const errors: unknown[] = [];
    for (const close of this.#closers.splice(0).toReversed()) {
      try {
        await close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
