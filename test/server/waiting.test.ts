/** Waiting for objects: what wakes a waiting request, with one server and with two on one base, and how a wait ends. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { CountingStore } from '../suite/counting-store.js';
import { sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { eventually } from './raw-client.js';
import type { ServedOptions } from './served.js';
import { Served } from './served.js';

const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);
const scratch = await scratchDirectory(t);
let count = 0;
const long = { timeoutMs: 60_000 };

async function serve(t: Test, base: ObjectStore, options: Partial<ServedOptions> = {}): Promise<Served> {
  const folder = join(scratch, `server-${count++}`);
  await mkdir(folder);
  const served = await Served.start({ base, folder, random, ...options });
  t.teardown(() => served.server.stop(0));
  return served;
}

const waiters = (served: Served): number => Number(/sealdrive_waiters (\d+)/.exec(served.server.measure().text())?.[1]);

async function client(t: Test, served: Served, right: 'read' | 'full' = 'full'): Promise<ReturnType<Served['client']>> {
  const made = served.client(await served.token(right));
  t.teardown(() => made.close());
  return made;
}

t.test('a put wakes only the requests that wait for its key, without a read of the base store', async (t) => {
  const base = new CountingStore(new MemoryStore({ disk: systemDisk }));
  const served = await serve(t, base, { pollMs: 0 });
  const writer = await client(t, served);
  const reader = await client(t, served, 'read');
  const waits = [reader.awaitObject('log/1', long), writer.awaitObject('log/1', long), reader.awaitObject('log/2', { timeoutMs: 60_000 })];
  await eventually(() => waiters(served) === 3);
  const before = base.counts.heads;
  await writer.put('log/1', sealedText('one'));
  t.same(await Promise.all(waits.slice(0, 2)), [true, true]);
  t.equal(waiters(served), 1);
  t.equal(base.counts.heads, before + 2, 'one for each answer');
  await writer.put('log/2', sealedText('two'));
  t.equal(await waits[2], true);
});

t.test('a wait for an existing object is answered at once, and a wait for a missing one when it times out', async (t) => {
  const served = await serve(t, new MemoryStore({ disk: systemDisk }));
  const store = await client(t, served);
  await store.put('log/1', sealedText('one'));
  t.equal(await store.awaitObject('log/1', long), true);
  t.equal(await store.awaitObject('log/2', { timeoutMs: 30 }), false);
  t.equal(await store.awaitObject('log/2', { timeoutMs: 0 }), false);
  t.equal(await store.awaitObject('log/1', { timeoutMs: 0 }), true);
});

t.test('a waiting get is answered with the object itself', async (t) => {
  const served = await serve(t, new MemoryStore({ disk: systemDisk }));
  const store = await client(t, served);
  const token = await served.token('read');
  const answer = fetch(`${served.origin}/photos/log/7?wait=60000`, { headers: { authorization: `Bearer ${token}` } });
  await eventually(() => waiters(served) === 1);
  await store.put('log/7', sealedText('seven'));
  t.equal(await (await answer).text(), 'seven');
});

t.test('a put through one of two servers on a base wakes requests that wait at the other', async (t) => {
  const base = new CountingStore(new MemoryStore({ disk: systemDisk }));
  const one = await serve(t, base);
  const two = await serve(t, base, { tokenFile: one.tokenFile });
  const writer = await client(t, one);
  const reader = two.client(await one.token('read'));
  t.teardown(() => reader.close());
  const waits = Array.from({ length: 10 }, () => reader.awaitObject('log/1', long));
  await eventually(() => waiters(two) === 10);
  const { heads } = base.counts;
  await eventually(() => base.counts.heads >= heads + 5);
  await writer.put('log/1', sealedText('one'));
  t.same(new Set(await Promise.all(waits)), new Set([true]));
  const after = base.counts.heads;
  await writer.head('log/1');
  await writer.head('log/1');
  t.ok(base.counts.heads <= after + 3, 'nobody waits: the base is left alone');
});

t.test('requests go on waiting while the base store fails', async (t) => {
  const inner = new MemoryStore({ disk: systemDisk });
  let isDown = false;
  const failing = new Proxy(inner, {
    get(target, name) {
      if (name === 'head' && isDown) return () => Promise.reject(new StoreError('UNAVAILABLE', 'the base is away'));
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  const served = await serve(t, failing);
  const store = await client(t, served);
  const wait = store.awaitObject('log/1', long);
  await eventually(() => waiters(served) === 1);
  isDown = true;
  await eventually(() => served.logLines.some((line) => line.includes('the base cannot be asked')));
  await t.rejects(store.head('log/1'), { code: 'UNAVAILABLE' });
  await inner.put('photos/log/1', sealedText('one'));
  isDown = false;
  t.equal(await wait, true);
});

t.test('removing a token ends the waits and uploads that use it', async (t) => {
  const base = new MemoryStore({ disk: systemDisk });
  const served = await serve(t, base);
  const token = await served.token('append');
  const store = served.client(token);
  t.teardown(() => store.close());
  const wait = store.awaitObject('log/1', long);
  await eventually(() => waiters(served) === 1);
  const { request } = await import('node:http');
  const { hostname, port } = new URL(served.origin);
  const upload = new Promise<number | undefined>((resolve, reject) => {
    const asked = request(
      { hostname, port, method: 'PUT', path: '/photos/keys/x', headers: { authorization: `Bearer ${token}`, 'content-length': 3 } },
      (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      },
    );
    asked.on('error', reject);
    asked.write('a');
    void eventually(() => /sealdrive_requests 1\n/.test(served.server.measure().text()))
      .then(() => served.removeToken(token))
      .then(() => asked.end('bc'));
  });
  t.equal(await upload, 401);
  t.equal(await base.get('photos/keys/x'), undefined);
  await base.put('photos/log/1', sealedText('one'));
  await t.rejects(wait, { code: 'DENIED' });
  await t.rejects(store.head('log/1'), { code: 'DENIED' });
});

t.test('a stopping server dismisses waiting requests and finishes running ones', async (t) => {
  const base = new MemoryStore({ disk: systemDisk });
  const served = await serve(t, base);
  const store = await client(t, served);
  const waits = Array.from({ length: 5 }, () => store.awaitObject('log/1', long));
  const ended = Promise.allSettled(waits);
  await eventually(() => waiters(served) === 5);
  const token = await served.token();
  const { request } = await import('node:http');
  const { hostname, port } = new URL(served.origin);
  let asked: ReturnType<typeof request> | undefined;
  const upload = new Promise<number | undefined>((resolve, reject) => {
    asked = request(
      { hostname, port, method: 'PUT', path: '/photos/packs/ab/x', headers: { authorization: `Bearer ${token}`, 'content-length': 200_000 } },
      (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      },
    );
    asked.on('error', reject);
    asked.write(Buffer.alloc(100_000));
  });
  await eventually(() => /sealdrive_requests 1\n/.test(served.server.measure().text()));
  const stopped = served.server.stop(60_000);
  for (const outcome of await ended) {
    t.match(outcome, { status: 'rejected', reason: { code: 'UNAVAILABLE', retryAfterMs: 1000 } });
  }
  asked?.end(Buffer.alloc(100_000));
  t.equal(await upload, 201);
  t.equal(await stopped, true, 'nothing was cut');
  t.equal((await base.get('photos/packs/ab/x'))?.byteLength, 200_000);
  await t.rejects(store.head('log/1'), { code: 'UNAVAILABLE' });
});

t.test('a stopping server does not wait forever', async (t) => {
  const served = await serve(t, new MemoryStore({ disk: systemDisk }));
  const token = await served.token();
  const { request } = await import('node:http');
  const { hostname, port } = new URL(served.origin);
  const asked = request({
    hostname,
    port,
    method: 'PUT',
    path: '/photos/keys/x',
    headers: { authorization: `Bearer ${token}`, 'content-length': 3 },
  });
  const failed = new Promise((resolve) => asked.on('error', resolve));
  asked.write('a');
  await eventually(() => /sealdrive_requests 1\n/.test(served.server.measure().text()));
  t.equal(await served.server.stop(10), false);
  t.match(await failed, { code: 'ECONNRESET' });
});

t.test('a client that gives up waiting frees its place', async (t) => {
  const served = await serve(t, new MemoryStore({ disk: systemDisk }));
  const store = await client(t, served);
  const controller = new AbortController();
  const wait = store.awaitObject('log/1', { timeoutMs: 60_000, signal: controller.signal });
  await eventually(() => waiters(served) === 1);
  controller.abort(new Error('enough'));
  await t.rejects(wait, /enough/);
  await eventually(() => waiters(served) === 0);
});
