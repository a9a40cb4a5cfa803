/**
 * The store behind `sealdrive serve`, in front of every kind of base that this machine has, and other servers in its
 * place.
 */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { equalBytes } from '../../src/base/bytes.js';
import type { Clock } from '../../src/base/clock.js';
import { systemClock } from '../../src/base/clock.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { HttpStore } from '../../src/store/http-store.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { openStore } from '../../src/store/open-store.js';
import { probeStore } from '../../src/store/probe.js';
import { Served, uploadFolderAt } from '../server/served.js';
import { asSealed, collect, objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { writeWhole } from '../suite/whole-file.js';
import { Rgw, skipS3 } from '../support/rgw.js';
import { ScriptedServer } from '../support/scripted-server.js';

const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);
const scratch = await scratchDirectory(t);
let count = 0;

async function folder(): Promise<string> {
  const path = join(scratch, `folder-${count++}`);
  await mkdir(path);
  return path;
}

/** Runs the contract over a server in front of the base that `make` returns. */
function suite(name: string, make: (place: string) => Promise<{ readonly base: ObjectStore; readonly uploads?: string }>): void {
  objectStoreSuite(t, name, async () => {
    const place = await folder();
    const { base, uploads } = await make(place);
    const served = await Served.start({
      base,
      folder: place,
      random,
      ...(uploads === undefined ? {} : { uploads: uploadFolderAt(uploads, random) }),
    });
    return {
      store: served.client(await served.token()),
      writeFile: (bytes) => writeWhole(systemDisk, join(place, `file-${count++}`), bytes),
      async remove() {
        t.ok(await served.server.stop(5000), 'nobody was cut off');
        await base.close();
        t.same(
          served.logLines.filter((line) => /"level":"(warn|error)"/.test(line)),
          [],
        );
      },
    };
  });
}

suite('serve on a directory', async (place) => {
  const base = await DirectoryStore.create(join(place, 'base'), { disk: systemDisk, random });
  return { base, uploads: base.temporaryFolder };
});
suite('serve in front of memory', async () => ({ base: new MemoryStore({ disk: systemDisk }) }));

const skip = skipS3();
if (skip === undefined) {
  const rgw = await Rgw.start(await folder());
  t.teardown(() => rgw.stop());
  const credentials = { AWS_ACCESS_KEY_ID: rgw.user.accessKeyId, AWS_SECRET_ACCESS_KEY: rgw.user.secretAccessKey };
  const open = (bucket: string): Promise<ObjectStore> =>
    openStore(`s3://${bucket}/served?endpoint=${rgw.endpoint}`, { disk: systemDisk, random, env: { HOME: scratch, ...credentials } });
  suite('serve in front of S3', async () => {
    const bucket = `served-${count++}`;
    await rgw.makeBucket(bucket);
    return { base: await open(bucket) };
  });
} else t.test('serve in front of S3', { skip }, async () => {});

t.test('simultaneous transfers of large objects are not mixed up, also when some are aborted', async (t) => {
  const place = await folder();
  const base = await DirectoryStore.create(join(place, 'base'), { disk: systemDisk, random });
  const served = await Served.start({ base, folder: place, random, uploads: uploadFolderAt(base.temporaryFolder, random) });
  const store = served.client(await served.token());
  t.teardown(async () => {
    await store.close();
    await served.server.stop(0);
    await base.close();
  });
  const bodies = Array.from({ length: 6 }, (_, index) => {
    const bytes = Buffer.alloc(2_500_000 + index * 333_333, index);
    for (let at = 0; at < bytes.length; at += 1000) bytes.writeUInt32LE(at + index, Math.min(at, bytes.length - 4));
    return bytes;
  });
  await Promise.all(bodies.map((body, index) => store.put(`packs/aa/${index}`, asSealed(body))));
  const gets = Array.from({ length: 60 }, async (_, round) => {
    const index = random.below(bodies.length);
    const key = `packs/aa/${index}`;
    if (round % 5 === 0) {
      const controller = new AbortController();
      const got = store.get(key, { signal: controller.signal });
      setImmediate(() => controller.abort(new Error('enough')));
      await got.catch(() => {});
      return true;
    }
    const offset = random.below(2_000_000);
    const length = 1 + random.below(round % 2 === 0 ? 1_500_000 : 300_000);
    const got = round % 3 === 0 ? await store.get(key) : await store.get(key, { range: { offset, length } });
    return got !== undefined && equalBytes(got, round % 3 === 0 ? bodies[index]! : bodies[index]!.subarray(offset, offset + length));
  });
  t.same(new Set(await Promise.all(gets)), new Set([true]));
});

t.test('the probe finds no missing feature', async (t) => {
  const served = await Served.start({ base: new MemoryStore({ disk: systemDisk }), folder: await folder(), random });
  const store = served.client(await served.token());
  t.teardown(async () => {
    await store.close();
    await served.server.stop(0);
  });
  t.match(await probeStore(store, random), { conditionalPut: 'exact', ranges: true, readAfterWrite: true, listAfterWrite: true, listOrdered: true });
});

t.test('an append token can open, read and add, and is refused everything else', async (t) => {
  const served = await Served.start({ base: new MemoryStore({ disk: systemDisk }), folder: await folder(), random });
  const [append, read] = [served.client(await served.token('append')), served.client(await served.token('read'))];
  t.teardown(async () => {
    await Promise.all([append.close(), read.close()]);
    await served.server.stop(0);
  });
  await append.create();
  t.equal(await append.put('keys/a', sealedText('a')), 'created');
  t.equal(await append.put('keys/a', sealedText('b')), 'exists');
  await t.rejects(append.delete(['keys/a']), { code: 'DENIED' });
  await t.rejects(append.delete(['keys/a', 'keys/b']), { code: 'DENIED' });
  await t.rejects(read.put('keys/b', sealedText('b')), { code: 'DENIED' });
  t.same(await collect(read.list('')), ['keys/a']);
  await t.rejects(served.client(await served.token('full', 'music')).head('keys/a'), { code: 'DENIED' });
  await t.rejects(served.client(undefined).head('keys/a'), { code: 'DENIED', message: /doc\/stores.md/ });
});

t.test('a 404 from a server that is not ours is an error, not a missing object', async (t) => {
  let status = 200;
  let headers: Record<string, string> = {};
  let body = 'hello';
  const server = await ScriptedServer.start((_, answer) => {
    answer.writeHead(status, headers);
    answer.end(body);
  });
  t.teardown(() => server.stop());
  const store = new HttpStore({ origin: new URL(server.origin), segments: ['photos'], loadToken: async () => 'token', disk: systemDisk });
  t.teardown(() => store.close());
  for (const [given, code] of [
    [404, 'NOT_A_STORE'],
    [200, 'NOT_A_STORE'],
    [204, 'NOT_A_STORE'],
    [301, 'NOT_A_STORE'],
    [412, 'NOT_A_STORE'],
    [401, 'DENIED'],
    [403, 'DENIED'],
    [407, 'DENIED'],
    [429, 'UNAVAILABLE'],
    [502, 'UNAVAILABLE'],
    [503, 'UNAVAILABLE'],
    [507, 'FULL'],
  ] as const) {
    status = given;
    const asks: readonly (() => Promise<unknown>)[] = [
      () => store.get('keys/a'),
      () => store.put('keys/a', sealedText('a')),
      () => collect(store.list('')),
      () => store.delete(['keys/a', 'keys/b']),
      () => store.awaitObject('keys/a', { timeoutMs: 1000 }),
    ];
    for (const ask of asks) t.match(await ask().catch((error: unknown) => error), { code }, `status ${given}`);
  }
  headers = { sealdrive: '1' };
  for (const [given, code] of [
    [413, 'PROTOCOL'],
    [400, 'PROTOCOL'],
    [501, 'PROTOCOL'],
    [201, 'PROTOCOL'],
  ] as const) {
    status = given;
    await t.rejects(store.get('keys/a'), { code }, `status ${given}`);
  }
  status = 403;
  body = '{"error":{"code":"READ_ONLY"}}';
  await t.rejects(store.put('keys/a', sealedText('a')), { code: 'READ_ONLY' });
});

t.test('malformed lists end', async (t) => {
  let body = '';
  const server = await ScriptedServer.start((_, answer) => {
    answer.writeHead(200, { sealdrive: '1' });
    answer.end(body);
  });
  t.teardown(() => server.stop());
  const store = new HttpStore({ origin: new URL(server.origin), segments: ['photos'], loadToken: async () => 'token', disk: systemDisk });
  t.teardown(() => store.close());
  for (body of [
    '',
    'null',
    '[]',
    '{}',
    '{"objects":[]}',
    '{"objects":7,"more":false}',
    '{"objects":["a"],"more":false}',
    '{"objects":[],"more":true}',
  ]) {
    await t.rejects(collect(store.list('')), { code: 'PROTOCOL' }, body);
  }
  body = '{"objects":[["keys/a",1],["keys/a",1]],"more":true}';
  await t.rejects(collect(store.list('')), { code: 'PROTOCOL' }, 'the same page for ever');
  body = '{"objects":[["../a",1],["keys/B",1],[7,1],["keys/b",-1],["keys/c","x"]],"more":false}';
  t.same(await collect(store.list('')), ['keys/b', 'keys/c']);
});

t.test('a server that does not support waiting is not polled in a busy loop', async (t) => {
  const server = await ScriptedServer.start((_, answer) => {
    answer.writeHead(404, { sealdrive: '1' });
    answer.end();
  });
  t.teardown(() => server.stop());
  let nowMs = 0;
  // Short pauses pass at once; the limits of requests, which are longer, never.
  const clock: Clock = {
    ...systemClock,
    monotonicMs: () => nowMs,
    async sleep(delayMs) {
      if (delayMs > 1000) return new Promise(() => {});
      nowMs += delayMs;
    },
  };
  const store = new HttpStore({ origin: new URL(server.origin), segments: ['photos'], loadToken: async () => 'token', disk: systemDisk, clock });
  t.teardown(() => store.close());
  t.equal(await store.awaitObject('log/1', { timeoutMs: 10_000 }), false);
  t.ok(server.requests.length <= 12, `${server.requests.length} requests`);
  for (const { target } of server.requests) t.match(target, /^\/photos\/log\/1\?wait=\d+$/);
});

t.test('a token is read from the file in the URL, the credentials of the service manager, or a netrc file', async (t) => {
  const seen: (string | undefined)[] = [];
  const server = await ScriptedServer.start((request, answer) => {
    seen.push(request.headers.authorization);
    answer.writeHead(request.headers.authorization === 'Bearer new' ? 404 : 401, { sealdrive: '1' });
    answer.end();
  });
  t.teardown(() => server.stop());
  const place = await folder();
  const file = join(place, 'a token');
  await writeFile(file, 'old\n', { mode: 0o600 });
  const env = { CREDENTIALS_DIRECTORY: join(place, 'credentials'), NETRC: join(place, 'netrc'), XDG_CONFIG_HOME: place };
  const head = async (query: string): Promise<number | undefined> => {
    const store = await openStore(`${server.origin}/photos${query}`, { disk: systemDisk, random, env });
    try {
      return await store.head('keys/a');
    } finally {
      await store.close();
    }
  };
  const named = `?token-file=${encodeURIComponent(file)}`;
  await t.rejects(head(''), { code: 'DENIED' });
  t.same(seen.splice(0), [undefined], 'there is none');
  await t.rejects(head(named), { code: 'DENIED' });
  t.same(seen.splice(0), ['Bearer old'], 'a token that is not taken is not sent again');
  await writeFile(file, 'new', { mode: 0o600 });
  t.equal(await head(named), undefined);
  await mkdir(env.CREDENTIALS_DIRECTORY);
  await writeFile(join(env.CREDENTIALS_DIRECTORY, 'sealdrive-token'), 'new\n');
  t.equal(await head(''), undefined);
  await writeFile(join(env.CREDENTIALS_DIRECTORY, 'sealdrive-token'), 'credential');
  await t.rejects(head(''), { code: 'DENIED' });
  const netrcEnv = { NETRC: env.NETRC, XDG_CONFIG_HOME: place };
  await writeFile(env.NETRC, `machine 127.0.0.1 bearer new\n`, { mode: 0o600 });
  const byNetrc = await openStore(`${server.origin}/photos`, { disk: systemDisk, random, env: netrcEnv });
  t.teardown(() => byNetrc.close());
  t.equal(await byNetrc.head('keys/a'), undefined);
  await chmod(file, 0o644);
  await t.rejects(head(named), { code: 'DENIED', message: /chmod 600/ });
  await chmod(file, 0o600);
  await writeFile(file, 'two tokens', { mode: 0o600 });
  await t.rejects(head(named), { code: 'DENIED', message: /one token and nothing else/ });
  await t.rejects(head('?token-file=/nowhere'), { code: 'DENIED', message: /there is no token file/ });
});

t.test('a replaced token is read again', async (t) => {
  const served = await Served.start({ base: new MemoryStore({ disk: systemDisk }), folder: await folder(), random });
  t.teardown(() => served.server.stop(0));
  let token = await served.token();
  const store = new HttpStore({ origin: new URL(served.origin), segments: ['photos'], loadToken: async () => token, disk: systemDisk });
  t.teardown(() => store.close());
  t.equal(await store.put('keys/a', sealedText('a')), 'created');
  await served.removeToken(token);
  await t.rejects(store.head('keys/a'), { code: 'DENIED' });
  token = await served.token();
  t.equal(await store.head('keys/a'), 1);
});

t.test('malformed locations are refused, and the message does not repeat them', async (t) => {
  for (const location of [
    'https://host',
    'https://host/',
    'http://example.org/photos',
    'https://user@host/photos',
    'https://user:geheim@host/photos',
    'https://host/photos?token=geheim',
    'https://host/photos?token-file=geheim',
    'https://host/ph%20otos',
    'https://host/a/../b?x',
    'https://host/photos#geheim',
  ]) {
    const error: unknown = await openStore(location, { disk: systemDisk, random }).catch((reason: unknown) => reason);
    t.match(error, { code: 'MALFORMED' }, location);
    t.notMatch(error, { message: /geheim/ }, location);
  }
  const store = await openStore('https://host.example:8444/behind/photos?token-file=/x', { disk: systemDisk, random });
  t.equal(store.description, 'volume behind/photos at host.example:8444');
  await store.close();
});
