/** Tests the limits of waits for the store (src/volume/patience.ts). No real time passes. */
import t from 'tap';
import { Patience } from '../../src/volume/patience.js';
import { StepClock } from '../suite/step-clock.js';

const never = <T>(): Promise<T> => new Promise(() => {});

t.test('each wait ends at its own deadline, and results in time are delivered', async (t) => {
  const clock = new StepClock();
  const patience = new Patience(clock, 1000);
  const ended: string[] = [];
  const wait = (name: string, work: Promise<unknown>): void => {
    patience.wait(work).then(
      (value) => ended.push(`${name} ${String(value)}`),
      (error: { code: string }) => ended.push(`${name} ${error.code}`),
    );
  };
  let arrive!: (value: string) => void;
  wait('first', never());
  wait('second', new Promise((resolve) => (arrive = resolve)));
  wait('third', Promise.reject(Object.assign(new Error('failed'), { code: 'FAILED' })));
  await clock.advance(600);
  t.same(ended, ['third FAILED']);
  wait('fourth', never());
  arrive('came');
  await clock.advance(399);
  t.same(ended, ['third FAILED', 'second came']);
  await clock.advance(1);
  t.same(ended.at(-1), 'first UNAVAILABLE');
  await clock.advance(599);
  t.equal(ended.length, 3);
  await clock.advance(1);
  t.same(ended.at(-1), 'fourth UNAVAILABLE');
  wait('fifth', never());
  await clock.advance(1000);
  t.same(ended.at(-1), 'fifth UNAVAILABLE', 'after a pause without waits');
});

t.test('an interrupted caller gets its error at once, with or without a limit', async (t) => {
  for (const patienceMs of [undefined, 1000]) {
    const patience = new Patience(new StepClock(), patienceMs);
    const caller = new AbortController();
    const waits = patience.wait(never(), caller.signal);
    caller.abort();
    await t.rejects(waits, { code: 'INTERRUPTED' });
    await t.rejects(patience.wait(never(), caller.signal), { code: 'INTERRUPTED' }, 'also if aborted before the wait');
    t.equal(await patience.wait(Promise.resolve(5), new AbortController().signal), 5);
  }
});
