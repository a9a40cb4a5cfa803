/**
 * Watches the event loop that everything of a mount runs on: whatever holds it for long, every application waits for. For `--debug`;
 * the native timer behind it wakes the process up, so it does not run otherwise (doc/concurrency.md).
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Logger } from '../base/logger.js';

const resolutionMs = 5;
const periodMs = 1000;
/** A turn that is longer than this is worth a line. */
const stallMs = 20;

/** Logs, once a second, the longest turn of the event loop where it was long. Answers what ends it. Does not keep the process alive. */
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
