/** Work that Ctrl-C ends between two steps, with everything closed and exit code 130. */
import { Failure } from './exit-code.js';

/** Runs `work` with a signal that SIGINT and SIGTERM abort. Throws Failure `INTERRUPTED` when it was given up. */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const stop = (): void => controller.abort(new Failure('INTERRUPTED', 'interrupted: nothing was changed'));
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);
  try {
    return await work(controller.signal);
  } catch (error) {
    // Whatever failed after the abort failed because of it.
    throw controller.signal.aborted ? (controller.signal.reason as Failure) : error;
  } finally {
    process.off('SIGINT', stop);
    process.off('SIGTERM', stop);
  }
}
