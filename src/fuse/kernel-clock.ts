/**
 * The clock by which the kernel stamps files. With the writeback cache it stamps what is written by itself, with a clock that moves only once
 * a tick (up to 10 ms late): times that we give must come from the same one, or a file would be changed before it was born.
 */
import type { Clock } from '../base/clock.js';
import type { NativeAddon } from './native.js';

/** `clock`, but for the wall time. */
export function kernelClock(clock: Clock, native: Pick<NativeAddon, 'coarseTime'>): Clock {
  const time = new Float64Array(2);
  return {
    now() {
      native.coarseTime(time);
      return { sec: time[0], nsec: time[1] };
    },
    monotonicMs: () => clock.monotonicMs(),
    sleep: (delayMs, signal) => clock.sleep(delayMs, signal),
  };
}
