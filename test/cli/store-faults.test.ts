/**
 * Faults of a store as a user sees them: one line that says what to do, or a retry, and nothing that was written is
 * lost.
 */
import { writeFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import t from 'tap';
import { listSlots } from '../../src/access/keyslots.js';
import { openVolumeStore } from '../../src/access/volume-store.js';
import { explain } from '../../src/program/explain.js';
import { exitCodes, Failure } from '../../src/terminal/exit-code.js';
import { complain, ScriptedBucket } from '../support/scripted-bucket.js';
import type { ScriptedServer } from '../support/scripted-server.js';
import { Workplace } from './command-line.js';

// The servers run in this process, so all access to a drive here is asynchronous.
const place = new Workplace();
t.teardown(() => place.remove());

const env = { AWS_ACCESS_KEY_ID: 'KEY', AWS_SECRET_ACCESS_KEY: 'HIDDEN' };
const urlOf = (server: ScriptedServer): string => `s3://bucket?endpoint=${server.origin}`;

async function serve(bucket: ScriptedBucket): Promise<ScriptedServer> {
  const server = await bucket.start();
  t.teardown(() => server.stop());
  return server;
}

t.test('each refusal of a store is one line that says what to do', async (t) => {
  const bucket = new ScriptedBucket();
  const location = urlOf(await serve(bucket));
  const before = { ...process.env };
  t.teardown(() => Object.assign(process.env, before));
  Object.assign(process.env, env);
  const cases: readonly (readonly [status: number, code: string, message: RegExp])[] = [
    [403, 'InvalidAccessKeyId', /does not know this access key/],
    [403, 'SignatureDoesNotMatch', /secret key is not the one/],
    [400, 'ExpiredToken', /token has expired: get new credentials/],
    [403, 'RequestTimeTooSkewed', /clock differs too much.*set it/],
    [403, 'AccessDenied', /do not permit it/],
    [404, 'NoSuchBucket', /no such bucket: make it first, or check its name/],
    [301, 'PermanentRedirect', /redirects to another address.*check the endpoint and the region/],
    [507, 'InsufficientStorage', /no room left/],
    [405, '', /status 405/],
    [200, '', /not the ListBucketResult that was expected/],
  ];
  for (const [status, code, message] of cases) {
    bucket.faults = (_, answer) => {
      complain(answer, status, code);
      return true;
    };
    const store = await openVolumeStore(location);
    const error = await listSlots(store).catch((thrown: unknown) => thrown);
    await store.close();
    const failure = explain(error);
    t.ok(failure instanceof Failure && ['STORE', 'NOT_A_VOLUME'].includes(failure.code), `${code}: ${failure.code}`);
    t.match(failure.message, message);
    t.notMatch(failure.message, /\n|HIDDEN|defect/);
  }
});

t.test('a storm of errors is waited out without a message', async (t) => {
  const bucket = new ScriptedBucket();
  const server = await serve(bucket);
  let count = 0;
  bucket.faults = (_, answer) => {
    if (++count > 4) return false;
    complain(answer, [503, 429, 500, 503][count - 1]!, ['SlowDown', 'TooManyRequests', 'InternalError', ''][count - 1]!);
    return true;
  };
  const made = await place.run(['init', urlOf(server), '--key-file', 'storm.key', '--no-recovery'], { env });
  t.equal(made.code, 0, made.stderr);
  t.match(made.stdout, new RegExp(`sealdrive mount 's3://bucket\\?endpoint=${server.origin}' DIRECTORY`), 'a hint that the shell takes as it is');
  t.notMatch(made.stderr, /503|429|500/);
});

t.test('a server that ignores If-None-Match serves one device, which is announced, displayed and enforced', async (t) => {
  const server = await serve(new ScriptedBucket({ condition: 'ignored', ranges: true }));
  const url = urlOf(server);
  const made = await place.run(['init', url, '--key-file', 'single.key', '--no-recovery', '--json', '--name', 'single'], { env });
  t.match(JSON.parse(made.stdout), { singleWriter: true, probe: { conditionalPut: 'none' } });
  t.match(made.stderr, /warning: this store cannot keep two devices apart/);
  t.match(JSON.parse(await place.succeed(['doctor', 'single', '--json'], { env })), {
    ok: true,
    store: { conditionalPut: 'none', singleWriter: true },
  });
  const first = place.makeFolder('first');
  const second = place.makeFolder('second');
  const mounted = await place.run(['mount', 'single', first, '--upload-limit', '50M'], { env });
  t.equal(mounted.code, 0, mounted.stderr);
  t.match(mounted.stderr, /ONE device at a time/);
  t.match(await place.succeed(['status', 'single']), /limits .*uploadPerSecond 50 MiB[^]*warning .*one device only/);
  t.match(JSON.parse(await place.succeed(['limit', 'single', '--upload', 'off', '--download', '20M', '--json'])), {
    upload: null,
    download: 20 * 1024 * 1024,
  });
  t.equal((await place.run(['limit', 'single', '--upload', 'fast'])).code, exitCodes.USAGE);
  await writeFile(place.path('first', 'a'), 'a');
  await place.succeed(['unmount', 'single']);
  const elsewhere = ['--state-dir', place.path('other-state')];
  const refused = await place.run(['mount', 'single', second, ...elsewhere], { env });
  t.equal(refused.code, exitCodes.STORE);
  t.match(refused.stderr, /another device writes to the volume already: mount with --read-only, or.*--single-writer-anyway/);
  await place.succeed(['mount', 'single', second, ...elsewhere, '--read-only'], { env });
  t.equal(await readFile(place.path('second', 'a'), 'utf8'), 'a');
  await place.succeed(['unmount', second]);
  await place.succeed(['mount', 'single', second, ...elsewhere, '--single-writer-anyway'], { env });
  t.equal(await readFile(place.path('second', 'a'), 'utf8'), 'a');
  await place.succeed(['unmount', second]);
});

t.test('nothing is lost when credentials expire or may not delete', async (t) => {
  const bucket = new ScriptedBucket();
  const url = urlOf(await serve(bucket));
  const credentials = place.path('credentials');
  const write = (key: string): void => writeFileSync(credentials, `[default]\naws_access_key_id = ${key}\naws_secret_access_key = HIDDEN\n`);
  const files = { AWS_SHARED_CREDENTIALS_FILE: credentials };
  write('OLDKEY');
  let valid = 'OLDKEY';
  bucket.faults = ({ method, headers }, answer) => {
    if (!(headers.authorization ?? '').includes(`Credential=${valid}/`)) complain(answer, 400, 'ExpiredToken');
    else if (method === 'DELETE') complain(answer, 403, 'AccessDenied');
    else return false;
    return true;
  };
  await place.succeed(['init', url, '--key-file', 'expiring.key', '--no-recovery', '--name', 'expiring'], { env: files });
  t.match(await place.succeed(['doctor', 'expiring'], { env: files }), /delete: refused: these credentials only add/);
  const drive = place.makeFolder('drive');
  await place.succeed(['mount', 'expiring', drive], { env: files });
  await writeFile(place.path('drive', 'before'), 'before');
  await place.succeed(['flush', 'expiring']);
  valid = 'NEWKEY';
  await writeFile(place.path('drive', 'after'), 'after');
  const flushed = await place.run(['flush', 'expiring', '--timeout', '20s']);
  t.not(flushed.code, 0);
  t.match(flushed.stderr, /^sealdrive: [^\n]*\n$/);
  t.match(flushed.stderr, /token has expired: get new credentials/);
  // The background retry notices by itself.
  let shown = '';
  while (!shown.includes('RETRYING')) shown = await place.succeed(['status', 'expiring']);
  t.match(shown, /RETRYING .*token has expired/);
  t.equal(await readFile(place.path('drive', 'after'), 'utf8'), 'after', 'what waits can be read');
  write('NEWKEY');
  await place.succeed(['flush', 'expiring', '--timeout', '60s']);
  await place.succeed(['unmount', 'expiring']);
  await place.succeed(['mount', 'expiring', drive, '--state-dir', place.path('fresh-state')], { env: files });
  for (const name of ['before', 'after']) t.equal(await readFile(place.path('drive', name), 'utf8'), name);
  await place.succeed(['unmount', drive]);
});
