/**
 * Names that control a terminal, hide a part of themselves, or are not UTF-8, in every place where a command takes or
 * prints one (doc/cli.md, "Names in messages"): they are printed harmlessly, and name exactly their file.
 */
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { decodeSystemText, encodeSystemText, isUnicode } from '../../src/base/system-text.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import { Serve } from '../support/serve.js';
import type { Outcome, RunOptions } from './command-line.js';
import { Workplace } from './command-line.js';

/** Starting processes and deriving keys take time. */
t.setTimeout(900_000);
const place = new Workplace();
t.teardown(() => place.remove());

/** Text as in disk/environment.ts: a lone surrogate is a byte. */
const hostile: Readonly<Record<string, string>> = {
  'a line end': 'a\nsealdrive: all is well',
  'an escape sequence': 'a\u001b]0;title\u0007\u001b[31m',
  'a C1 control': 'a\u009b31m',
  'a right-to-left override': 'a\u202egpj.exe',
  'a right-to-left mark': 'a\u200f\u061c\u2067',
  'zero width': 'a\u200b\ufeff\u00ad',
  'a line separator': 'a\u2028b\u2029',
  'a tag': 'a\u{e0041}\u3164',
  'a byte that is no UTF-8': 'a\udcff',
  'C1 as a byte': 'a\udc9b31m',
  'an overlong slash': 'a\udcc0\udcafb',
  'a backslash': String.raw`a\nb\x1b`,
};
/** All of these in one name. */
const worst = Object.values(hostile)
  .map((name) => name.slice(1))
  .join('');

/** Node.js starts programs with UTF-8 only, so a shell makes the bytes. */
const makeBytes = `for word; do shift; word=$(printf '%bx' "$word"); set -- "$@" "\${word%x}"; done; exec "$@"`;
const octal = (word: string): string =>
  Array.from(encodeSystemText(word), (byte) =>
    byte > 0x20 && byte < 0x7f && byte !== 0x5c ? String.fromCharCode(byte) : String.raw`\0${byte.toString(8).padStart(3, '0')}`,
  ).join('');

async function run(words: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return place.run(words.map(octal), { wrapper: ['sh', '-c', makeBytes, 'sh'], ...options });
}

// oxlint-disable-next-line no-control-regex
const steers = /[\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Default_Ignorable_Code_Point}\u0000-\u0009\u000b-\u001f\u007f-\u009f]/u;

/** Neither output contains terminal control characters or bytes that are not UTF-8. */
function isHarmless(t: Pick<typeof import('tap').t, 'notMatch'>, { stdout, stderr }: Outcome, what: string): void {
  for (const text of [stdout, stderr]) {
    t.notMatch(text, steers, `${what}: nothing steers the terminal`);
    if (!/^[{[]/.test(text)) t.notMatch(text, /\ufffd/, `${what}: no byte that is no UTF-8`);
    t.notMatch(text, /^sealdrive: all is well$/m, `${what}: no line that a name made up`);
  }
}

const store = place.path(`s${worst}`);
const keyFile = place.path(`k${worst}`);
const secret = ['--key-file', keyFile];

t.test('a store and a key file are created under exactly the given name', async (t) => {
  const made = await run(['init', store, ...secret, '--no-recovery']);
  t.equal(made.code, 0, made.stderr);
  isHarmless(t, made, 'init');
  const names = readdirSync(place.folder, { encoding: 'buffer' }).map(decodeSystemText);
  t.strictSame(names.filter((name) => /^[sk]a?/.test(name) && name !== 'state').toSorted(), [`k${worst}`, `s${worst}`].toSorted());
  const [, word = ''] = /sealdrive mount (\$'.*') DIRECTORY/.exec(made.stdout) ?? [];
  t.match(word, /^\$'[ -~]+'$/, 'and shown as a shell takes it');
});

t.test('commands that read a store, and error messages, print harmless names', async (t) => {
  const label = [
    'key',
    'add',
    store,
    ...secret,
    '--new-passphrase-fd',
    '4',
    '--label',
    `l${hostile['a right-to-left override']}${hostile['a C1 control']}`,
  ];
  t.equal((await run(label, { newSecret: 'a passphrase that is long' })).code, 0);
  const commands: readonly (readonly [code: number, ...words: string[]])[] = [
    [0, 'key', 'list', store],
    [0, 'key', 'list', store, '--json'],
    [0, 'check', store, ...secret],
    [0, 'check', store, ...secret, '--json'],
    [0, 'repair', store, ...secret],
    [0, 'doctor', store],
    [0, 'doctor', store, '--json'],
    [0, 'salvage', store, place.path(`d${worst}`), ...secret],
    [2, 'salvage', store, place.path(`d${worst}`), ...secret],
    [0, 'volume', 'add', 'named', store, ...secret, '--mount-point', place.path(`m${worst}`)],
    [0, 'volume', 'list'],
    [0, 'volume', 'list', '--json'],
    [2, 'volume', 'remove', hostile['an escape sequence'] ?? ''],
    [4, 'init', store, ...secret],
    [4, 'key', 'list', place.path(`absent${worst}`)],
    [6, 'mount', store, place.folder, '--key-file', place.path(`absent${worst}`)],
    [6, 'mount', store, place.path(`absent${worst}`), ...secret],
    [6, 'mount', store, place.path(`absent${worst}`), ...secret, '--json'],
    [2, 'status', place.path(`absent${worst}`)],
    [2, 'pin', place.path(`absent${worst}`)],
    [6, 'unmount', place.path(`absent${worst}`)],
    [6, 'flush', place.path(`absent${worst}`)],
    [2, 'key', 'remove', store, hostile['a line end'] ?? ''],
    [2, 'token', 'add', hostile['a line end'] ?? ''],
    [2, 'token', 'add', 'photos', '--label', hostile['a line separator'] ?? ''],
    [2, 'serve', store, '--listen', hostile['an escape sequence'] ?? ''],
    [2, hostile['an escape sequence'] ?? ''],
    [2, 'status', `--${hostile['an escape sequence']}`],
    [2, 'mount', store, place.folder, '--driver', worst],
    [2, 'mount', store, place.folder, '--timeout', hostile['a right-to-left mark'] ?? ''],
    [2, 'init', `${hostile['a C1 control']}:x`],
    [4, 'drive', place.path(`e${worst}`), '--store', place.path(`absent${worst}`, 'deep', '\u0007'), '--passphrase-fd', '3'],
  ];
  for (const [code, ...words] of commands) {
    const outcome = await run(words);
    const what = words
      .slice(0, 2)
      .join(' ')
      .replaceAll(/[^ -~]/g, '?')
      .slice(0, 60);
    if (words[0] !== 'drive') t.equal(outcome.code, code, `${what}: ${outcome.stderr}${outcome.stdout}`);
    isHarmless(t, outcome, what);
  }
});

t.test('text from a server cannot control the terminal', async (t) => {
  const said = `<?xml version="1.0"?><Error><Code>Access\u202eDenied</Code><Message>no\u009b31m\u202e\u2028</Message></Error>`;
  const server = createServer((request, response) => {
    request.resume();
    // Node.js reads header text as latin1: a C1 byte stays one.
    response.writeHead(403, 'no\u009b31m', { 'content-type': 'application/xml', 'x-amz-request-id': 'a\u009b31m', server: '\u009b31m' });
    response.end(said);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const env = { AWS_ACCESS_KEY_ID: 'a', AWS_SECRET_ACCESS_KEY: 'b' };
  const token = place.path('server.token');
  writeFileSync(token, `sealdrive_${'a'.repeat(12)}_${'b'.repeat(64)}\n`, { mode: 0o600 });
  for (const location of [
    `s3://bucket/x?endpoint=http://127.0.0.1:${port}`,
    `webdav+http://127.0.0.1:${port}/x`,
    `http://127.0.0.1:${port}/photos?token-file=${token}`,
  ]) {
    for (const words of [
      ['key', 'list', location],
      ['doctor', location],
      ['init', location, '--key-file', place.path('server.key'), '--json'],
    ]) {
      const outcome = await run(words, { env });
      t.not(outcome.code, 0);
      t.match(outcome.stdout + outcome.stderr, /403|denied|refuse|not allow/i, 'it was the server');
      isHarmless(t, outcome, `${words[0]} ${location.slice(0, 8)}`);
    }
  }
});

t.test('the server of a store prints and logs harmless names', async (t) => {
  const folder = place.makeFolder('served');
  const base = join(
    folder,
    `b${Object.values(hostile)
      .filter(isUnicode)
      .map((name) => name.slice(1))
      .join('')}`,
  );
  const served = await Serve.start(folder, { base });
  t.teardown(() => served.stop());
  const answer = await fetch(`${served.origin}/%1b%5b31m%e2%80%ae/keys/%c2%9b`, { headers: { 'user-agent': '\u009b31m' } });
  await answer.text();
  await served.stop();
  isHarmless(t, { code: 0, stdout: readFileSync(served.accessLog, 'utf8'), stderr: served.log }, 'serve');
});

t.test('arguments other than paths must be UTF-8', async (t) => {
  const bytes = 'a\udcff';
  for (const words of [
    ['mount', store, place.folder, '--device-name', bytes],
    ['key', 'add', store, '--label', bytes],
    ['init', place.path('x'), '--name', bytes],
    ['mount', store, place.folder, '--timeout', bytes],
    ['init', `s3://bucket/${bytes}`],
    ['init', `file:///tmp/${bytes}`],
    ['volume', 'add', bytes, store],
    [bytes],
  ]) {
    const outcome = await run(words, { cwd: place.folder });
    t.equal(outcome.code, 2, `${words[0]?.slice(0, 6)}: ${outcome.stderr}`);
    isHarmless(t, outcome, 'bytes');
  }
  t.notOk(existsSync(place.path('x')), 'nothing was made');
  const percent = await run(['key', 'list', 'file:///%ff']);
  t.equal(percent.code, 2, percent.stderr);
});

const why = whyNoFuse();
if (why === false) {
  t.test('a drive, its files and pins are found by their exact names and printed harmlessly', async (t) => {
    const mountPoint = place.path(`m${worst}`);
    mkdirSync(encodeSystemText(mountPoint));
    const mounted = await run(['mount', store, mountPoint, ...secret, '--device-name', `d${hostile['a right-to-left override']}`]);
    t.equal(mounted.code, 0, mounted.stderr);
    isHarmless(t, mounted, 'mount');
    const paths = Object.values(hostile).map((name) => join(mountPoint, name));
    for (const [index, path] of paths.entries()) writeFileSync(encodeSystemText(path), 'x'.repeat(index + 1));

    for (const words of [['status'], ['status', mountPoint], ['status', ...paths], ['pin', ...paths], ['pin', '--list'], ['flush', mountPoint]]) {
      const outcome = await run(words);
      t.equal(outcome.code, 0, outcome.stderr);
      isHarmless(t, outcome, words.slice(0, 1).join());
    }
    const shown = (await run(['status', ...paths])).stdout.trimEnd().split('\n');
    t.equal(shown.length, paths.length, 'a line each');
    t.equal(new Set(shown.map((line) => line.replace(/: in the store.*/, ''))).size, paths.length, 'and no two alike');

    const report = await run(['status', ...paths, '--json']);
    isHarmless(t, report, 'status --json');
    const { files } = JSON.parse(report.stdout) as { files: { path: string; pathBase64?: string; contentBytes: number }[] };
    for (const [index, { path, pathBase64, contentBytes }] of files.entries()) {
      const bytes = pathBase64 === undefined ? Buffer.from(path) : Buffer.from(pathBase64, 'base64');
      t.equal(decodeSystemText(bytes), paths[index], 'JSON names it exactly');
      t.equal(contentBytes, index + 1, 'and it is that file');
    }
    const pins = JSON.parse((await run(['pin', '--list', '--json'])).stdout) as { pins: { path: string; pathBase64?: string }[] };
    const pinned = pins.pins.map(({ path, pathBase64 }) =>
      decodeSystemText(pathBase64 === undefined ? Buffer.from(path) : Buffer.from(pathBase64, 'base64')),
    );
    t.strictSame(
      pinned.toSorted(),
      Object.values(hostile)
        .map((name) => `/${name}`)
        .toSorted(),
    );

    const unpinned = await run(['unpin', ...paths]);
    t.equal(unpinned.code, 0, unpinned.stderr);
    isHarmless(t, unpinned, 'unpin');
    t.match((await run(['pin', '--list'])).stdout, /^Nothing is pinned/);

    for (const words of [
      ['mount', store, mountPoint, ...secret],
      ['salvage', store, place.path(`f${worst}`), ...secret],
      ['repair', store, ...secret],
    ]) {
      isHarmless(t, await run(words), words[0] ?? '');
    }
    const saved = readdirSync(encodeSystemText(place.path(`f${worst}`, 'tree')), { encoding: 'buffer' }).map(decodeSystemText);
    t.strictSame(saved.toSorted(), Object.values(hostile).toSorted(), 'and saved under their names');

    const status = JSON.parse((await run(['status', '--json'])).stdout) as {
      mounts: { stateDirectory: string; details: { device: { name: string } } }[];
    };
    const log = readFileSync(join(status.mounts[0]?.stateDirectory ?? '', 'daemon.log'), 'utf8');
    t.notMatch(log, steers, 'the log steers nothing');
    const unmounted = await run(['unmount', mountPoint]);
    t.equal(unmounted.code, 0, unmounted.stderr);
    isHarmless(t, unmounted, 'unmount');
  });

  t.test('home, working and state directories whose paths are not UTF-8 are used unchanged', async (t) => {
    const home = place.path('home\udcff');
    const here = place.path('here\udcfe');
    for (const folder of [home, here, `${here}/m`]) mkdirSync(encodeSystemText(folder));
    // The launcher takes both as bytes, too.
    const inside = `cd "$1" && HOME=$2 && export HOME && unset XDG_STATE_HOME && shift 2 && exec "$@"`;
    const there = (words: readonly string[]): Promise<Outcome> =>
      place.run(words.map(octal), { wrapper: ['sh', '-c', makeBytes, 'sh', 'sh', '-c', octal(inside), 'sh', octal(here), octal(home)] });
    for (const words of [
      ['init', 'store', '--key-file', 'key', '--no-recovery'],
      ['mount', 'store', 'm', '--key-file', 'key'],
      ['status', 'm'],
      ['flush', 'm'],
      ['unmount', 'm'],
      ['mount', 'store', 'm', '--key-file', 'key', '--state-dir', 'other\udcfd'],
      ['unmount', 'm'],
      ['volume', 'add', 'mine', 'store', '--mount-point', 'm', '--key-file', 'key'],
      ['mount', 'mine'],
      ['unmount', 'mine'],
    ]) {
      const outcome = await there(words);
      t.equal(outcome.code, 0, `${words.slice(0, 2).join(' ')}: ${outcome.stderr}`);
      isHarmless(t, outcome, words[0] ?? '');
    }
    const list = (folder: string): string[] => readdirSync(encodeSystemText(folder), { encoding: 'buffer' }).map(decodeSystemText).toSorted();
    t.strictSame(list(here), ['key', 'm', 'other\udcfd', 'store']);
    t.strictSame(list(home), ['.config', '.local']);
    t.notOk(
      list(place.folder).some((name) => name.includes('\ufffd')),
      'nothing lies beside them under a name that nobody gave',
    );
  });
} else t.test('a mounted drive', { skip: why }, async () => {});
