/** `init` where somebody else is, was, or cannot be seen, and where a volume could not be used. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { encodeClaim } from '../../src/access/volume-claim.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import { Lighttpd, skipWebdav } from '../support/lighttpd.js';
import { ScriptedBucket } from '../support/scripted-bucket.js';
import { ScriptedServer } from '../support/scripted-server.js';
import { startStoreServer, storeKinds, whyNoStore } from '../support/store-server.js';
import type { Outcome, RunOptions } from './command-line.js';
import { fingerprint, Workplace } from './command-line.js';

const place = new Workplace();
t.teardown(() => place.remove());
t.setTimeout(600_000);
const s3Env = { AWS_ACCESS_KEY_ID: 'KEY', AWS_SECRET_ACCESS_KEY: 'HIDDEN' };

/** Runs `init` so many times at once; returns the only one that made a volume, by its number. */
async function race(t: Pick<typeof t_, 'same'>, count: number, run: (index: number) => Promise<Outcome>): Promise<number> {
  const outcomes = await Promise.all(Array.from({ length: count }, (_, index) => run(index)));
  const expected = [0, ...Array.from({ length: count - 1 }, () => exitCodes.NOT_A_VOLUME)];
  t.same(
    outcomes.map(({ code }) => code ?? -1).toSorted((a, b) => a - b),
    expected,
    outcomes.map(({ stderr }) => stderr).join(''),
  );
  return outcomes.findIndex(({ code }) => code === 0);
}
const t_ = t;

const initWithKey = (location: string, key: string, options: RunOptions = {}): Promise<Outcome> =>
  place.run(['init', location, '--key-file', place.path(key), '--no-recovery'], options);

t.test('of six inits at once in a folder one makes a volume, which its passphrase and words mount', { skip: whyNoFuse() }, async (t) => {
  const store = place.path('six');
  const words: string[] = [];
  const winner = await race(t, 6, async (index) => {
    const outcome = await place.run(['init', store, '--passphrase-fd', '3', '--json'], { secret: `passphrase number ${index}` });
    if (outcome.code === 0) words.push((JSON.parse(outcome.stdout) as { recoveryWords: string }).recoveryWords);
    return outcome;
  });
  const drive = place.makeFolder('six-drive');
  await place.succeed(['mount', store, drive, '--passphrase-fd', '3'], { secret: `passphrase number ${winner}` });
  writeFileSync(join(drive, 'file'), 'content');
  await place.succeed(['unmount', drive]);
  await place.succeed(['mount', store, drive, '--recovery', '--passphrase-fd', '3'], { secret: words[0] ?? '' });
  t.equal(readFileSync(join(drive, 'file'), 'utf8'), 'content');
  await place.succeed(['unmount', drive]);
  t.match(await place.succeed(['check', store, '--passphrase-fd', '3'], { secret: `passphrase number ${winner}` }), /Nothing is wrong/);
});

t.test('a volume in a folder that a sync client carries is made for several machines at once', async (t) => {
  const genesisSize = async (folder: string): Promise<number> => {
    const store = join(folder, 'store');
    const { code, stderr } = await place.run(['init', store, '--key-file', `${folder}.key`, '--no-recovery']);
    t.equal(code, 0, stderr);
    t.equal(/Syncthing carries this folder/.test(stderr), folder.endsWith('synced'));
    t.match(await place.succeed(['check', store, '--key-file', `${folder}.key`]), /Nothing is wrong/);
    const [name = ''] = readdirSync(join(store, 'log')).toSorted();
    return readFileSync(join(store, 'log', name)).byteLength;
  };
  const plain = await genesisSize(place.makeFolder('plain'));
  const synced = place.makeFolder('synced');
  mkdirSync(join(synced, '.stfolder'));
  t.equal(await genesisSize(synced), plain + 'work'.length + 1, 'its genesis names the feature');
});

for (const kind of storeKinds) {
  const skip = kind === 'directory' ? 'tested above' : kind === 's3' ? 'tested below, without its server' : whyNoStore(kind);
  if (skip !== undefined) continue;
  t.test(`of six inits at once one makes a volume: ${kind}`, async (t) => {
    const server = await startStoreServer(kind, place.path(`${kind}-server`));
    t.teardown(() => server.stop());
    const location = await server.location('six');
    const env = server.environment;
    const winner = await race(t, 6, (index) => initWithKey(location, `${kind}-${index}.key`, { env }));
    const key = place.path(`${kind}-${winner}.key`);
    t.match(await place.succeed(['check', location, '--key-file', key], { env }), /Nothing is wrong/);
  });
}

for (const condition of ['kept', 'ignored', 'refused'] as const) {
  t.test(`of four inits at once one makes a volume: an S3 server whose conditions are ${condition}`, async (t) => {
    const server = await new ScriptedBucket({ condition, ranges: true }).start();
    t.teardown(() => server.stop());
    const location = `s3://bucket/six?endpoint=${server.origin}`;
    const winner = await race(t, 4, (index) => initWithKey(location, `s3-${condition}-${index}.key`, { env: s3Env }));
    const key = place.path(`s3-${condition}-${winner}.key`);
    t.match(await place.succeed(['check', location, '--key-file', key], { env: s3Env }), /Nothing is wrong/);
  });
}

t.test('an init that was broken off is taken over, and only then', async (t) => {
  const store = place.path('broken');
  mkdirSync(join(store, 'volume'), { recursive: true });
  mkdirSync(join(store, 'log'));
  writeFileSync(join(store, '_sealdrive'), '0'.repeat(32));
  const remains = `${'0'.repeat(16)}-0123456789ab`;
  writeFileSync(join(store, 'log', remains), 'sealed');
  writeFileSync(join(store, 'volume', '0001'), encodeClaim(Buffer.alloc(16, 1), Date.parse('2026-05-04T03:02:01Z') / 1000));
  const before = fingerprint(store);
  const refused = await initWithKey(store, 'broken.key');
  t.equal(refused.code, exitCodes.NOT_A_VOLUME);
  t.match(
    refused.stderr,
    /claimed .* at 2026-05-04T03:02:01\.000Z .*under way, or was broken off; "sealdrive init --take-over \S*broken" makes a volume/,
  );
  t.equal(fingerprint(store), before, 'nothing was changed');
  const takeOver = (key: string): Promise<Outcome> => place.run(['init', store, '--take-over', '--key-file', place.path(key), '--no-recovery']);
  const winner = await race(t, 2, (index) => takeOver(`broken-${index}.key`));
  const key = place.path(`broken-${winner}.key`);
  t.match(await place.succeed(['check', store, '--key-file', key]), /Nothing is wrong/);
  t.notOk(readdirSync(join(store, 'log')).includes(remains), 'what the first one left is gone');
  const again = await takeOver('broken-again.key');
  t.equal(again.code, exitCodes.NOT_A_VOLUME);
  t.match(again.stderr, /holds a volume already/);
});

t.test('a volume whose keyslots were lost is not taken over', async (t) => {
  const { store, keyFile } = await place.makeVolume('lost');
  writeFileSync(join(store, 'log', `${'0'.repeat(15)}2-0123456789ab`), 'a commit of a device');
  rmSync(join(store, 'keys'), { recursive: true });
  await place.succeed(['volume', 'forget', store]);
  const refused = await place.run(['init', store, '--take-over', '--key-file', keyFile, '--no-recovery']);
  t.equal(refused.code, exitCodes.NOT_A_VOLUME);
  t.match(refused.stderr, /damaged copy; put "keys" back/);
});

t.test('a volume behind a proxy that strips a path prefix is not taken for an empty collection', { skip: skipWebdav() ?? false }, async (t) => {
  const lighttpd = await Lighttpd.start(place.makeFolder('stripped'));
  t.teardown(() => lighttpd.stop());
  const proxy = await ScriptedServer.start(({ method, target, headers, body }, answer) => {
    const passed = ['depth', 'content-type', 'if-none-match', 'range'].flatMap((name) => (name in headers ? [[name, String(headers[name])]] : []));
    const inner = target.replace(/^\/files(?=\/)/, '');
    void fetch(lighttpd.origin + inner, { method, headers: Object.fromEntries(passed), ...(body.length > 0 ? { body } : {}) }).then(async (got) => {
      answer.writeHead(got.status, Object.fromEntries(got.headers)).end(Buffer.from(await got.arrayBuffer()));
    });
  });
  t.teardown(() => proxy.stop());
  const portOf = (origin: string): string => new URL(origin).host;
  t.equal((await initWithKey(`webdav+http://${portOf(lighttpd.origin)}/open/drive`, 'strip.key')).code, 0);
  const before = fingerprint(lighttpd.root);
  const through = `webdav+http://${portOf(proxy.origin)}/files/open/drive`;
  for (const words of [
    ['init', through],
    ['init', '--take-over', through],
    ['check', through],
  ]) {
    const { code, stderr } = await place.run([...words, '--key-file', place.path('strip.key')]);
    t.equal(code, exitCodes.STORE, stderr);
    t.match(stderr, /does not hold the collection \/files\/open\/drive\/\S* that was asked for but \/open\/drive\/\S* a proxy that changes paths/);
  }
  t.equal(fingerprint(lighttpd.root), before, 'nothing was changed');
});

t.test('a store that mount cannot use is refused by init, mount and doctor, and used once it is mended', async (t) => {
  const bucket = new ScriptedBucket();
  const server = await bucket.start();
  t.teardown(() => server.stop());
  let hasRanges = false;
  bucket.faults = ({ headers }) => {
    if (!hasRanges) delete headers.range;
    return false;
  };
  const location = `s3://bucket/whole?endpoint=${server.origin}`;
  const expected = /no volume can be used in this store \(ranges: no.*take a proxy or cache out of the way/;
  const refused = await initWithKey(location, 'whole.key', { env: s3Env });
  t.equal(refused.code, exitCodes.STORE);
  t.match(refused.stderr, expected);
  t.same([...bucket.objects.keys()], [], 'nothing was written but probes');
  hasRanges = true;
  t.equal((await initWithKey(location, 'whole.key', { env: s3Env })).code, 0);
  hasRanges = false;
  const examined = await place.run(['doctor', location], { env: s3Env });
  t.equal(examined.code, exitCodes.MACHINE);
  t.match(examined.stdout, /MISSING ranges: no/);
  if (whyNoFuse()) return;
  const drive = place.makeFolder('whole-drive');
  const mount = ['mount', location, drive, '--key-file', place.path('whole.key')];
  for (const words of [mount, [...mount, '--state-dir', place.path('whole-state')]]) {
    const { code, stderr } = await place.run(words, { env: s3Env });
    t.equal(code, exitCodes.STORE);
    t.match(stderr, expected);
  }
  hasRanges = true;
  await place.succeed(mount, { env: s3Env });
  await place.succeed(['unmount', drive]);
});

t.test('init works in a folder with what systems leave there, and names what is in its way', async (t) => {
  const folder = place.makeFolder('lived-in');
  for (const name of ['.stfolder', 'System Volume Information', '@eaDir', 'lost+found']) mkdirSync(join(folder, name));
  for (const name of ['.DS_Store', 'desktop.ini', '._x']) writeFileSync(join(folder, name), '');
  const letter = join(folder, 'letter\n.txt');
  writeFileSync(letter, 'dear reader');
  const refused = await initWithKey(folder, 'lived-in.key');
  t.equal(refused.code, exitCodes.NOT_A_VOLUME);
  t.match(refused.stderr, /holds other files \(letter\\n\.txt\)/);
  rmSync(letter);
  t.equal((await initWithKey(folder, 'lived-in.key')).code, 0);
  t.match(await place.succeed(['check', folder, '--key-file', place.path('lived-in.key')]), /Nothing is wrong/);
});
