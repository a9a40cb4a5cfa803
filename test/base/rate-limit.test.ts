import t from 'tap';
import type { Clock } from '../../src/base/clock.js';
import { systemClock } from '../../src/base/clock.js';
import { RateLimit } from '../../src/base/rate-limit.js';
import { ManualClock } from '../suite/manual-clock.js';

/** A clock on which sleepers wake only when the test advances it. */
class FrozenClock extends ManualClock {
  override sleep(_delayMs: number, signal?: AbortSignal): Promise<void> {
    return new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)));
  }
}

t.test('without a limit nobody waits', async (t) => {
  const limit = new RateLimit(systemClock);
  t.equal(limit.take(1e9), undefined);
});

t.test('bytes pass at the rate, whatever the size of the pieces', async (t) => {
  for (const pieces of [[1_000_000], Array<number>(1000).fill(1000), [1, 999_999]]) {
    const clock = new ManualClock();
    const limit = new RateLimit(clock, 100_000);
    const startMs = clock.monotonicMs();
    for (const piece of [...pieces, 1]) await limit.take(piece);
    const tookMs = clock.monotonicMs() - startMs;
    t.ok(tookMs >= 9_700 && tookMs <= 11_100, `${pieces.length} pieces take ${tookMs} ms`);
  }
});

t.test('several transfers share the rate in the order in which they ask', async (t) => {
  const clock = new ManualClock();
  const limit = new RateLimit(clock, 1000);
  const order: string[] = [];
  const transfer = async (name: string): Promise<void> => {
    for (let count = 0; count < 3; count++) {
      await limit.take(1000);
      order.push(name);
    }
  };
  await Promise.all([transfer('a'), transfer('b')]);
  t.same(order, ['a', 'b', 'a', 'b', 'a', 'b']);
});

t.test('a pause is no credit for a long burst', async (t) => {
  const clock = new ManualClock();
  const limit = new RateLimit(clock, 1000);
  clock.advance(3_600_000);
  const startMs = clock.monotonicMs();
  for (let count = 0; count < 10; count++) await limit.take(500);
  t.ok(clock.monotonicMs() - startMs >= 4_000);
});

t.test('whoever waits when the rate changes waits by the new one', async (t) => {
  const clock: Clock = new FrozenClock();
  const limit = new RateLimit(clock, 1);
  await limit.take(1_000_000);
  const waiting = limit.take(1);
  await Promise.resolve();
  limit.bytesPerSecond = undefined;
  await waiting;
  t.equal(limit.take(1), undefined);
});

t.test('an abort ends the wait, and holds up nobody else', async (t) => {
  const clock = new FrozenClock();
  const limit = new RateLimit(clock, 1000);
  await limit.take(1000);
  const stop = new AbortController();
  const given = limit.take(1_000_000_000, stop.signal);
  const next = limit.take(1);
  await Promise.resolve();
  stop.abort(new Error('given up'));
  await t.rejects(async () => given, { message: 'given up' });
  clock.advance(2000);
  limit.bytesPerSecond = 1000;
  await next;
  t.pass('the next one passes');
});
