/**
 * Malicious or broken clients: what they send must not be trusted, must not stay, and must not keep others from being
 * served.
 */
import { mkdir, readdir, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { asSealed, collect, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { eventually, RawClient, statusesOf } from './raw-client.js';
import type { ServedOptions } from './served.js';
import { Served, uploadFolderAt } from './served.js';

const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);
const scratch = await scratchDirectory(t);
let count = 0;

interface Place {
  readonly served: Served;
  readonly base: DirectoryStore;
  readonly token: string;
  connect(): Promise<RawClient>;
  /** The head of a request without its final empty line. */
  head(method: string, target: string, ...headers: string[]): string;
  /** Names in the upload folder. */
  uploads(): Promise<string[]>;
}

async function place(t: Test, options: Partial<ServedOptions> = {}): Promise<Place> {
  const folder = join(scratch, `server-${count++}`);
  await mkdir(folder);
  const base = await DirectoryStore.create(join(folder, 'base'), { disk: systemDisk, random });
  const uploads = uploadFolderAt(base.temporaryFolder, random);
  const served = await Served.start({ base, folder, random, uploads, ...options });
  t.teardown(async () => {
    await served.server.stop(0);
    await base.close();
  });
  const token = await served.token();
  return {
    served,
    base,
    token,
    connect: () => RawClient.connect(served.server.port),
    head: (method, target, ...headers) =>
      [`${method} ${target} HTTP/1.1`, 'host: here', `authorization: Bearer ${token}`, ...headers].map((line) => `${line}\r\n`).join(''),
    uploads: () => readdir(base.temporaryFolder).catch(() => []),
  };
}

t.test('ambiguous requests are refused', async (t) => {
  const { served, base, connect, head } = await place(t);
  await base.put('photos/keys/treasure', sealedText('treasure'));
  const hidden = head('DELETE', '/photos/keys/treasure') + '\r\n';
  const put = (...headers: string[]): string => head('PUT', '/photos/keys/new', ...headers);
  const cases: Readonly<Record<string, string>> = {
    'two lengths that differ': `${put('content-length: 0', `content-length: ${hidden.length}`)}\r\n${hidden}`,
    'two lengths that agree': `${put('content-length: 3', 'content-length: 3')}\r\nabc`,
    'a list of lengths': `${put('content-length: 3, 3')}\r\nabc`,
    'a length and chunks': `${put('content-length: 5', 'transfer-encoding: chunked')}\r\n0\r\n\r\n${hidden}`,
    'chunks and a length': `${put('transfer-encoding: chunked', 'content-length: 5')}\r\n0\r\n\r\n${hidden}`,
    'chunks alone': `${put('transfer-encoding: chunked')}\r\n3\r\nabc\r\n0\r\n\r\n`,
    'chunks under another name': `${put('transfer-encoding: xchunked')}\r\n0\r\n\r\n${hidden}`,
    'chunks, and something after': `${put('transfer-encoding: chunked, identity')}\r\n0\r\n\r\n${hidden}`,
    'a chunk with a wrong size': `${put('transfer-encoding: chunked')}\r\n-1\r\n\r\n${hidden}`,
    'a length with a sign': `${put('content-length: +3')}\r\nabc`,
    'a negative length': `${put('content-length: -1')}\r\n${hidden}`,
    'a length in hex': `${put('content-length: 0x3')}\r\nabc`,
    'a length beyond all numbers': `${put('content-length: 99999999999999999999999')}\r\nabc`,
    'no length': `${put()}\r\n${hidden}`,
    'a space before the colon': `${put('content-length : 3')}\r\nabc`,
    'a folded header': `${put('x-a: b', ' content-length: 3')}\r\nabc`,
    'lines that end in LF only': put('content-length: 3').replaceAll('\r\n', '\n') + '\nabc',
    'a NUL in a header': `${put('x-a: b\0c', 'content-length: 3')}\r\nabc`,
    'a body where none belongs': `${head('GET', '/photos/keys/treasure', `content-length: ${hidden.length}`)}\r\n${hidden}`,
    'a body for a deletion': `${head('DELETE', '/photos/keys/other', `content-length: ${hidden.length}`)}\r\n${hidden}`,
    'two tokens': `${put('authorization: Bearer x', 'content-length: 3')}\r\nabc`,
    'two hosts': `${put('host: there', 'content-length: 3')}\r\nabc`,
    'no host': put('content-length: 3').replace('host: here\r\n', '') + '\r\nabc',
    'HTTP/0.9': 'GET /photos/keys/treasure\r\n\r\n',
    'HTTP/3.7': put('content-length: 3').replace('HTTP/1.1', 'HTTP/3.7') + '\r\nabc',
    'the preface of HTTP/2': 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    'TLS where there is none': '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
    noise: Buffer.from(random.bytes(2000)).toString('latin1'),
    'an absolute target': `${head('GET', 'http://here/photos/keys/treasure')}\r\n`,
    'a tunnel': 'CONNECT here:22 HTTP/1.1\r\nhost: here:22\r\n\r\n',
    'an upgrade': `${head('GET', '/photos/keys/none', 'connection: upgrade', 'upgrade: websocket')}\r\n`,
  };
  for (const [name, text] of Object.entries(cases)) {
    const client = await connect();
    client.send(text);
    const statuses = statusesOf(await client.until(/HTTP\/1\.1 [2345]/));
    client.end();
    // Waits until all work in progress has ended.
    await eventually(() => /sealdrive_requests 0\n[^]*sealdrive_connections 0\n/.test(served.server.measure().text()));
    t.ok(
      statuses.every((status) => status >= 400),
      `${name}: ${statuses.join(' ')}`,
    );
    t.same(await collect(base.list('')), ['photos/keys/treasure'], name);
    t.equal(Buffer.from((await base.get('photos/keys/treasure')) ?? []).toString(), 'treasure', name);
  }
});

t.test('bytes after a body are read as another request, or end the connection', async (t) => {
  const { served, base, connect, head } = await place(t);
  const client = await connect();
  client.send(`${head('PUT', '/photos/keys/a', 'content-length: 3')}\r\nabcdefg`);
  // The rest is no valid request, so the connection is not trusted at all.
  t.same(statusesOf(await client.rest()), []);
  await eventually(() => /sealdrive_requests 0\n/.test(served.server.measure().text()));
  t.same(await collect(base.list('')), []);
  const other = await connect();
  other.send(`${head('PUT', '/photos/keys/b', 'content-length: 3')}\r\nabc${head('GET', '/photos/keys/b')}\r\n`);
  t.match(await other.until(/\r\n\r\nabc$/), /201 Created[^]*200 OK[^]*abc$/);
  other.end();
});

t.test('request heads that are too large or have too many fields are refused', async (t) => {
  const { connect, head } = await place(t);
  for (const [name, text] of Object.entries({
    'a large header': `${head('GET', '/photos?info', `x-a: ${'a'.repeat(9000)}`)}\r\n`,
    'a large target': `${head('GET', `/photos/${'a'.repeat(9000)}`)}\r\n`,
    'many headers': `${head('GET', '/photos?info', ...Array.from({ length: 2000 }, (_, index) => `x-${index}: a`))}\r\n`,
  })) {
    const client = await connect();
    client.send(text);
    t.same(statusesOf(await client.rest()), [431], name);
  }
});

t.test('an interrupted upload leaves nothing behind', async (t) => {
  const { served, base, connect, head, uploads } = await place(t);
  for (const [size, sent] of [
    [1000, 500],
    [4 * 1024 * 1024, 1024 * 1024],
    [4 * 1024 * 1024, 0],
    [4 * 1024 * 1024, 4 * 1024 * 1024 - 1],
  ] as const) {
    const before = served.access.length;
    const client = await connect();
    client.send(`${head('PUT', '/photos/packs/ab/cut', `content-length: ${size}`)}\r\n`);
    client.send(new Uint8Array(sent));
    await eventually(() => /sealdrive_requests 1\n/.test(served.server.measure().text()));
    if (size > 64 * 1024) await eventually(async () => (await uploads()).length > 0);
    client.end();
    await eventually(() => served.access.length > before);
    t.match(served.access.at(-1), { operation: 'put', class: 'packs', cut: true });
    await eventually(async () => (await uploads()).length === 0);
    t.same(await collect(base.list('')), [], `${sent} of ${size}`);
  }
});

t.test('a slow client is disconnected, whatever it is slow at', async (t) => {
  const { served, base, connect, head, uploads } = await place(t, { limits: { headMs: 300, graceMs: 300 } });
  await base.put('photos/packs/ab/large', asSealed(new Uint8Array(32 * 1024 * 1024)));
  const silent = await connect();
  const slowHead = await connect();
  slowHead.send('GET /photos?info HTTP/1.1\r\nhost: h');
  const slowBody = await connect();
  slowBody.send(`${head('PUT', '/photos/packs/ab/slow', 'content-length: 1000000')}\r\nabc`);
  const slowReader = await connect();
  slowReader.socket.pause();
  slowReader.send(`${head('GET', '/photos/packs/ab/large')}\r\n`);
  t.match(await slowHead.rest(), /^HTTP\/1\.1 408 /);
  t.equal(await slowBody.rest(), '');
  // Progress buys time: a reader that has taken some data is disconnected later, but it is.
  await eventually(() => served.access.some(({ operation, cut }) => operation === 'get' && cut === true));
  await eventually(async () => (await uploads()).length === 0);
  t.match(served.server.measure().text(), /sealdrive_expired_total 2/);
  silent.end();
  slowReader.end();
});

t.test('one token cannot use up all request slots, and all tokens together cannot exceed them', async (t) => {
  const { served, connect, head } = await place(t, { limits: { requestsMax: 4, requestsPerTokenMax: 2, waitersMax: 4, waitersPerTokenMax: 2 } });
  const other = await served.token();
  const third = await served.token();
  const clients: RawClient[] = [];
  const begin = async (token: string): Promise<void> => {
    const client = await connect();
    clients.push(client);
    client.send(`PUT /photos/packs/ab/${clients.length} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer ${token}\r\ncontent-length: 100000\r\n\r\nabc`);
  };
  const underWay = (): number => Number(/sealdrive_requests (\d+)/.exec(served.server.measure().text())?.[1]);
  const info = async (token: string): Promise<Response> => fetch(`${served.origin}/photos?info`, { headers: { authorization: `Bearer ${token}` } });
  await begin(other);
  await begin(other);
  await eventually(() => underWay() === 2);
  const refused = await info(other);
  t.equal(refused.status, 429);
  t.equal(refused.headers.get('retry-after'), '1');
  t.equal((await info(third)).status, 200, 'others are served');
  await begin(third);
  await begin(third);
  await eventually(() => underWay() === 4);
  const full = await connect();
  full.send(`${head('GET', '/photos?info')}\r\n`);
  t.match(await full.until(/503/), /503 Service Unavailable[^]*retry-after: 1/);
  full.end();
  for (const client of clients) client.end();
  await eventually(() => underWay() === 0);
  t.equal((await info(other)).status, 200);

  const waits = [other, other].map((token, index) =>
    fetch(`${served.origin}/photos/log/${index}?wait=60000`, { headers: { authorization: `Bearer ${token}` } }).then(({ status }) => status),
  );
  await eventually(() => /sealdrive_waiters 2/.test(served.server.measure().text()));
  const tooMany = await fetch(`${served.origin}/photos/log/2?wait=60000`, { headers: { authorization: `Bearer ${other}` } });
  t.equal(tooMany.status, 429);
  t.equal((await info(other)).status, 200, 'who waits takes no place of those who ask');
  for (const index of [0, 1]) {
    await fetch(`${served.origin}/photos/log/${index}`, { method: 'PUT', body: 'x', headers: { authorization: `Bearer ${other}` } });
  }
  t.same(await Promise.all(waits), [200, 200]);
});

t.test('connections are bounded in number, and idle ones are closed', async (t) => {
  const { served } = await place(t, { limits: { requestsMax: 1, waitersMax: 1, headMs: 500 } });
  const clients = await Promise.all(Array.from({ length: 300 }, () => RawClient.connect(served.server.port)));
  t.ok(Number(/sealdrive_connections (\d+)/.exec(served.server.measure().text())?.[1]) <= 258);
  for (const client of clients) client.end();
  await eventually(() => /sealdrive_connections 0/.test(served.server.measure().text()));
  t.equal((await fetch(`${served.origin}/photos`)).status, 401);
});

t.test('an object that is too large is refused before it is sent', async (t) => {
  const { base, connect, head, uploads } = await place(t, { limits: { objectMax: 100_000 } });
  const client = await connect();
  client.send(`${head('PUT', '/photos/packs/ab/x', 'content-length: 100001')}\r\n`);
  t.match(await client.until(/TOO_LARGE/), /413[^]*connection: close/i);
  client.end();
  const polite = await connect();
  polite.send(`${head('PUT', '/photos/packs/ab/x', 'content-length: 100001', 'expect: 100-continue')}\r\n`);
  t.same(statusesOf(await polite.rest()), [413]);
  // A client that sends the body anyway sees the reason.
  const stubborn = await connect();
  stubborn.send(`${head('PUT', '/photos/packs/ab/x', 'content-length: 1000000')}\r\n`);
  stubborn.send(new Uint8Array(1_000_000));
  t.same(statusesOf(await stubborn.rest()), [413]);
  t.same(await uploads(), []);
  t.same(await collect(base.list('')), []);
});

t.test('a request with "Expect: 100-continue" is checked completely before it is told to continue', async (t) => {
  const { base, connect, head } = await place(t);
  const client = await connect();
  client.send(`${head('PUT', '/photos/keys/a', 'content-length: 3', 'expect: 100-continue', 'if-none-match: *')}\r\n`);
  t.equal(await client.until(/\r\n\r\n/), 'HTTP/1.1 100 Continue\r\n\r\n');
  client.send('abc');
  t.match(await client.until(/201/), /201 Created/);
  client.send(`${head('PUT', '/photos/keys/a', 'content-length: 3', 'expect: 100-continue', 'if-none-match: *')}\r\n`);
  t.same(statusesOf(await client.rest()), [100, 201, 412], 'nobody wants what is there');
  t.equal(Buffer.from((await base.get('photos/keys/a')) ?? []).toString(), 'abc');
  const strange = await connect();
  strange.send(`${head('PUT', '/photos/keys/b', 'content-length: 3', 'expect: a miracle')}\r\n`);
  t.match(await strange.until(/417/), /417/);
  strange.end();
});

t.test('the log contains no secrets and no names', async (t) => {
  const { served, token, connect, head } = await place(t);
  const stranger = `sealdrive_${'a'.repeat(12)}_${'b'.repeat(64)}`;
  const key = 'packs/0c/0123456789abcdef';
  for (const text of [
    `${head('PUT', `/photos/${key}`, 'content-length: 3')}\r\nabc`,
    `${head('GET', `/photos/${key}?wait=1`)}\r\n`,
    `${head('DELETE', `/music/${key}`)}\r\n`,
    `${head('GET', `/photos/${key}?token=${token}`)}\r\n`,
    `${head('GET', `/${token}`)}\r\n`,
    `${head('FETCH', `/photos/${key}`)}\r\n`,
    `${head('PATCH', `/photos/${key}`)}\r\n`,
    `GET /photos/${key}?${token} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer ${stranger}\r\n\r\n`,
    `GET /${stranger} HTTP/1.1\r\nhost: h\r\ncookie: ${token}\r\nauthorization: Basic ${stranger}\r\n\r\n`,
    `${token} / HTTP/1.1\r\n\r\n`,
    `GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: ${token}\r\ncontent-length: ${token}\r\n\r\n`,
  ]) {
    const client = await connect();
    client.send(text);
    await client.until(/HTTP\/1\.1 [2345]/);
    client.end();
  }
  await served.spoilTokens();
  await fetch(`${served.origin}/photos?info`, { headers: { authorization: `Bearer ${token}` } });
  const logged = `${served.access.map((entry) => JSON.stringify(entry)).join('\n')}\n${served.logLines.join('')}${served.server.measure().text()}`;
  t.match(logged, /"operation":"put","class":"packs","status":201/);
  t.match(logged, /the tokens stay as they were/);
  for (const secret of [token, stranger, token.slice(-64), 'b'.repeat(64), 'abcdef', '/photos/', 'FETCH', 'cookie']) {
    t.notOk(logged.includes(secret), `no ${secret} in it`);
  }
  for (const { token: id, operation } of served.access.filter((entry) => entry['status'] === 401)) {
    t.equal(id, undefined);
    t.equal(operation, 'none');
  }
});

t.test('the upload folder must not be a link, and only uploads are removed from it', async (t) => {
  const folder = join(scratch, `spool-${count++}`);
  const mine = join(folder, 'mine');
  await mkdir(join(folder, 'spool'), { recursive: true });
  await mkdir(mine);
  const old = new Date(Date.now() - 3 * 24 * 60 * 60 * 1000);
  const names = ['letter.txt', 'f'.repeat(32), 'F'.repeat(32), `${'f'.repeat(32)}.txt`];
  for (const place of [join(folder, 'spool'), mine]) {
    for (const name of names) {
      await writeFile(join(place, name), name);
      await utimes(join(place, name), old, old);
    }
  }
  await symlink(mine, join(folder, 'link'));
  await uploadFolderAt(join(folder, 'link'), random).removeStale(systemClock);
  await t.rejects(uploadFolderAt(join(folder, 'link'), random).check(), { code: 'ELOOP' });
  t.same((await readdir(mine)).toSorted(), names.toSorted());
  await uploadFolderAt(join(folder, 'spool'), random).removeStale(systemClock);
  t.same((await readdir(join(folder, 'spool'))).toSorted(), names.filter((name) => name !== 'f'.repeat(32)).toSorted());
  const { served, head, connect } = await place(t, { uploads: uploadFolderAt(join(folder, 'link'), random) });
  const client = await connect();
  client.send(`${head('PUT', '/photos/packs/ab/x', 'content-length: 100000')}\r\n`);
  client.send(new Uint8Array(100_000));
  t.match(await client.until(/HTTP\/1\.1 [2345]/), /503/);
  client.end();
  t.same((await readdir(mine)).toSorted(), names.toSorted(), 'no upload was written there');
  await eventually(() => /sealdrive_requests 0\n/.test(served.server.measure().text()));
});
