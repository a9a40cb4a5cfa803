/** The S3 store against Ceph's gateway, with and without faults. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { equalBytes } from '../../src/base/bytes.js';
import type { Clock } from '../../src/base/clock.js';
import { systemClock } from '../../src/base/clock.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { HttpTransportOptions } from '../../src/store/http-transport.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { openStore } from '../../src/store/open-store.js';
import { probeStore } from '../../src/store/probe.js';
import { sha256Hex } from '../../src/store/request-digest.js';
import { RetryingStore } from '../../src/store/retrying-store.js';
import type { S3StoreOptions } from '../../src/store/s3-store.js';
import { S3Store } from '../../src/store/s3-store.js';
import { encodeUnreserved, signRequest } from '../../src/store/sigv4.js';
import { asSealed, collect, objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { writeWhole } from '../suite/whole-file.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { startPrefixGateway } from '../support/prefix-gateway.js';
import { Rgw, type RgwUser, skipS3 } from '../support/rgw.js';
import { freePort } from '../support/server-process.js';

const skip = skipS3();
const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);

if (skip !== undefined) t.test('S3', { skip }, async () => {});
else await run();

async function run(): Promise<void> {
  const scratch = await scratchDirectory(t);
  await mkdir(join(scratch, 'rgw'));
  const rgw = await Rgw.start(join(scratch, 'rgw'));
  t.teardown(() => rgw.stop());
  const env = { AWS_ACCESS_KEY_ID: rgw.user.accessKeyId, AWS_SECRET_ACCESS_KEY: rgw.user.secretAccessKey };
  const location = (port: number, path: string): string => `s3://volumes${path}?endpoint=http://127.0.0.1:${port}`;
  let count = 0;

  const makeStore = (options: Partial<S3StoreOptions> = {}): S3Store =>
    new S3Store({
      bucket: 'volumes',
      prefix: `p${count++}`,
      endpoint: new URL(rgw.endpoint),
      region: 'us-east-1',
      style: 'path',
      loadSettings: async () => ({ credentials: rgw.user }),
      disk: systemDisk,
      ...options,
    });
  const retrying = (inner: ObjectStore): RetryingStore => new RetryingStore(inner, { clock: systemClock, random, disk: systemDisk, baseMs: 10 });

  /** Requests that no store makes: creating buckets, and objects under names that are no keys. */
  const rawPut = async (path: string, credentials: RgwUser = rgw.user): Promise<void> => {
    const payloadHash = sha256Hex('');
    const encoded = `/${path.split('/').map(encodeUnreserved).join('/')}`;
    const headers = signRequest(
      { method: 'PUT', path: encoded, query: [], headers: { host: `127.0.0.1:${rgw.port}`, 'x-amz-content-sha256': payloadHash }, payloadHash },
      { credentials, region: 'us-east-1', service: 's3', timeSec: Math.floor(Date.now() / 1000) },
    );
    const answer = await fetch(`${rgw.endpoint}${encoded}`, { method: 'PUT', headers });
    if (!answer.ok) throw new Error(`PUT ${path}: ${answer.status} ${await answer.text()}`);
  };
  await rawPut('volumes');

  const suite = (name: string, options: Partial<S3StoreOptions>): void =>
    objectStoreSuite(t, name, async () => {
      const prefix = `suite ${count++}/ä&<x>`;
      return {
        store: makeStore({ prefix, ...options }),
        writeFile: (bytes) => writeWhole(systemDisk, join(scratch, `file-${count++}`), bytes),
        plantForeign: (name) => rawPut(`volumes/${prefix}/${name}`),
      };
    });
  suite('S3 over HTTP', {});
  suite('S3 over TLS', {
    endpoint: new URL(`https://localhost:${rgw.tlsPort}`),
    transport: { authorities: rgw.authorities },
  });

  t.test('a bucket in the host name is reached through a proxy', async (t) => {
    const proxy = await FaultProxy.start(rgw.port, random, { tunnel: true });
    t.teardown(() => proxy.stop());
    const transport: HttpTransportOptions = { env: { http_proxy: `http://127.0.0.1:${proxy.port}` } };
    const store = makeStore({ endpoint: new URL(`http://localhost:${rgw.port}`), style: 'virtual', transport });
    t.teardown(() => store.close());
    t.equal(await store.put('keys/a', sealedText('a')), 'created');
    t.equal(Buffer.from((await store.get('keys/a')) ?? []).toString(), 'a');
    t.same(await collect(store.list('keys/')), ['keys/a']);
  });

  for (const way of ['signs', 'strips'] as const) {
    t.test(
      `a store below a path of an endpoint works when the gateway ${way === 'signs' ? 'checks the whole path' : 'takes the path away'}`,
      async (t) => {
        const gateway = await startPrefixGateway({ prefix: '/storage%20%C3%A4/v1/s3', way, origin: rgw.endpoint, credentials: rgw.user });
        t.teardown(() => gateway.stop());
        const endpoint = `${gateway.origin}/storage ä/v1/s3/`;
        const url = `s3://volumes/below a+path/${way}?endpoint=${encodeURIComponent(endpoint)}`;
        const store = await openStore(url, { disk: systemDisk, random, env, create: true });
        t.teardown(() => store.close());
        t.equal(await store.head('keys/a'), undefined);
        t.equal(await store.put('keys/a', sealedText('a'), { ifAbsent: true }), 'created');
        t.equal(await store.put('keys/a', sealedText('b'), { ifAbsent: true }), 'exists');
        t.equal(Buffer.from((await store.get('keys/a')) ?? []).toString(), 'a');
        await store.put('keys/b', sealedText('b'));
        const size = 9 * 1024 * 1024;
        const path = await writeWhole(systemDisk, join(scratch, `below-${way}`), new Uint8Array(size));
        t.equal(await store.put('packs/00/11', { path, size }), 'created');
        t.same(await collect(store.list('')), ['keys/a', 'keys/b', 'packs/00/11']);
        await store.delete(['keys/a', 'keys/b']);
        t.same(await collect(store.list('keys/')), []);
        t.match(store.description, /at 127\.0\.0\.1:\d+\/storage%20%C3%A4\/v1\/s3$/);
        const wrong = makeStore({
          endpoint: new URL(endpoint),
          loadSettings: async () => ({ credentials: { ...rgw.user, secretAccessKey: 'OTHER' } }),
        });
        t.teardown(() => wrong.close());
        await t.rejects(wrong.get('keys/a'), { code: 'DENIED', message: /secret key/ });
      },
    );
  }

  t.test('a bucket with a default retention accepts everything, and the probe reports that objects stay', async (t) => {
    await rgw.makeBucket('locked', { retentionDays: 1 });
    const store = makeStore({ bucket: 'locked' });
    t.teardown(() => store.close());
    const report = await probeStore(store, random);
    t.match(report, { delete: 'works', batchDelete: true, resumablePuts: true, retentionHours: 24 });
    t.ok((report.versionsLeft ?? 0) >= 6, `${report.versionsLeft} old versions`);
    t.equal(await store.put('keys/a', sealedText('a')), 'created');
    t.equal(Buffer.from((await store.get('keys/a')) ?? []).toString(), 'a');
  });

  t.test('the probe reports the features of the gateway', async (t) => {
    const store = makeStore();
    t.teardown(() => store.close());
    t.match(await probeStore(store, random), {
      conditionalPut: 'exact',
      ranges: true,
      readAfterWrite: true,
      listAfterWrite: true,
      listOrdered: true,
      delete: 'works',
      batchDelete: true,
      resumablePuts: true,
    });
  });

  t.test('a URL opens the store, with credentials from the environment or a profile', async (t) => {
    const made = await openStore(location(rgw.port, '/by/url'), { disk: systemDisk, random, env, create: true });
    await made.put('keys/a', sealedText('a'));
    await made.close();
    const home = await scratchDirectory(t);
    const file = join(home, 'credentials');
    await writeFile(file, `[work]\naws_access_key_id = ${rgw.user.accessKeyId}\naws_secret_access_key=${rgw.user.secretAccessKey}\n`);
    const store = await openStore(`${location(rgw.port, '/by/url/')}&profile=work`, {
      disk: systemDisk,
      random,
      env: { AWS_SHARED_CREDENTIALS_FILE: file },
    });
    t.same(await collect(store.list('')), ['keys/a']);
    t.equal(store.local, false);
    t.notMatch(store.description, /TEST/);
    await store.close();
  });

  t.test('more objects than one list or one deletion holds are listed and removed', async (t) => {
    const store = makeStore();
    t.teardown(() => store.close());
    const keys = Array.from({ length: 1100 }, (_, index) => `packs/00/${index.toString(16).padStart(6, '0')}`);
    const queue = [...keys];
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        for (let key = queue.pop(); key !== undefined; key = queue.pop()) await store.put(key, sealedText(key));
      }),
    );
    t.same(await collect(store.list('packs/')), keys);
    t.same(await collect(store.list('packs/', { after: keys[1000] })), keys.slice(1001));
    await store.delete(keys);
    t.same(await collect(store.list('')), []);
  });

  t.test('an error is one line with its remedy and without secrets', async (t) => {
    const failure = async (store: ObjectStore): Promise<{ readonly code: unknown; readonly message: string }> => {
      const error = await collect(store.list('keys/')).then(
        () => new Error('it worked'),
        (thrown: unknown) => thrown as Error,
      );
      const read = await store.get('keys/x').then(
        () => undefined,
        (thrown: unknown) => thrown as Error & { readonly code: unknown },
      );
      await store.close();
      t.equal((read as { readonly code?: unknown } | undefined)?.code, (error as { readonly code?: unknown }).code, 'reading fails as listing does');
      t.notMatch(error.message, /\n|SECRET/);
      return error as Error & { readonly code: unknown };
    };
    const with_ = (accessKeyId: string, secretAccessKey: string): Partial<S3StoreOptions> => ({
      loadSettings: async () => ({ credentials: { accessKeyId, secretAccessKey } }),
    });
    t.match(await failure(makeStore(with_('NOBODY', 'TESTSECRET'))), { code: 'DENIED', message: /access key/ });
    t.match(await failure(makeStore(with_(rgw.user.accessKeyId, 'OTHERSECRET'))), { code: 'DENIED', message: /secret key/ });
    t.match(await failure(makeStore({ bucket: 'nosuchbucket' })), { code: 'NOT_A_STORE', message: /no such bucket/ });
    const stranger = { accessKeyId: 'STRANGER', secretAccessKey: 'STRANGESECRET' };
    rgw.makeUser('stranger', stranger);
    t.match(await failure(makeStore(with_(stranger.accessKeyId, stranger.secretAccessKey))), { code: 'DENIED', message: /permit/ });
    t.match(await failure(makeStore({ endpoint: new URL('http://nosuchhost.invalid') })), { code: 'UNAVAILABLE', message: /no host|resolved/ });
    t.match(await failure(makeStore({ endpoint: new URL(`http://127.0.0.1:${await freePort()}`) })), { code: 'UNAVAILABLE', message: /refuses/ });
    const tls = `https://localhost:${rgw.tlsPort}`;
    t.match(await failure(makeStore({ endpoint: new URL(tls) })), { code: 'UNAVAILABLE', message: /certificate.*ca=/ });
    t.match(await failure(makeStore({ endpoint: new URL(`https://127.0.0.2:${rgw.tlsPort}`), transport: { authorities: rgw.authorities } })), {
      code: 'UNAVAILABLE',
    });
    t.match(await failure(makeStore({ endpoint: new URL(`http://localhost:${rgw.tlsPort}`) })), {});
  });

  t.test('credentials without the right to delete are told so, and nothing is deleted', async (t) => {
    const owner = makeStore({ prefix: 'shared' });
    t.teardown(() => owner.close());
    await owner.put('keys/a', sealedText('a'));
    await owner.put('keys/b', sealedText('b'));
    const credentials = { accessKeyId: 'GUEST', secretAccessKey: 'GUESTSECRET' };
    rgw.makeUser('guest', credentials);
    const guest = makeStore({ prefix: 'shared', loadSettings: async () => ({ credentials }) });
    t.teardown(() => guest.close());
    await t.rejects(guest.delete(['keys/a']), { code: 'DENIED' });
    await t.rejects(guest.delete(['keys/a', 'keys/b']), { code: 'DENIED' });
    await t.rejects(guest.put('keys/c', sealedText('c')), { code: 'DENIED' });
    t.same(await collect(owner.list('')), ['keys/a', 'keys/b']);
  });

  t.test('a clock that is an hour wrong is compensated for', async (t) => {
    for (const hours of [-1, 1]) {
      const clock: Clock = { ...systemClock, now: () => ({ ...systemClock.now(), sec: systemClock.now().sec + hours * 3600 }) };
      const store = makeStore({ clock });
      t.equal(await store.head('keys/a'), undefined);
      t.equal(await store.put('keys/a', sealedText('a')), 'created');
      t.equal(Buffer.from((await store.get('keys/a')) ?? []).toString(), 'a');
      await store.close();
    }
  });

  t.test('replaced credentials are read again', async (t) => {
    let reads = 0;
    const store = makeStore({
      loadSettings: async () => ({ credentials: reads++ === 0 ? { accessKeyId: 'OLDKEY', secretAccessKey: 'x' } : rgw.user }),
    });
    t.teardown(() => store.close());
    t.equal(await store.put('keys/a', sealedText('a')), 'created');
    await store.get('keys/a');
    t.equal(reads, 2);
  });

  t.test('a put whose answer was lost is recognized as our own, and one by another writer is not', async (t) => {
    const proxy = await FaultProxy.start(rgw.port, random);
    t.teardown(() => proxy.stop());
    const store = retrying(makeStore({ prefix: 'lost', endpoint: new URL(`http://127.0.0.1:${proxy.port}`) }));
    t.teardown(() => store.close());
    proxy.faults.answersLost = 1;
    t.equal(await store.put('log/1', sealedText('mine'), { ifAbsent: true }), 'created');
    t.equal(proxy.faults.answersLost, 0);
    proxy.faults.answersLost = 2;
    t.equal(await store.put('log/1', sealedText('other'), { ifAbsent: true }), 'exists');
    t.equal(Buffer.from((await store.get('log/1')) ?? []).toString(), 'mine');
  });

  t.test('randomly cut connections neither lose nor duplicate anything', async (t) => {
    const proxy = await FaultProxy.start(rgw.port, random);
    t.teardown(() => proxy.stop());
    const store = retrying(makeStore({ prefix: 'cuts', endpoint: new URL(`http://127.0.0.1:${proxy.port}`) }));
    t.teardown(() => store.close());
    proxy.faults.cutChance = 0.05;
    const bodies = new Map<string, Uint8Array>();
    for (let index = 0; index < 60; index++) bodies.set(`packs/00/${index}`, random.bytes(1 + random.below(200_000)));
    await Promise.all(
      [...bodies].map(async ([key, bytes]) => {
        // Half of them are in files, like staged packs.
        const path = await writeWhole(systemDisk, join(scratch, `cut-${key.replaceAll('/', '-')}`), bytes);
        const body = bytes.byteLength % 2 === 0 ? asSealed(bytes) : { path, size: bytes.byteLength };
        t.equal(await store.put(key, body, { ifAbsent: true }), 'created');
      }),
    );
    for (const [key, bytes] of bodies) {
      const got = await store.get(key);
      t.ok(got && equalBytes(got, bytes), `${key}, TEST_SEED=${seed}`);
    }
    t.same(await collect(store.list('')), [...bodies.keys()].toSorted());
    t.ok(proxy.cuts > 0);
  });

  t.test('requests to a hanging server are given up in time, and it is used again when it answers', async (t) => {
    const proxy = await FaultProxy.start(rgw.port, random);
    t.teardown(() => proxy.stop());
    const store = makeStore({ endpoint: new URL(`http://127.0.0.1:${proxy.port}`), transport: { idleMs: 300 } });
    t.teardown(() => store.close());
    await store.put('keys/a', sealedText('a'));
    proxy.faults.isHanging = true;
    await t.rejects(store.get('keys/a'), { code: 'UNAVAILABLE', message: /stopped answering|too slow/ });
    await t.rejects(store.put('keys/b', sealedText('b')), { code: 'UNAVAILABLE' });
    const controller = new AbortController();
    const aborted = store.get('keys/a', { signal: controller.signal });
    controller.abort(new Error('enough'));
    await t.rejects(aborted, { message: 'enough' });
    proxy.faults.isHanging = false;
    proxy.cutAll();
    t.equal(Buffer.from((await retrying(store).get('keys/a')) ?? []).toString(), 'a');
  });

  t.test('requests wait for a store whose disks pause for a while', async (t) => {
    const store = retrying(makeStore({ transport: { idleMs: 300 } }));
    t.teardown(() => store.close());
    rgw.holdStorage(true);
    const put = store.put('log/1', sealedText('one'), { ifAbsent: true });
    await t.rejects(makeStore({ transport: { idleMs: 300 } }).get('log/0'), { code: 'UNAVAILABLE' });
    rgw.holdStorage(false);
    t.equal(await put, 'created');
  });

  t.test('a full quota is distinguished from a failure', async (t) => {
    const credentials = { accessKeyId: 'SMALL', secretAccessKey: 'SMALLSECRET' };
    rgw.makeUser('small', credentials);
    await rawPut('smallbucket', credentials);
    rgw.admin('quota', 'set', '--quota-scope=user', '--uid=small', '--max-objects=2');
    rgw.admin('quota', 'enable', '--quota-scope=user', '--uid=small');
    const store = makeStore({ bucket: 'smallbucket', loadSettings: async () => ({ credentials }) });
    t.teardown(() => store.close());
    const fill = async (): Promise<void> => {
      for (let index = 0; index < 10; index++) await store.put(`keys/${index}`, sealedText('x'));
    };
    await t.rejects(fill(), { code: 'FULL', message: /quota/ });
  });
}
