/** Hosting a store and using it, through the command line: two commands start the server, and a drive uses it. */
import { copyFileSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { connect } from 'node:tls';
import t from 'tap';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { openStore } from '../../src/store/open-store.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { eventually } from '../server/raw-client.js';
import { asSealed } from '../suite/object-store-suite.js';
import { Serve } from '../support/serve.js';
import { findProgram, makeCertificate } from '../support/server-process.js';
import { Workplace } from './command-line.js';

/** Starting processes and deriving keys take time. */
t.setTimeout(600_000);
const place = new Workplace();
t.teardown(() => place.remove());
let count = 0;
const folder = (): string => place.makeFolder(`served-${count++}`);
const open = (location: string): Promise<ObjectStore> => openStore(location, { disk: systemDisk, random: systemRandom });
const hasOpenssl = findProgram('openssl') !== undefined;
const certificate = (name: string): { readonly certificate: string; readonly key: string } =>
  makeCertificate(folder(), name, 'DNS:localhost,IP:127.0.0.1', 30);

t.test('a drive on a served volume is created, written, and read by a second device with another token', async (t) => {
  const tls = hasOpenssl ? { tls: certificate('home') } : {};
  const server = await Serve.start(folder(), { ...tls, words: ['--quota', '1G', '--metrics', '127.0.0.1:0'] });
  t.teardown(() => server.kill());
  const keyFile = place.path('drive.key');
  const first = server.volume('photos');
  const second = server.volume('photos', 'append');
  const reader = server.volume('photos', 'read');
  await place.succeed(['init', first.location, '--key-file', keyFile, '--no-recovery']);
  const [one, two] = [place.makeFolder('one'), place.makeFolder('two')];
  await place.succeed(['mount', first.location, one, '--key-file', keyFile, '--state-dir', place.path('state-one')]);
  const large = Buffer.alloc(5_000_000, 'sealdrive');
  mkdirSync(join(one, 'letters'));
  writeFileSync(join(one, 'letters', 'one.txt'), 'dear reader');
  writeFileSync(join(one, 'large'), large);
  await place.succeed(['flush', one]);

  await place.succeed(['mount', second.location, two, '--key-file', keyFile, '--state-dir', place.path('state-two')]);
  t.equal(readFileSync(join(two, 'letters', 'one.txt'), 'utf8'), 'dear reader');
  t.ok(readFileSync(join(two, 'large')).equals(large));
  // A device with an append token works like any other.
  writeFileSync(join(two, 'answer.txt'), 'dear writer');
  await place.succeed(['flush', two]);
  await eventually(() => readdirSync(one).includes('answer.txt'));
  t.equal(readFileSync(join(one, 'answer.txt'), 'utf8'), 'dear writer');
  await place.succeed(['unmount', one]);
  await place.succeed(['unmount', two]);

  await place.succeed(['mount', reader.location, two, '--key-file', keyFile, '--state-dir', place.path('state-three'), '--read-only']);
  t.equal(readFileSync(join(two, 'answer.txt'), 'utf8'), 'dear writer');
  await place.succeed(['unmount', two]);
  t.match(await place.succeed(['check', reader.location, '--key-file', keyFile, '--data', '--json']), /"findings"/);

  const metrics = await (await fetch(`http://127.0.0.1:${server.metricsPort}/metrics`)).text();
  t.match(metrics, /sealdrive_requests_total\{operation="put",status="201"\} \d/);
  t.match(metrics, /# TYPE process_resident_memory_bytes gauge\nprocess_resident_memory_bytes \d/);
  t.equal((await fetch(`http://127.0.0.1:${server.metricsPort}/healthz`)).status, 200);
  t.equal((await fetch(`http://127.0.0.1:${server.metricsPort}/photos`)).status, 404);

  t.equal(await server.stop(), 0);
  t.equal(statSync(server.accessLog).mode & 0o777, 0o600);
  const access = readFileSync(server.accessLog, 'utf8');
  const logged = `${access}${server.log}${metrics}`;
  for (const { tokenPath } of [first, second, reader])
    t.notOk(logged.includes(readFileSync(tokenPath, 'utf8').trim().slice(-64)), 'no token in a log');
  for (const line of access.trimEnd().split('\n')) t.match(JSON.parse(line), { time: /^2/, method: /^[A-Z]+$/, status: Number, ms: Number }, line);
  t.match(access, /"class":"log","wait":true,"status":200/, 'somebody was told at once');
  // The host has an ordinary directory store, so the volume can be used in place.
  t.match(await place.succeed(['check', join(server.base, 'photos'), '--key-file', keyFile]), /.+/);
});

t.test('tokens are printed once, listed without their secrets, and removed while the server runs', async (t) => {
  const server = await Serve.start(folder());
  t.teardown(() => server.kill());
  const words = ['--tokens', server.tokenFile];
  const made = await place.run(['token', 'add', 'music', '--right', 'append', '--quota', '10M', '--label', 'for the phone', ...words]);
  t.equal(made.code, 0);
  t.match(made.stdout, /^sealdrive_[0-9a-f]{12}_[0-9a-f]{64}\n$/);
  const secret = made.stdout.trim();
  t.notOk(made.stderr.includes(secret));
  const listed = await place.succeed(['token', 'list', ...words]);
  t.match(listed, /^[0-9a-f]{12} {2}music +append {2}2\d{3}-\d\d-\d\d {2}for the phone\nmusic may hold 10 MiB\n$/);
  const json = await place.succeed(['token', 'list', '--json', ...words]);
  t.match(JSON.parse(json), { tokens: [{ volume: 'music', right: 'append', label: 'for the phone' }], quotas: { music: 10 * 1024 * 1024 } });
  for (const text of [listed, json, readFileSync(server.tokenFile, 'utf8')]) t.notOk(text.includes(secret.slice(-64)));
  const ask = async (): Promise<number> => (await fetch(`${server.origin}/music?info`, { headers: { authorization: `Bearer ${secret}` } })).status;
  await eventually(async () => (await ask()) === 200);
  const other = JSON.parse(await place.succeed(['token', 'add', 'music', '--json', ...words])) as { readonly id: string; readonly token: string };
  t.match(other, { id: /^[0-9a-f]{12}$/, token: /^sealdrive_/, right: 'full' });
  await place.succeed(['token', 'remove', secret.slice(10, 18), ...words]);
  await eventually(async () => (await ask()) === 401);
  await place.succeed(['token', 'quota', 'music', 'none', ...words]);
  t.match(JSON.parse(await place.succeed(['token', 'list', '--json', ...words])), { tokens: [{ id: other.id }], quotas: {} });

  for (const wrong of [
    ['token', 'add', 'Music'],
    ['token', 'add', 'keys'],
    ['token', 'add', 'music', '--right', 'owner'],
    ['token', 'add', 'music', '--quota', 'much'],
    ['token', 'add', 'music', '--label', 'a\nb'],
    ['token', 'remove', 'ffffffffffff'],
    ['token', 'remove', ''],
    ['token'],
  ]) {
    const { code, stderr } = await place.run([...wrong, ...words]);
    t.equal(code, exitCodes.USAGE, wrong.join(' '));
    t.match(stderr, /^sealdrive: [^\n]+\n$/, wrong.join(' '));
  }
  const out = place.path('a.token');
  await place.succeed(['token', 'add', 'music', '--out', out, ...words]);
  t.equal(statSync(out).mode & 0o777, 0o600);
  t.equal((await place.run(['token', 'add', 'music', '--out', out, ...words])).code, exitCodes.USAGE, 'no file is overwritten');
  t.equal(await server.stop(), 0);
});

t.test('an unsafe or impossible configuration is refused before the server listens', async (t) => {
  const base = place.path('refused');
  const tokens = ['--tokens', place.path('refused.json')];
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, '127.0.0.1', resolve));
  t.teardown(() => taken.close());
  const address = taken.address();
  const port = typeof address === 'object' && address ? address.port : 0;
  const volume = place.makeFolder('a-volume', 'keys');
  writeFileSync(join(volume, 'abc'), 'x');
  writeFileSync(place.path('none.pem'), 'no certificate');
  writeFileSync(place.path('spoilt.json'), '{', { mode: 0o600 });
  const cases: readonly (readonly [words: readonly string[], code: keyof typeof exitCodes, says: RegExp])[] = [
    [['serve', base, '--listen', '0.0.0.0:0', ...tokens], 'USAGE', /plain HTTP on 0\.0\.0\.0/],
    [['serve', base, '--listen', '[::]:0', ...tokens], 'USAGE', /plain HTTP on ::/],
    [['serve', base, '--listen', 'everywhere', ...tokens], 'USAGE', /--listen takes HOST:PORT/],
    [['serve', base, '--listen', '127.0.0.1:99999', ...tokens], 'USAGE', /--listen takes HOST:PORT/],
    [['serve', base, '--tls-cert', 'x.pem', ...tokens], 'USAGE', /go together/],
    [['serve', base, '--tls-cert', place.path('none.pem'), '--tls-key', place.path('none.pem'), ...tokens], 'USAGE', /cannot be used/],
    [['serve', base, '--tls-cert', '/nowhere', '--tls-key', '/nowhere', ...tokens], 'USAGE', /cannot be read/],
    [['serve', base, '--requests-max', '0', ...tokens], 'USAGE', /--requests-max/],
    [['serve', base, '--quota', 'much', ...tokens], 'USAGE', /--quota/],
    [['serve', base, '--listen', `127.0.0.1:${port}`, ...tokens], 'IN_USE', /cannot be listened on/],
    [['serve', base, '--tokens', place.path('spoilt.json')], 'LOCAL_DISK', /is not JSON/],
    [['serve', place.path('a-volume'), ...tokens], 'USAGE', /is a volume itself/],
    [['serve', place.path('none', 'at', 'all'), ...tokens], 'NOT_A_VOLUME', /there is no directory/],
    [['serve', base, '--access-log', place.path('none', 'log'), '--listen', '127.0.0.1:0', ...tokens], 'LOCAL_DISK', /access log/],
  ];
  for (const [words, code, says] of cases) {
    const outcome = await place.run(words);
    t.equal(outcome.code, exitCodes[code], words.join(' '));
    t.match(outcome.stderr, says, words.join(' '));
    t.match(outcome.stderr, /^sealdrive: [^\n]+\n$/, words.join(' '));
  }
});

t.test(
  'a certificate is replaced without a pause, and an unusable one changes nothing',
  { skip: hasOpenssl ? false : 'needs openssl' },
  async (t) => {
    const [first, second] = [certificate('first'), certificate('second')];
    const tls = { certificate: place.path('tls.crt'), key: place.path('tls.key') };
    const install = (from: typeof tls): void => {
      copyFileSync(from.certificate, tls.certificate);
      copyFileSync(from.key, tls.key);
    };
    install(first);
    const server = await Serve.start(folder(), { tls });
    t.teardown(() => server.kill());
    const name = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect({ port: Number(new URL(server.origin).port), host: '127.0.0.1', rejectUnauthorized: false }, () => {
          resolve(String(socket.getPeerCertificate().subject.CN));
          socket.end();
        });
        socket.on('error', reject);
      });
    t.equal(await name(), 'first');
    install(second);
    server.signal('SIGHUP');
    await eventually(async () => (await name()) === 'second');
    writeFileSync(tls.key, 'spoilt');
    server.signal('SIGHUP');
    await eventually(() => server.log.includes('stays as it was'));
    t.equal(await name(), 'second');
    t.equal(await server.stop(), 0);
  },
);

t.test('a stop under load answers all requests, and a kill loses nothing acknowledged', async (t) => {
  const server = await Serve.start(folder());
  t.teardown(() => server.kill());
  const store = await open(server.volume('photos').location);
  t.teardown(() => store.close());
  const acknowledged: string[] = [];
  for (const how of ['SIGTERM', 'SIGKILL'] as const) {
    const state = { isOver: false };
    const before = acknowledged.length;
    const work = Array.from({ length: 6 }, async (_, worker) => {
      for (let index = 0; !state.isOver; index++) {
        const key = `packs/${how.toLowerCase()}/${worker}-${index}`;
        const body = asSealed(systemRandom.bytes(index % 2 === 0 ? 300 : 200_000));
        try {
          if ((await store.put(key, body)) === 'created') acknowledged.push(key);
        } catch (error) {
          if (!state.isOver && !(error instanceof Error && 'code' in error && error.code === 'UNAVAILABLE')) throw error;
        }
      }
    });
    const waits = Array.from({ length: 3 }, async () => store.awaitObject?.('log/never', { timeoutMs: 60_000 }).catch((error: unknown) => error));
    await eventually(() => acknowledged.length >= before + 60);
    if (how === 'SIGTERM') t.equal(await server.stop(), 0, 'nobody was cut');
    else await server.kill();
    state.isOver = true;
    await Promise.all(work);
    for (const outcome of await Promise.all(waits)) t.match(outcome, { code: 'UNAVAILABLE' });
    await server.restart();
    for (const key of acknowledged) t.ok((await store.head(key)) !== undefined, key);
  }
  const stored = readdirSync(join(server.base, 'photos', 'packs', 'sigterm'));
  t.equal(stored.length, acknowledged.filter((key) => key.startsWith('packs/sigterm/')).length, 'and nothing is there that was not answered');
  t.equal(await server.stop(), 0);
});

t.test('a commit through one of two servers on a base is noticed at the other', async (t) => {
  const one = await Serve.start(folder());
  t.teardown(() => one.kill());
  const two = await Serve.start(folder(), { base: one.base, tokenFile: one.tokenFile });
  t.teardown(() => two.kill());
  const { location } = one.volume('photos');
  const [writer, reader] = [await open(location), await open(location.replace(one.origin, two.origin))];
  t.teardown(() => Promise.all([writer.close(), reader.close()]));
  t.equal(await reader.awaitObject?.('log/1', { timeoutMs: 1 }), false);
  const wait = reader.awaitObject?.('log/1', { timeoutMs: 60_000 });
  await writer.put('log/1', asSealed(systemRandom.bytes(100)), { ifAbsent: true });
  t.equal(await wait, true);
  t.equal(await reader.put('log/1', asSealed(systemRandom.bytes(100)), { ifAbsent: true }), 'exists');
  t.equal(await one.stop(), 0);
  t.equal(await two.stop(), 0);
});
