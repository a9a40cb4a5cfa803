/**
 * Uploads of large objects to an S3 bucket: in parts, which survive cut links and restarts and are never left behind.
 */
import { randomBytes } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { equalBytes } from '../../src/base/bytes.js';
import { systemClock } from '../../src/base/clock.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { FileBody } from '../../src/store/object-store.js';
import { RetryingStore } from '../../src/store/retrying-store.js';
import { S3Store } from '../../src/store/s3-store.js';
import { asSealed, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { writeWhole } from '../suite/whole-file.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { Rgw, skipS3 } from '../support/rgw.js';
import type { BucketHabits } from '../support/scripted-bucket.js';
import { complain, ScriptedBucket } from '../support/scripted-bucket.js';
import type { ScriptedRequest, ScriptedServer } from '../support/scripted-server.js';

type Test = typeof t;

const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);
const scratch = await scratchDirectory(t);
const mebibyte = 1024 * 1024;
const packKey = 'packs/00/00112233445566778899aabbccddeeff';

interface Body {
  readonly bytes: Uint8Array;
  readonly file: FileBody;
}

async function makeBody(name: string, size: number): Promise<Body> {
  const bytes = randomBytes(size);
  return { bytes, file: { path: await writeWhole(systemDisk, join(scratch, name), bytes), size } };
}

function storeAt(t: Pick<Test, 'teardown'>, origin: string): S3Store {
  const store = new S3Store({
    bucket: 'bucket',
    prefix: 'a',
    endpoint: new URL(origin),
    region: 'us-east-1',
    style: 'path',
    loadSettings: async () => ({ credentials: { accessKeyId: 'TESTKEY', secretAccessKey: 'TESTSECRET' } }),
    disk: systemDisk,
  });
  t.teardown(() => store.close());
  return store;
}

async function startBucket(
  t: Pick<Test, 'teardown'>,
  habits: Partial<BucketHabits> = {},
): Promise<{ readonly bucket: ScriptedBucket; readonly server: ScriptedServer }> {
  const bucket = new ScriptedBucket({ condition: 'kept', ranges: true, uploads: true, ...habits });
  const server = await bucket.start();
  t.teardown(() => server.stop());
  return { bucket, server };
}

const retrying = (inner: S3Store): RetryingStore =>
  new RetryingStore(inner, { clock: systemClock, random, disk: systemDisk, baseMs: 5, waitMaxMs: 20 });
const isPart = ({ method, target }: ScriptedRequest): boolean => method === 'PUT' && target.includes('partNumber=');
const partNumbers = (requests: readonly ScriptedRequest[]): string[] =>
  requests.filter(isPart).map(({ target }) => /partNumber=(\d+)/.exec(target)?.[1] ?? '');

t.test('a large object is uploaded in parts of 5 MiB, and a small or contested one in one piece', async (t) => {
  const { bucket, server } = await startBucket(t);
  const store = storeAt(t, server.origin);
  const { bytes, file } = await makeBody('large', 16 * mebibyte);
  t.equal(await store.put(packKey, file), 'created');
  t.ok(bucket.objects.get(`a/${packKey}`)?.equals(bytes));
  t.same(
    server.requests.filter(isPart).map(({ body }) => body.length),
    [5, 5, 5, 1].map((count) => count * mebibyte),
  );
  t.ok(server.requests.filter(({ body }) => body.length > 0).every(({ headers }) => headers['content-md5'] !== undefined));
  t.equal(bucket.uploads.size, 0);
  const before = server.requests.length;
  t.equal(await store.put(`${packKey.slice(0, -1)}0`, (await makeBody('small', 8 * mebibyte)).file), 'created');
  t.equal(await store.put('log/1', (await makeBody('commit', 9 * mebibyte)).file, { ifAbsent: true }), 'created');
  t.same(partNumbers(server.requests.slice(before)), []);
  t.equal(await store.put(packKey, file), 'exists', 'one that is there is not sent again');
  t.same(partNumbers(server.requests.slice(before)), []);
  t.equal((await store.traits()).resumablePuts, true);
});

t.test('parts that arrived before a restart are not sent again', async (t) => {
  const { bucket, server } = await startBucket(t);
  const { bytes, file } = await makeBody('restart', 16 * mebibyte);
  bucket.faults = (request, answer) => {
    if (!isPart(request) || !request.target.includes('partNumber=3')) return false;
    answer.destroy();
    return true;
  };
  await t.rejects(storeAt(t, server.origin).put(packKey, file), { code: 'UNAVAILABLE', isProgress: true });
  t.equal(bucket.uploads.size, 1);
  bucket.faults = () => false;
  const before = server.requests.length;
  t.equal(await storeAt(t, server.origin).put(packKey, file), 'created');
  t.same(partNumbers(server.requests.slice(before)), ['3', '4']);
  t.ok(bucket.objects.get(`a/${packKey}`)?.equals(bytes));
  t.equal(bucket.uploads.size, 0);
});

t.test('a part that differs in the store is sent again', async (t) => {
  const { bucket, server } = await startBucket(t);
  const { bytes, file } = await makeBody('altered', 11 * mebibyte);
  const parts = new Map([[1, Buffer.alloc(5 * mebibyte)]]);
  bucket.uploads.set('old', { key: `a/${packKey}`, initiatedMs: Date.now(), parts });
  t.equal(await storeAt(t, server.origin).put(packKey, file), 'created');
  t.same(partNumbers(server.requests), ['1', '2', '3']);
  t.ok(bucket.objects.get(`a/${packKey}`)?.equals(bytes));
});

t.test('unfinished uploads are aborted after a day, and foreign ones are left alone', async (t) => {
  const { bucket, server } = await startBucket(t);
  const dayMs = 24 * 3600 * 1000;
  const begin = (id: string, key: string, ageMs: number): void => {
    bucket.uploads.set(id, { key, initiatedMs: Date.now() - ageMs, parts: new Map() });
  };
  begin('stale', 'a/packs/11/ff', 2 * dayMs);
  begin('young', 'a/packs/22/ff', dayMs / 2);
  begin('elsewhere', 'b/packs/11/ff', 9 * dayMs);
  begin('foreign', 'a/photos/x', 9 * dayMs);
  const store = storeAt(t, server.origin);
  await store.get(packKey);
  await store.put('keys/a', sealedText('a'));
  t.equal(bucket.uploads.size, 4, 'who puts nothing large removes nothing');
  await store.put(packKey, (await makeBody('cleaner', 9 * mebibyte)).file);
  t.same([...bucket.uploads.keys()], ['young', 'elsewhere', 'foreign']);
});

t.test('an object is sent in one piece to a store that refuses uploads in parts', async (t) => {
  const { bytes, file } = await makeBody('whole', 9 * mebibyte);
  const cases: readonly (readonly [name: string, habits: Partial<BucketHabits>, faults: ScriptedBucket['faults']])[] = [
    ['it knows no such request', { uploads: false }, () => false],
    [
      'a policy forbids it',
      {},
      ({ method, target }, answer) => method === 'POST' && target.includes('uploads=') && (complain(answer, 403, 'AccessDenied'), true),
    ],
    [
      'its parts must be larger',
      {},
      ({ method, target }, answer) => method === 'POST' && target.includes('uploadId=') && (complain(answer, 400, 'EntityTooSmall'), true),
    ],
    ['uploads are lost at once', {}, ({ target }, answer) => target.includes('partNumber=') && (complain(answer, 404, 'NoSuchUpload'), true)],
  ];
  for (const [name, habits, faults] of cases) {
    const { bucket, server } = await startBucket(t, habits);
    bucket.faults = faults;
    const store = storeAt(t, server.origin);
    t.equal(await store.put(packKey, file), 'created', name);
    t.ok(bucket.objects.get(`a/${packKey}`)?.equals(bytes), name);
    if (name !== 'uploads are lost at once') {
      t.equal(bucket.uploads.size, 0, `${name}: nothing is left behind`);
      t.equal((await store.traits()).resumablePuts, false, name);
    }
  }
});

t.test('one object and no unfinished upload is left, whichever answer is lost', async (t) => {
  const { bytes, file } = await makeBody('lost', 11 * mebibyte);
  for (const isLost of [
    ({ method, target }: ScriptedRequest) => method === 'POST' && target.includes('uploads='),
    isPart,
    ({ method, target }: ScriptedRequest) => method === 'POST' && target.includes('uploadId='),
  ]) {
    const { bucket, server } = await startBucket(t);
    const { script } = bucket;
    let lost = 0;
    // The request is carried out, and its answer is lost.
    bucket.faults = (request, answer) => {
      if (lost > 0 || !isLost(request)) return false;
      lost++;
      const { socket } = answer;
      answer.end = (() => {
        socket?.destroy();
        return answer;
      }) as typeof answer.end;
      script(request, answer);
      return true;
    };
    t.equal(await retrying(storeAt(t, server.origin)).put(packKey, file), 'created');
    t.equal(lost, 1);
    t.ok(bucket.objects.get(`a/${packKey}`)?.equals(bytes));
    t.equal(bucket.uploads.size, 0);
  }
});

t.test('an upload that is answered with status 200 and an error in the body has failed', async (t) => {
  const { bucket, server } = await startBucket(t);
  let failures = 0;
  bucket.faults = ({ method, target }, answer) => {
    if (method !== 'POST' || !target.includes('uploadId=') || failures++ > 0) return false;
    complain(answer, 200, 'InternalError');
    return true;
  };
  const { bytes, file } = await makeBody('late', 9 * mebibyte);
  t.equal(await retrying(storeAt(t, server.origin)).put(packKey, file), 'created');
  t.equal(failures, 2);
  t.ok(bucket.objects.get(`a/${packKey}`)?.equals(bytes));
});

t.test('every body carries a checksum when the bucket locks objects', async (t) => {
  const { bucket, server } = await startBucket(t, { isLocked: true });
  const store = storeAt(t, server.origin);
  t.equal(await store.put('keys/a', sealedText('a')), 'created');
  const { bytes, file } = await makeBody('locked', 300_000);
  t.equal(await store.put('packs/11/ff', file), 'created');
  t.equal(await store.put('packs/22/ff', asSealed(bytes)), 'created');
  t.equal(await store.put(packKey, (await makeBody('locked-large', 9 * mebibyte)).file), 'created');
  t.equal(bucket.objects.size, 4);
  t.equal((await store.traits()).keepsVersions, true);
});

const skip = skipS3();
t.test('a large pack reaches the gateway over a link that is cut all the time', { skip: skip ?? false }, async (t) => {
  const folder = join(scratch, 'rgw');
  await mkdir(folder);
  const rgw = await Rgw.start(folder);
  t.teardown(() => rgw.stop());
  await rgw.makeBucket('bucket');
  const proxy = await FaultProxy.start(rgw.port, random);
  t.teardown(() => proxy.stop());
  // All of 256 pieces of 64 KiB get through once in two thousand attempts; all of 80 once in eleven.
  proxy.faults.cutChance = 0.03;
  const { bytes, file } = await makeBody('cut', 16 * mebibyte);
  const store = retrying(storeAt(t, `http://127.0.0.1:${proxy.port}`));
  t.equal(await store.put(packKey, file), 'created');
  t.comment(`${proxy.cuts} cuts`);
  t.ok(proxy.cuts > 0);
  proxy.faults.cutChance = 0;
  const stored = await store.get(packKey);
  t.ok(stored && equalBytes(stored, bytes), `TEST_SEED=${seed}`);
});
