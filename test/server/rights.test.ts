/** Every right with every operation, on existing and missing keys, and what clients without any right can learn. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { collect, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { Served, uploadFolderAt } from './served.js';

const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);
const scratch = await scratchDirectory(t);
await mkdir(join(scratch, 'server'));
const base = await DirectoryStore.create(join(scratch, 'base'), { disk: systemDisk, random });
const served = await Served.start({
  base,
  folder: join(scratch, 'server'),
  random,
  uploads: uploadFolderAt(base.temporaryFolder, random),
});
t.teardown(async () => {
  await served.server.stop(0);
  await base.close();
});

const existing = 'packs/ab/there';
const absent = 'packs/ab/not-there';
const original = 'the first and only bytes';

/** A client, and the statuses that it gets; see {@link expected}. */
const askers = {
  nobody: undefined,
  garbage: 'Bearer sealdrive_x',
  'an unknown token': `Bearer sealdrive_000000000000_${'0'.repeat(64)}`,
  'a password': `Basic ${Buffer.from('photos:photos').toString('base64')}`,
  'another volume': `Bearer ${await served.token('full', 'music')}`,
  read: `Bearer ${await served.token('read')}`,
  append: `Bearer ${await served.token('append')}`,
  full: `Bearer ${await served.token('full')}`,
} as const;
type Asker = keyof typeof askers;

interface Operation {
  readonly name: string;
  readonly method: string;
  readonly target: (key: string) => string;
  readonly needs: 'read' | 'append' | 'full';
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: (key: string) => string;
  readonly onExisting: number;
  readonly onAbsent: number;
}

const objectAt = (key: string): string => `/photos/${key}`;
const operations: readonly Operation[] = [
  { name: 'get', method: 'GET', target: objectAt, needs: 'read', onExisting: 200, onAbsent: 404 },
  { name: 'get a range', method: 'GET', target: objectAt, headers: { range: 'bytes=4-8' }, needs: 'read', onExisting: 206, onAbsent: 404 },
  { name: 'wait', method: 'GET', target: (key) => `${objectAt(key)}?wait=30`, needs: 'read', onExisting: 200, onAbsent: 404 },
  { name: 'head', method: 'HEAD', target: objectAt, needs: 'read', onExisting: 200, onAbsent: 404 },
  { name: 'list', method: 'GET', target: () => '/photos?list', needs: 'read', onExisting: 200, onAbsent: 200 },
  { name: 'info', method: 'GET', target: () => '/photos?info', needs: 'read', onExisting: 200, onAbsent: 200 },
  {
    name: 'put if absent',
    method: 'PUT',
    target: objectAt,
    headers: { 'if-none-match': '*' },
    body: () => 'other bytes',
    needs: 'append',
    onExisting: 412,
    onAbsent: 201,
  },
  { name: 'put', method: 'PUT', target: objectAt, body: () => 'other bytes', needs: 'append', onExisting: 409, onAbsent: 201 },
  { name: 'delete', method: 'DELETE', target: objectAt, needs: 'full', onExisting: 204, onAbsent: 204 },
  {
    name: 'delete many',
    method: 'POST',
    target: () => '/photos?delete',
    body: (key) => JSON.stringify({ keys: [key] }),
    needs: 'full',
    onExisting: 204,
    onAbsent: 204,
  },
];

const rightOf: Readonly<Partial<Record<Asker, readonly string[]>>> = { read: ['read'], append: ['read', 'append'], full: ['read', 'append', 'full'] };

function expected(asker: Asker, operation: Operation, isThere: boolean): number {
  if (asker === 'another volume') return 403;
  const rights = rightOf[asker];
  if (!rights) return 401;
  if (!rights.includes(operation.needs)) return 403;
  return isThere ? operation.onExisting : operation.onAbsent;
}

async function ask(
  asker: Asker,
  method: string,
  target: string,
  rest: { readonly headers?: Readonly<Record<string, string>> | undefined; readonly body?: string | undefined } = {},
): Promise<{ readonly status: number; readonly text: string; readonly headers: Headers }> {
  const authorization = askers[asker];
  const answer = await fetch(`${served.origin}${target}`, {
    method,
    headers: { ...(authorization === undefined ? {} : { authorization }), ...rest.headers },
    ...(rest.body === undefined ? {} : { body: rest.body }),
  });
  return { status: answer.status, text: await answer.text(), headers: answer.headers };
}

const stored = async (key: string): Promise<string | undefined> => {
  const bytes = await base.get(`photos/${key}`);
  return bytes && Buffer.from(bytes).toString();
};

for (const asker of Object.keys(askers) as Asker[]) {
  t.test(`what ${asker} may do`, async (t) => {
    for (const operation of operations) {
      for (const isThere of [true, false]) {
        await base.delete([`photos/${existing}`, `photos/${absent}`]);
        await base.put(`photos/${existing}`, sealedText(original));
        const key = isThere ? existing : absent;
        const what = `${operation.name}, ${isThere ? 'there' : 'not there'}`;
        const { status, headers } = await ask(asker, operation.method, operation.target(key), {
          headers: operation.headers,
          body: operation.body?.(key),
        });
        t.equal(status, expected(asker, operation, isThere), what);
        t.equal(headers.get('sealdrive'), '1', what);
        const isDeleted = status === 204 && isThere;
        t.equal(await stored(existing), isDeleted ? undefined : original, `${what}: the object that was there`);
        t.equal(await stored(absent), status === 201 ? 'other bytes' : undefined, `${what}: the object that was not there`);
      }
    }
  });
}

t.test('an append token cannot remove or replace anything', async (t) => {
  await base.delete([`photos/${existing}`]);
  await base.put(`photos/${existing}`, sealedText(original));
  const tries: readonly (readonly [method: string, target: string, body?: string | undefined, headers?: Readonly<Record<string, string>>])[] = [
    ['DELETE', objectAt(existing)],
    ['DELETE', `${objectAt(existing)}?delete`],
    ['DELETE', '/photos'],
    ['DELETE', '/photos/'],
    ['POST', '/photos?delete', JSON.stringify({ keys: [existing] })],
    ['POST', '/photos/?delete', JSON.stringify({ keys: [existing] })],
    ['POST', objectAt(existing), 'x'],
    ['PUT', objectAt(existing), 'x'],
    ['PUT', objectAt(existing), ''],
    ['PUT', objectAt(existing), 'x', { 'if-none-match': '*' }],
    ['PUT', objectAt(existing), 'x', { 'if-none-match': '"a"' }],
    ['PUT', objectAt(existing), 'x', { 'if-match': '*' }],
    ['PUT', objectAt(existing), 'x', { 'content-range': 'bytes 0-0/24' }],
    ['PUT', objectAt(existing), 'x', { 'x-http-method-override': 'DELETE' }],
    ['PUT', `${objectAt(existing)}?list`, 'x'],
    ['PATCH', objectAt(existing), 'x'],
    ['MOVE', objectAt(existing), undefined, { destination: objectAt('packs/ab/elsewhere') }],
    ['PROPPATCH', objectAt(existing)],
    ['GET', '/photos?delete'],
    ['GET', `${objectAt(existing)}?delete`],
  ];
  for (const [method, target, body, headers] of tries) {
    const { status } = await ask('append', method, target, { body, headers });
    t.ok(status >= 400 && status < 500, `${method} ${target} ${JSON.stringify(headers ?? {})}: ${status}`);
    t.equal(await stored(existing), original);
  }
});

t.test('a batch that contains an invalid key deletes nothing', async (t) => {
  for (const wrong of ['../music/keys/x', '_sealdrive', 'packs/ab/', '', 'A', 'x'.repeat(200)]) {
    await base.put(`photos/${existing}`, sealedText(original));
    const { status } = await ask('full', 'POST', '/photos?delete', { body: JSON.stringify({ keys: [existing, wrong] }) });
    t.equal(status, 400, wrong);
    t.equal(await stored(existing), original);
  }
  for (const body of ['', '[]', '{}', 'null', '{"keys":"packs/ab/there"}', '{"keys":[1]}', '{"keys":[],"more":1}', '{"keys":[']) {
    t.equal((await ask('full', 'POST', '/photos?delete', { body })).status, 400, body);
  }
  const many = JSON.stringify({ keys: Array.from({ length: 1001 }, (_, index) => `packs/${index}`) });
  t.equal((await ask('full', 'POST', '/photos?delete', { body: many })).status, 400);
  t.equal((await ask('full', 'POST', '/photos?delete', { body: 'x'.repeat(300_000) })).status, 413);
});

t.test('every path looks the same without a token, and every path outside its volume looks the same with one', async (t) => {
  await base.put('music/keys/a', sealedText('music'));
  const targets = ['/', '/photos', '/photos?info', '/photos/keys/a', '/music/keys/a', '/none/keys/a', '/_sealdrive', '/%2e%2e/x', '/?list', '//'];
  const answerOf = async (asker: Asker, target: string): Promise<string> => {
    const { status, text, headers } = await ask(asker, 'GET', target);
    const rest = [...headers].filter(([name]) => name !== 'date');
    return JSON.stringify([status, text, rest]);
  };
  const first = await answerOf('nobody', targets[0]!);
  t.match(first, /^\[401,/);
  for (const target of targets) {
    for (const asker of ['nobody', 'garbage', 'an unknown token', 'a password'] as const)
      t.equal(await answerOf(asker, target), first, `${asker} ${target}`);
  }
  const outside = await answerOf('full', '/music/keys/a');
  t.match(outside, /^\[403,/);
  for (const target of ['/music/keys/none', '/music', '/music?list', '/none', '/none/keys/a', '/none?info']) {
    t.equal(await answerOf('full', target), outside, target);
  }
  await base.delete(['music/keys/a']);
});

t.test('an invalid key cannot name anything, so internal files of the base store stay out of reach', async (t) => {
  const targets = [
    '/photos/_sealdrive',
    '/photos/../_sealdrive',
    '/photos/..%2f_sealdrive',
    '/photos/%2e%2e/%2e%2e/etc/passwd',
    '/photos//keys',
    '/photos/keys/',
    '/photos/keys//a',
    '/photos/keys/A',
    '/photos/keys/a%20b',
    '/photos/keys/a\u00e4',
    '/photos/keys/a.b',
    '/photos/./keys',
    '/photos/keys/a;b',
    '/photos/keys/a#b',
    '/photos/keys/a?',
    '/photos/keys/a?wait',
    '/photos/keys/a?wait=1&wait=1',
    '/photos/keys/a?wait=-1',
    '/photos/keys/a?wait=60001',
    '/photos/keys/a?other=1',
    `/photos/${'x'.repeat(200)}`,
    `/photos/${'x/'.repeat(1000)}x`,
    '/photos?list&prefix=keys',
    '/photos?list&prefix=../',
    '/photos?list&limit=0x10',
    `/photos?list&after=${'x'.repeat(300)}`,
    '/PHOTOS/keys/a',
    '/keys/a',
    'http://photos/keys/a',
  ];
  for (const target of targets) {
    const { status } = await rawGet(target);
    // A URL parser may have removed part of it before it was sent.
    t.ok([400, 403].includes(status), `${target}: ${status}`);
  }
  t.same(
    (await collect(base.list(''))).filter((key) => !key.startsWith('photos/')),
    [],
  );
});

t.test('a list comes in pages, and each begins where the last one ended', async (t) => {
  const keys = Array.from({ length: 25 }, (_, index) => `log/${String(index).padStart(4, '0')}`);
  for (const key of keys) await base.put(`photos/${key}`, sealedText('x'));
  const found: string[] = [];
  let pages = 0;
  for (let after = ''; ; pages++) {
    const { text } = await ask('read', 'GET', `/photos?list&prefix=log/&limit=10${after === '' ? '' : `&after=${after}`}`);
    const page = JSON.parse(text) as { readonly objects: readonly (readonly [string, number])[]; readonly more: boolean };
    found.push(...page.objects.map(([key]) => key));
    after = page.objects.at(-1)?.[0] ?? '';
    if (!page.more) break;
  }
  t.same(found, keys);
  t.equal(pages, 2);
});

/** Sent as written, since higher-level clients normalize targets. */
async function rawGet(target: string): Promise<{ readonly status: number }> {
  const { request } = await import('node:http');
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(served.origin);
    const asked = request(
      {
        hostname,
        port,
        method: 'GET',
        path: Buffer.from(target, 'utf8')
          .toString('latin1')
          .replaceAll(/[^\x21-\x7e]/g, '%C3'),
        headers: { authorization: askers.full },
      },
      (answer) => {
        answer.resume();
        resolve({ status: answer.statusCode ?? 0 });
      },
    );
    asked.on('error', reject);
    asked.end();
  });
}
