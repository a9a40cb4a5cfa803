/** S3 servers that are overloaded, confused or hostile, with answers that the real gateway never gives. */
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { probeStore } from '../../src/store/probe.js';
import { RetryingStore } from '../../src/store/retrying-store.js';
import { S3Store } from '../../src/store/s3-store.js';
import { ManualClock } from '../suite/manual-clock.js';
import { collect, sealedText } from '../suite/object-store-suite.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import type { BucketHabits } from '../support/scripted-bucket.js';
import { complain, ScriptedBucket } from '../support/scripted-bucket.js';
import type { Script } from '../support/scripted-server.js';
import { ScriptedServer } from '../support/scripted-server.js';

type Test = typeof t;

const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);
const random = new SeededRandom(seed);
const credentials = { accessKeyId: 'KEY', secretAccessKey: 'SECRET' };

async function serve(t: Pick<Test, 'teardown'>, script: Script, idleMs = 400): Promise<{ readonly server: ScriptedServer; readonly store: S3Store }> {
  const server = await ScriptedServer.start(script);
  const store = new S3Store({
    bucket: 'bucket',
    prefix: '',
    endpoint: new URL(server.origin),
    region: 'us-east-1',
    style: 'path',
    loadSettings: async () => ({ credentials }),
    disk: systemDisk,
    transport: { idleMs },
  });
  t.teardown(async () => {
    await store.close();
    await server.stop();
  });
  return { server, store };
}

t.test('the probe reports a server that ignores conditions, batches or ranges', async (t) => {
  const report = async (options: BucketHabits): Promise<unknown> =>
    probeStore((await serve(t, new ScriptedBucket(options).script, 30_000)).store, random);
  t.match(await report({ condition: 'kept', ranges: true }), {
    conditionalPut: 'exact',
    ranges: true,
    delete: 'works',
    batchDelete: false,
  });
  t.match(await report({ condition: 'ignored', ranges: true }), { conditionalPut: 'none', ranges: true });
  t.match(await report({ condition: 'refused', ranges: true }), { conditionalPut: 'none', delete: 'works' });
  t.match(await report({ condition: 'kept', ranges: false }), { conditionalPut: 'exact', ranges: false });
});

t.test('a server without conditional puts is read before each put', async (t) => {
  const { store } = await serve(t, new ScriptedBucket({ condition: 'refused', ranges: true }).script);
  t.equal(await store.put('keys/a', sealedText('a'), { ifAbsent: true }), 'created');
  t.equal(await store.put('keys/a', sealedText('b'), { ifAbsent: true }), 'exists');
  t.equal(await store.put('keys/a', sealedText('c')), 'exists');
  t.equal(Buffer.from((await store.get('keys/a')) ?? []).toString(), 'a');
});

t.test('a storm of 429, 500 and 503 is waited out, for as long as the server asks', async (t) => {
  const storm: readonly (readonly [number, string, Record<string, string>])[] = [
    [503, 'SlowDown', { 'retry-after': '2' }],
    [500, 'InternalError', {}],
    [429, 'TooManyRequests', { 'retry-after': '1' }],
    [503, 'ServiceUnavailable', {}],
    [400, 'RequestTimeout', {}],
  ];
  let count = 0;
  const { store } = await serve(t, (_, answer) => {
    const next = storm[count++];
    if (next) complain(answer, ...next);
    else answer.writeHead(200, { 'content-length': 1 }).end('a');
  });
  const clock = new ManualClock();
  const retrying = new RetryingStore(store, { clock, random, disk: systemDisk });
  t.equal(Buffer.from((await retrying.get('keys/a')) ?? []).toString(), 'a');
  t.equal(clock.sleeps.length, storm.length);
  t.ok(clock.sleeps[0]! >= 2000 && clock.sleeps[2]! >= 1000, 'Retry-After is kept');
});

t.test('a body that was changed on the way is sent again', async (t) => {
  const complaints = ['XAmzContentSHA256Mismatch', 'BadDigest', 'IncompleteBody'];
  const { store } = await serve(t, (request, answer) => {
    // A read between two attempts shows whether the first one arrived after all.
    const next = request.method === 'PUT' ? complaints.shift() : undefined;
    if (next) complain(answer, 400, next);
    else if (request.method === 'PUT') answer.writeHead(200).end();
    else complain(answer, 404, 'NoSuchKey');
  });
  await t.rejects(store.put('keys/a', sealedText('a')), { code: 'UNAVAILABLE', message: /did not arrive as it was sent/ });
  const retrying = new RetryingStore(store, { clock: new ManualClock(), random, disk: systemDisk });
  t.equal(await retrying.put('keys/a', sealedText('a')), 'created');
  t.same(complaints, []);
});

t.test('a redirect is not followed, and the error names its target', async (t) => {
  let strangers = 0;
  const stranger = await ScriptedServer.start((_, answer) => {
    strangers++;
    answer.writeHead(200).end();
  });
  t.teardown(() => stranger.stop());
  const { store } = await serve(t, (request, answer) =>
    complain(answer, request.method === 'PUT' ? 307 : 301, 'PermanentRedirect', {
      location: `${stranger.origin}/bucket/keys/a`,
      'x-amz-bucket-region': 'eu-central-1',
    }),
  );
  await t.rejects(store.get('keys/a'), { code: 'NOT_A_STORE', message: /region=eu-central-1/ });
  await t.rejects(store.put('keys/a', sealedText('a')), { code: 'NOT_A_STORE' });
  t.equal(strangers, 0, 'nobody else hears of it');
});

t.test('an expired token and an exhausted quota are reported in plain words', async (t) => {
  const answers: [number, string][] = [
    [400, 'ExpiredToken'],
    [403, 'QuotaExceeded'],
    [507, 'InsufficientStorage'],
    [400, 'WhoKnows'],
  ];
  const { store } = await serve(t, (_, answer) => complain(answer, ...(answers[0] ?? [500, ''])));
  await t.rejects(store.put('keys/a', sealedText('a')), { code: 'DENIED', message: /token has expired/ });
  answers.shift();
  await t.rejects(store.put('keys/a', sealedText('a')), { code: 'FULL', message: /quota/ });
  answers.shift();
  await t.rejects(store.put('keys/a', sealedText('a')), { code: 'FULL' });
  answers.shift();
  await t.rejects(store.put('keys/a', sealedText('a')), { code: 'PROTOCOL', message: /^[^\n]*words of the server[^\n]*$/ });
});

t.test('wrong lengths, wrong ranges and endless bodies are refused', async (t) => {
  let act: Script = () => {};
  const { store } = await serve(t, (request, answer) => act(request, answer));
  const range = { range: { offset: 10, length: 10 } };
  const send =
    (status: number, headers: Record<string, string>, body: string): Script =>
    (_, answer) =>
      void answer.writeHead(status, headers).end(body);
  act = send(206, { 'content-range': 'bytes 0-9/100' }, '0123456789');
  await t.rejects(store.get('keys/a', range), { code: 'PROTOCOL' }, 'another range');
  act = send(206, { 'content-range': 'bytes 10-14/100' }, '01234');
  await t.rejects(store.get('keys/a', range), { code: 'PROTOCOL' }, 'less than there is');
  act = send(206, {}, '0123456789');
  await t.rejects(store.get('keys/a', range), { code: 'PROTOCOL' }, 'no word about the range');
  act = send(200, {}, 'x'.repeat(100));
  await t.rejects(store.get('keys/a', range), { code: 'PROTOCOL' }, 'everything');
  act = send(200, { 'content-length': '1000000000000' }, 'x');
  await t.rejects(store.get('keys/a'), { code: 'PROTOCOL' }, 'a bomb that says so');
  act = (_, answer) => {
    answer.writeHead(200);
    const pour = (): void => {
      while (!answer.destroyed && answer.write(Buffer.alloc(65536)));
      if (!answer.destroyed) answer.once('drain', pour);
    };
    pour();
  };
  await t.rejects(store.get('keys/a', { sizeMax: 1_000_000 }), { code: 'PROTOCOL' }, 'a bomb that does not');
  await t.rejects(collect(store.list('')), { code: 'PROTOCOL' }, 'a list that is one');
  act = (_, answer) => {
    answer.writeHead(200, { 'content-length': '100' });
    answer.write('x'.repeat(50));
    setImmediate(() => answer.destroy());
  };
  await t.rejects(store.get('keys/a'), { code: 'UNAVAILABLE' }, 'cut in the middle');
  act = (_, answer) => {
    answer.writeHead(200, { 'content-length': '100' });
    answer.write('x');
  };
  await t.rejects(store.get('keys/a'), { code: 'UNAVAILABLE' }, 'hung in the middle');
});

t.test('malformed and endless lists are refused, and names that are no keys are left out', async (t) => {
  let xml = '';
  const { store } = await serve(t, (_, answer) => void answer.writeHead(200).end(xml));
  for (const wrong of [
    '',
    'x',
    '<html/>',
    '<ListBucketResult>',
    '<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult>&a;</ListBucketResult>',
    '\u0000',
  ]) {
    xml = wrong;
    await t.rejects(collect(store.list('')), { code: 'PROTOCOL' }, JSON.stringify(wrong));
  }
  xml = '<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>';
  await t.rejects(collect(store.list('')), { code: 'PROTOCOL' });
  xml = '<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>a</NextContinuationToken></ListBucketResult>';
  await t.rejects(collect(store.list('')), { code: 'PROTOCOL' });
  const names = ['../up', 'UP', 'keys/a', 'keys//b', '__proto__', '%2e%2e', 'keys/', 'keys/ä', ''];
  const contents = names.map((name) => `<Contents><Key>${encodeURIComponent(name)}</Key><Size>1e9</Size></Contents>`).join('');
  xml = `<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>${contents}<Contents>text</Contents></ListBucketResult>`;
  t.same(await collect(store.list('')), ['keys/a']);
  xml = '<ListBucketResult/>';
  t.same(await collect(store.list('')), []);
});

t.test('a permanent error is reported at once with its remedy, and a temporary one is retried', async (t) => {
  const cases: readonly (readonly [status: number, code: string, expected: string, message: RegExp])[] = [
    [403, 'InvalidObjectState', 'REFUSED', /moved to an archive: restore it/],
    [400, 'KMS.DisabledException', 'REFUSED', /key that the store encrypts this object with.*enable it/],
    [400, 'KMS.NotFoundException', 'REFUSED', /key that the store encrypts/],
    [400, 'KMS.KMSInvalidStateException', 'REFUSED', /key that the store encrypts/],
    [403, 'AccessDenied', 'DENIED', /do not permit it/],
    [403, 'AllAccessDisabled', 'DENIED', /locked for everybody/],
    [403, 'AccountProblem', 'DENIED', /problem with the account/],
    [403, 'NotSignedUp', 'DENIED', /problem with the account/],
    [403, 'UserSuspended', 'DENIED', /problem with the account/],
    [403, 'InvalidAccessKeyId', 'DENIED', /does not know this access key/],
    [403, 'InvalidClientTokenId', 'DENIED', /get new credentials/],
    [400, 'ExpiredToken', 'DENIED', /get new credentials/],
    [403, 'RequestTimeTooSkewed', 'DENIED', /clock.*set it/],
    [403, 'SomethingNew', 'DENIED', /refuses/],
    [400, 'SomethingNew', 'PROTOCOL', /SomethingNew/],
    [501, 'NotImplemented', 'PROTOCOL', /NotImplemented/],
    [503, 'SlowDown', 'UNAVAILABLE', /cannot answer now/],
    [400, 'KMS.ThrottlingException', 'UNAVAILABLE', /cannot answer now/],
    [400, 'ThrottlingException', 'UNAVAILABLE', /cannot answer now/],
    [500, '', 'UNAVAILABLE', /cannot answer now/],
  ];
  for (const [status, code, expected, message] of cases) {
    const { server, store } = await serve(t, (_, answer) => complain(answer, status, code), 30_000);
    const retrying = new RetryingStore(store, { clock: new ManualClock(), random, disk: systemDisk });
    await t.rejects(retrying.get('keys/a'), { code: expected, message }, code);
    // A wrong clock or replaced credentials justify one retry, an outage many.
    const isTriedAgain = server.requests.length > 2;
    t.equal(isTriedAgain, expected === 'UNAVAILABLE', `${code}: ${server.requests.length} requests`);
  }
});
