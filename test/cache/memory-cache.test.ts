import t from 'tap';
import { isPromise } from '../../src/base/maybe-promise.js';
import { MemoryCache } from '../../src/cache/memory-cache.js';

const make = (bytesMax = 100): MemoryCache<string, string> => new MemoryCache({ bytesMax, sizeOf: (value) => value.length });

t.test('the least recently used values are evicted first, counted in bytes', async (t) => {
  const cache = make(10);
  cache.set('a', '1234');
  cache.set('b', '1234');
  cache.get('a');
  cache.set('c', '1234');
  t.same(
    ['a', 'b', 'c'].map((key) => cache.has(key)),
    [true, false, true],
  );
  t.equal(cache.bytes, 8);
  cache.set('huge', 'x'.repeat(11));
  t.equal(cache.get('huge'), undefined, 'what is larger than the cache is not kept');
  t.ok(cache.bytes <= 10);
});

t.test('a cached value is returned without a promise', async (t) => {
  const cache = make();
  t.equal(
    cache.load('a', () => 'value'),
    'value',
  );
  t.equal(
    cache.load('a', () => t.fail('loaded twice') as unknown as string),
    'value',
  );
  const promised = cache.load('b', async () => 'later');
  t.ok(isPromise(promised));
  t.equal(await promised, 'later');
  t.equal(
    cache.load('b', () => 'other'),
    'later',
  );
});

t.test('simultaneous requests for a value cause one load', async (t) => {
  for (const bytesMax of [100, 0]) {
    const cache = make(bytesMax);
    let loads = 0;
    const answers = await Promise.all(
      Array.from({ length: 10 }, async () =>
        cache.load('a', async () => {
          loads++;
          return 'value';
        }),
      ),
    );
    t.same(new Set(answers), new Set(['value']));
    t.equal(loads, 1);
    t.equal(cache.get('a'), bytesMax > 0 ? 'value' : undefined);
  }
});

const failing = (): Promise<string> => Promise.reject(new Error('no'));

t.test('a failed load rejects all waiting requests, and the next request retries it', async (t) => {
  const cache = make();
  const results = await Promise.allSettled([cache.load('a', failing), cache.load('a', failing)]);
  t.same(
    results.map((result) => result.status),
    ['rejected', 'rejected'],
  );
  t.throws(() =>
    cache.load('a', () => {
      throw new Error('at once');
    }),
  );
  t.equal(await cache.load('a', async () => 'value'), 'value');
});

t.test('a value that was deleted or set during its load is not put back', async (t) => {
  const cache = make();
  const finish: ((value: string) => void)[] = [];
  const load = (): Promise<string> => new Promise((resolve) => finish.push(resolve));
  for (const [change, after] of [
    [() => cache.delete('a'), undefined],
    [() => cache.set('a', 'newer'), 'newer'],
    [() => cache.clear(), undefined],
  ] as const) {
    cache.clear();
    const loading = cache.load('a', load);
    change();
    finish.pop()?.('older');
    t.equal(await loading, 'older', 'who asked before still gets it');
    t.equal(cache.get('a'), after);
  }
});
