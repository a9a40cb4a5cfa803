/**
 * Faults on the way to HTTP stores: silence, cuts, false lengths, storms of errors, unknown host names, certificates
 * and proxies (the table in doc/stores.md, "Faults"). Faults of a single kind of server are in the tests of its
 * store.
 */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo, Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { HttpTransportOptions } from '../../src/store/http-transport.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { openStore } from '../../src/store/open-store.js';
import { RetryingStore } from '../../src/store/retrying-store.js';
import { S3Store } from '../../src/store/s3-store.js';
import { WebdavStore } from '../../src/store/webdav-store.js';
import { ManualClock } from '../suite/manual-clock.js';
import { collect, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { ScriptedBucket } from '../support/scripted-bucket.js';
import { ScriptedServer } from '../support/scripted-server.js';
import { freePort, runTool } from '../support/server-process.js';

type Test = typeof t;
type Teardown = Pick<Test, 'teardown'>;

const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);
const random = new SeededRandom(seed);
const credentials = { accessKeyId: 'KEY', secretAccessKey: 'HIDDEN' };

function s3At(t: Teardown, origin: string, transport: HttpTransportOptions = {}): S3Store {
  const store = new S3Store({
    bucket: 'bucket',
    prefix: '',
    endpoint: new URL(origin),
    region: 'us-east-1',
    style: 'path',
    loadSettings: () => Promise.resolve({ credentials }),
    disk: systemDisk,
    transport: { idleMs: 400, connectMs: 2000, ...transport },
  });
  t.teardown(() => store.close());
  return store;
}

function webdavAt(t: Teardown, origin: string, transport: HttpTransportOptions = {}): WebdavStore {
  const store = new WebdavStore({
    origin: new URL(origin),
    segments: ['store'],
    loadCredentials: () => Promise.resolve(undefined),
    disk: systemDisk,
    random,
    transport: { idleMs: 400, connectMs: 2000, ...transport },
  });
  t.teardown(() => store.close());
  return store;
}

const kinds: readonly (readonly [name: string, open: (t: Teardown, origin: string, transport?: HttpTransportOptions) => ObjectStore])[] = [
  ['S3', s3At],
  ['WebDAV', webdavAt],
];

/** Starts a TCP server whose connections `serve` handles; returns its origin. */
async function listen(t: Teardown, serve: (socket: Socket) => void): Promise<string> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    serve(socket);
  });
  await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((settle) => server.close(settle));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const retrying = (inner: ObjectStore): RetryingStore => new RetryingStore(inner, { clock: systemClock, random, disk: systemDisk, baseMs: 5 });

/** Checks that a request fails with one line of this kind. */
async function fails(t: Pick<Test, 'match' | 'notMatch'>, request: Promise<unknown>, code: string, message: RegExp, told: string): Promise<void> {
  const error = await request.then(
    () => undefined,
    (thrown: unknown) => thrown as Error & { readonly code: unknown },
  );
  t.match(error, { code, message }, told);
  t.notMatch(error?.message ?? '', /\n|HIDDEN/, `${told}: one line, and no secret`);
}

for (const [name, open] of kinds) {
  t.test(`${name}: reads and writes give up on a server that accepts connections and sends nothing`, async (t) => {
    const store = open(t, await listen(t, (socket) => socket.resume()));
    await fails(t, store.get('keys/a'), 'UNAVAILABLE', /stopped answering/, 'get');
    await fails(t, store.put('keys/a', sealedText('a')), 'UNAVAILABLE', /stopped answering/, 'put');
    await fails(t, collect(store.list('')), 'UNAVAILABLE', /stopped answering/, 'list');
  });

  t.test(`${name}: requests give up on a server that sends headers and then nothing`, async (t) => {
    const origin = await listen(t, (socket) => {
      socket.on('data', () => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789'));
    });
    await fails(t, open(t, origin).get('keys/a', { sizeMax: 100 }), 'UNAVAILABLE', /stopped answering/, 'get');
  });

  t.test(`${name}: an upload gives up when the server stops reading it`, async (t) => {
    const origin = await listen(t, (socket) => socket.pause());
    const body = Buffer.alloc(8 * 1024 * 1024);
    await fails(t, open(t, origin).put('packs/00/a', body as never), 'UNAVAILABLE', /stopped answering|cut the connection/, 'put');
  });

  t.test(`${name}: a download is retried after its connection was cut, and the bytes are whole`, async (t) => {
    const body = Buffer.from('x'.repeat(100_000));
    let requests = 0;
    const server = await ScriptedServer.start(({ method, target }, answer) => {
      // WebDAV first asks how the store is written to.
      if (method !== 'GET' || target.endsWith('_sealdrive')) {
        answer.writeHead(404).end();
        return;
      }
      answer.writeHead(200, { 'content-length': body.length });
      if (requests++ > 2) answer.end(body);
      else answer.write(body.subarray(0, 30_000), () => answer.destroy());
    });
    t.teardown(() => server.stop());
    const store = open(t, server.origin);
    await fails(t, store.get('keys/a'), 'UNAVAILABLE', /cut the connection|announced/, 'once');
    const bytes = await retrying(store).get('keys/a');
    t.ok(bytes && body.equals(bytes));
  });

  t.test(`${name}: an upload is retried after its connection was cut, and leaves one object`, async (t) => {
    const stored = new Map<string, Buffer>();
    let cuts = 0;
    const origin = await listen(t, (socket) => {
      let received = Buffer.alloc(0);
      socket.on('data', (piece: Buffer) => {
        received = Buffer.concat([received, piece]);
        const end = received.indexOf('\r\n\r\n');
        if (end < 0) return;
        const head = received.subarray(0, end).toString('latin1');
        const [method, target = ''] = head.split(' ', 2);
        const length = Number(/content-length: (\d+)/i.exec(head)?.[1] ?? 0);
        if (method === 'PUT' && cuts < 3 && received.length > end + 4 + length / 2) {
          cuts++;
          socket.destroy();
          return;
        }
        if (received.length < end + 4 + length) return;
        const body = received.subarray(end + 4, end + 4 + length);
        received = Buffer.alloc(0);
        const object = stored.get(target);
        if (method === 'PUT') {
          if (!object) stored.set(target, body);
          socket.write(`HTTP/1.1 ${object ? 412 : 201} X\r\ncontent-length: 0\r\n\r\n`);
        } else if (method === 'GET' && object)
          socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${object.length}\r\n\r\n${object.toString('latin1')}`);
        else socket.write('HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n');
      });
    });
    const file = join(await scratchDirectory(t), 'pack');
    const body = Buffer.from('y'.repeat(1_000_000));
    await writeFile(file, body);
    const outcome = await retrying(open(t, origin)).put('packs/00/a', { path: file, size: body.length }, { ifAbsent: true });
    t.equal(outcome, 'created');
    t.equal(cuts, 3);
    t.equal(stored.size, 1);
    t.ok([...stored.values()][0]!.equals(body));
  });

  t.test(`${name}: false lengths are refused or retried, never trusted`, async (t) => {
    let head = '';
    let sent = '';
    const origin = await listen(t, (socket) => {
      socket.on('data', (piece) => {
        if (/^(GET|PROPFIND)/.test(piece.toString('latin1'))) socket.end(`HTTP/1.1 200 OK\r\n${head}\r\n${sent}`);
      });
    });
    const store = open(t, origin);
    const answer = (length: string, body: string): void => {
      head = length;
      sent = body;
    };
    if (store instanceof WebdavStore) {
      answer('content-length: 26\r\n', 'Sealdrive store, claim=put\n');
      await store.claim().catch(() => {});
      answer('content-length: 27\r\n', 'Sealdrive store, claim=put\n');
      t.equal(await store.claim(), 'put', 'after a short one, the whole one');
    }
    answer('content-length: 100\r\n', 'short');
    await fails(t, store.get('keys/a'), 'UNAVAILABLE', /cut the connection|announced/, 'more announced than sent');
    answer('content-length: 99999999999999\r\n', 'x');
    await fails(t, store.get('keys/a'), 'PROTOCOL', /at most/, 'far more announced than expected');
    answer('content-length: 5\r\ncontent-length: 7\r\n', '1234567');
    await fails(t, store.get('keys/a'), 'UNAVAILABLE', /another length than it announced|does not speak HTTP/, 'two lengths');
    answer('content-length: -5\r\n', '12345');
    await fails(t, store.get('keys/a'), 'UNAVAILABLE', /does not speak HTTP/, 'no length');
    answer('transfer-encoding: chunked\r\n', 'zz\r\nx');
    await fails(t, store.get('keys/a'), 'UNAVAILABLE', /does not speak HTTP/, 'broken chunks');
    answer('', 'x'.repeat(2000));
    await fails(t, store.get('keys/a', { sizeMax: 1000 }), 'PROTOCOL', /at most/, 'no length, and too much');
    answer('content-length: 4\r\n', '123456789');
    const cut = await store.get('keys/a').catch(() => undefined);
    t.ok(cut === undefined || cut.byteLength === 4, 'more sent than announced: the seal above finds out');
  });

  t.test(`${name}: storms of 429, 500, 502, 503 and 504 are waited out, for as long as the server asks`, async (t) => {
    const storm: readonly (readonly [status: number, headers: Readonly<Record<string, string>>])[] = [
      [503, { 'retry-after': '3' }],
      [429, { 'retry-after': '2' }],
      [500, {}],
      [502, { 'retry-after': 'nonsense' }],
      [504, { 'retry-after': '-5' }],
      [503, { 'retry-after': new Date(Date.now() + 3_600_000).toUTCString() }],
    ];
    let count = Infinity;
    const server = await ScriptedServer.start(({ method }, answer) => {
      const next = storm[count++];
      if (next) answer.writeHead(...next).end();
      else answer.writeHead(method === 'GET' && count < Infinity ? 200 : 404, { 'content-length': 1 }).end(method === 'HEAD' ? undefined : 'a');
    });
    t.teardown(() => server.stop());
    const clock = new ManualClock(Date.now());
    const store = open(t, server.origin);
    if (store instanceof WebdavStore) await store.claim();
    count = 0;
    const patient = new RetryingStore(store, { clock, random, disk: systemDisk, deadlineMs: 3_600_000 });
    t.equal(Buffer.from((await patient.get('keys/a')) ?? []).toString(), 'a');
    t.equal(clock.sleeps.length, storm.length);
    t.ok(clock.sleeps[0]! >= 3000 && clock.sleeps[1]! >= 2000, 'not sooner than Retry-After says');
    t.ok(
      clock.sleeps.every((ms) => ms <= 310_000),
      'and no hour long',
    );
    count = 0;
    const hasty = new RetryingStore(store, { clock, random, disk: systemDisk, deadlineMs: 1000 });
    await fails(t, hasty.get('keys/a'), 'UNAVAILABLE', /cannot answer now.*503/, 'who has no time is told');
  });

  t.test(`${name}: redirects are not followed, and credentials are sent to no other server`, async (t) => {
    const stranger = await ScriptedServer.start((_, answer) => void answer.writeHead(200).end());
    t.teardown(() => stranger.stop());
    let status = 0;
    const server = await ScriptedServer.start((_, answer) => void answer.writeHead(status, { location: `${stranger.origin}/x` }).end());
    t.teardown(() => server.stop());
    for (status of [301, 302, 307, 308]) {
      const store = open(t, server.origin);
      await fails(t, store.get('keys/a'), 'NOT_A_STORE', /redirects to another address/, `get, ${status}`);
      await fails(t, store.put('keys/a', sealedText('a')), 'NOT_A_STORE', /redirects to another address/, `put, ${status}`);
    }
    t.equal(stranger.requests.length, 0);
  });

  t.test(`${name}: an unknown host name and a closed port are reported differently`, async (t) => {
    await fails(t, open(t, 'http://no-such-host.invalid').get('keys/a'), 'UNAVAILABLE', /no host|cannot be resolved/, 'DNS');
    await fails(t, open(t, `http://127.0.0.1:${await freePort()}`).get('keys/a'), 'UNAVAILABLE', /refuses connections/, 'refused');
  });
}

t.test('self-signed, expired and misnamed certificates are refused with their reason', async (t) => {
  const folder = await scratchDirectory(t);
  const served: string[] = [];
  const make = async (name: string, names: string, days: number): Promise<{ readonly key: string; readonly cert: string; readonly port: number }> => {
    const path = (kind: string): string => join(folder, `${name}.${kind}`);
    await writeFile(path('ext'), `subjectAltName=${names}\n`);
    const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', path('key')];
    runTool('openssl', ['req', '-new', ...key, '-out', path('csr'), '-subj', `/CN=${name}`]);
    runTool('openssl', [
      'x509',
      '-req',
      '-in',
      path('csr'),
      '-signkey',
      path('key'),
      '-days',
      String(days),
      '-extfile',
      path('ext'),
      '-out',
      path('crt'),
    ]);
    const [keyText, cert] = [readFileSync(path('key'), 'utf8'), readFileSync(path('crt'), 'utf8')];
    const server = createSecureServer({ key: keyText, cert }, (_, answer) => {
      served.push(name);
      answer.writeHead(404).end();
    });
    await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
    t.teardown(() => {
      server.closeAllConnections();
      return new Promise((settle) => server.close(settle));
    });
    return { key: keyText, cert, port: (server.address() as AddressInfo).port };
  };
  const at = ({ port }: { readonly port: number }, authorities?: string): Promise<unknown> =>
    s3At(t, `https://localhost:${port}`, authorities === undefined ? {} : { authorities }).get('keys/a');
  const good = await make('good', 'DNS:localhost', 2);
  t.equal(await at(good, good.cert), undefined, 'one that is right lets us in');
  const alone = await make('alone', 'DNS:localhost', 2);
  await fails(t, at(alone), 'UNAVAILABLE', /made by nobody whom this machine trusts.*ca=FILE/, 'self-signed');
  await fails(t, at(alone, good.cert), 'UNAVAILABLE', /made by nobody whom this machine trusts/, 'of another authority');
  const expired = await make('expired', 'DNS:localhost', -1);
  await fails(t, at(expired, expired.cert), 'UNAVAILABLE', /has expired \(or this machine's clock is wrong\)/, 'expired');
  const other = await make('other', 'DNS:other.example', 2);
  await fails(t, at(other, other.cert), 'UNAVAILABLE', /is for another name/, 'another name');
  t.same(served, ['good'], 'nobody else heard anything');
  const plain = await ScriptedServer.start((_, answer) => void answer.end());
  t.teardown(() => plain.stop());
  // A proxy in between makes no difference.
  const tunnel = await FaultProxy.start(other.port, random, { tunnel: true });
  t.teardown(() => tunnel.stop());
  const tunnelled = { authorities: other.cert, env: { https_proxy: `http://127.0.0.1:${tunnel.port}` } };
  await fails(t, s3At(t, `https://localhost:${other.port}`, tunnelled).get('keys/a'), 'UNAVAILABLE', /is for another name/, 'through a proxy');
  await fails(t, s3At(t, plain.origin.replace('http:', 'https:')).get('keys/a'), 'UNAVAILABLE', /no secure connection/, 'no TLS there');
});

t.test('proxies work with CONNECT, no_proxy and credentials, and their failures are reported', async (t) => {
  const bucket = new ScriptedBucket();
  bucket.objects.set('keys/a', Buffer.from('a'));
  const server = await bucket.start();
  t.teardown(() => server.stop());
  const port = Number(new URL(server.origin).port);
  const tunnel = await FaultProxy.start(port, random, { tunnel: true });
  t.teardown(() => tunnel.stop());
  const text = async (store: ObjectStore): Promise<string> => Buffer.from((await store.get('keys/a')) ?? []).toString();
  const through = (proxy: string, more: Readonly<Record<string, string>> = {}): S3Store =>
    s3At(t, `http://bucket.example:${port}`, { env: { http_proxy: proxy, ...more } });
  t.equal(await text(through(`http://127.0.0.1:${tunnel.port}`)), 'a', 'a name that only the proxy knows');
  t.equal(await text(s3At(t, server.origin, { env: { http_proxy: 'http://127.0.0.1:1', no_proxy: '127.0.0.1' } })), 'a', 'past the proxy');

  let answerOfProxy = '';
  const heads: string[] = [];
  const proxy = await listen(t, (socket) => {
    socket.on('data', (piece) => {
      heads.push(piece.toString('latin1'));
      socket.end(answerOfProxy);
    });
  });
  answerOfProxy = 'HTTP/1.1 407 X\r\nproxy-authenticate: Basic realm="x"\r\ncontent-length: 0\r\n\r\n';
  await fails(t, through(proxy).get('keys/a'), 'DENIED', /proxy.*wants credentials/, 'wants credentials');
  answerOfProxy = 'HTTP/1.1 403 X\r\ncontent-length: 0\r\n\r\n';
  await fails(t, through(proxy).get('keys/a'), 'UNAVAILABLE', /the proxy .*refuses.*403/, 'refuses');
  answerOfProxy = 'HTTP/1.1 502 X\r\ncontent-length: 0\r\n\r\n';
  await fails(t, through(proxy).get('keys/a'), 'UNAVAILABLE', /the proxy .*502/, 'does not get through');
  await fails(t, through(`http://127.0.0.1:${await freePort()}`).get('keys/a'), 'UNAVAILABLE', /proxy.*refuses connections/, 'is away');
  heads.length = 0;
  answerOfProxy = 'HTTP/1.1 407 X\r\ncontent-length: 0\r\n\r\n';
  await fails(t, through(proxy.replace('//', '//me:pass@')).get('keys/a'), 'DENIED', /proxy .*does not take these credentials/, 'wrong ones');
  t.match(heads[0], /proxy-authorization: Basic bWU6cGFzcw==/i);
  t.notMatch(heads[0], /HIDDEN|authorization: AWS4/, 'it sees nothing of the request');
  const home = await scratchDirectory(t);
  await writeFile(join(home, 'netrc'), `machine ${new URL(proxy).host} login me password more\n`, { mode: 0o600 });
  heads.length = 0;
  const env = { http_proxy: proxy, NETRC: join(home, 'netrc'), AWS_ACCESS_KEY_ID: 'KEY', AWS_SECRET_ACCESS_KEY: 'HIDDEN' };
  const opened = await openStore(`s3://bucket?endpoint=http://bucket.example:${port}`, { disk: systemDisk, random, env });
  t.teardown(() => opened.close());
  await fails(t, opened.get('keys/a'), 'DENIED', /proxy .*does not take these credentials/, 'from a netrc file');
  t.match(heads[0], /proxy-authorization: Basic bWU6bW9yZQ==/i);
  await t.rejects(openStore(`s3://bucket?endpoint=http://x`, { disk: systemDisk, random, env: { ...env, http_proxy: 'socks5://me:HIDDEN@x' } }), {
    message: /^the proxy in http_proxy or https_proxy is no address such as http:\/\/host:port$/,
  });
});
