/**
 * Watches the event loop on which a whole mount runs: every application waits for a turn that takes long. It runs only
 * with `--debug`, since the native timer behind it wakes the process up (doc/concurrency.md).
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Logger } from '../base/logger.js';

const resolutionMs = 5;
const periodMs = 1000;
/** A turn that is longer than this is worth a line. */
const stallMs = 20;

/**
 * Logs once a second the longest turn of the event loop, if it was long. Answers a function that ends it. Does not keep
 * the process alive.
 */
export function watchEventLoop(logger: Logger): () => void {
  const delays = monitorEventLoopDelay({ resolution: resolutionMs });
  delays.enable();
  const timer = setInterval(() => {
    const longestMs = delays.max / 1e6 - resolutionMs;
    if (longestMs > stallMs) {
      const { rss, heapUsed, external, arrayBuffers } = process.memoryUsage();
      logger.debug('the event loop was held', { longestMs: Math.round(longestMs), rss, heapUsed, external, arrayBuffers });
    }
    delays.reset();
  }, periodMs);
  timer.unref();
  return () => {
    clearInterval(timer);
    delays.disable();
  };
}
