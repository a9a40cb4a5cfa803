/** A clock that stands still until the test moves it; whoever sleeps on it sleeps until it is told to stop. */
import { ManualClock } from './manual-clock.js';

export class HeldClock extends ManualClock {
  override sleep(_delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((_, reject) => {
      if (signal?.aborted) reject(signal.reason as Error);
      else signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
  }
}
