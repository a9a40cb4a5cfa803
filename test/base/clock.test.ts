/** The system clock of the program. */
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';

t.test('wall time is whole seconds and nanoseconds of one instant, also at the end of a second and before 1970', (t) => {
  const real = Date.now;
  t.teardown(() => {
    Date.now = real;
  });
  for (const ms of [1_700_000_000_999, 1_700_000_001_000, -1, 0]) {
    let reading = ms;
    // The next reading is already in the next second.
    Date.now = () => {
      const now = reading;
      reading += 1;
      return now;
    };
    const { sec, nsec } = systemClock.now();
    t.equal(sec, Math.floor(ms / 1000));
    t.equal(Math.floor(nsec / 1e6), ms - sec * 1000);
    t.ok(Number.isInteger(nsec) && nsec < 1e9);
  }
  t.end();
});
