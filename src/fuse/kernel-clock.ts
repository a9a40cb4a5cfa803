/**
 * The clock by which the kernel stamps files (decision 0007). With the writeback cache it stamps written files itself,
 * with a clock that moves only once a tick (up to 10 ms late), or when another file system has used a finer time. The
 * times that we give must come from the same clock, or a file would be changed before it was born, or after it was made
 * immutable.
 */
import type { Clock } from '../base/clock.js';
import type { NativeAddon } from './native.js';

/** Everything but the wall time is that of `clock`. */
export function kernelClock(clock: Clock, native: Pick<NativeAddon, 'fileTime'>): Clock {
  const time = new Float64Array(2);
  return {
    now() {
      native.fileTime(time);
      return { sec: time[0]!, nsec: time[1]! };
    },
    roughSec: () => clock.now().sec,
    monotonicMs: () => clock.monotonicMs(),
    sleep: (delayMs, signal) => clock.sleep(delayMs, signal),
  };
}
