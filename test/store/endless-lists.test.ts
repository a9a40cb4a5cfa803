/**
 * Endless lists and oversized answers from a hostile store: each is given up within bounds, for every kind of store.
 */
import { mkdirSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import t from 'tap';
import type { Disk } from '../../src/disk/disk.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { HttpStore } from '../../src/store/http-store.js';
import { ListingBudget } from '../../src/store/listing-budget.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { S3Store } from '../../src/store/s3-store.js';
import type { SftpEntry } from '../../src/store/sftp-connection.js';
import { readWithin } from '../../src/store/sftp-store.js';
import { WebdavStore } from '../../src/store/webdav-store.js';
import type { XmlNode } from '../../src/store/xml-answer.js';
import { childText, tryParseXml, XmlReader } from '../../src/store/xml-answer.js';
import { ManualClock } from '../suite/manual-clock.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import type { Script } from '../support/scripted-server.js';
import { ScriptedServer } from '../support/scripted-server.js';

type Test = typeof t;

const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);
const random = new SeededRandom(seed);
t.setTimeout(600_000);

const makers = {
  s3: (origin: URL): ObjectStore =>
    new S3Store({
      bucket: 'bucket',
      prefix: '',
      endpoint: origin,
      region: 'us-east-1',
      style: 'path',
      loadSettings: async () => ({ credentials: { accessKeyId: 'KEY', secretAccessKey: 'SECRET' } }),
      disk: systemDisk,
    }),
  webdav: (origin: URL): ObjectStore =>
    new WebdavStore({ origin, segments: ['drive'], loadCredentials: async () => undefined, disk: systemDisk, random }),
  serve: (origin: URL): ObjectStore => new HttpStore({ origin, segments: ['photos'], loadToken: async () => 'token', disk: systemDisk }),
};

async function open(
  t: Pick<Test, 'teardown'>,
  kind: keyof typeof makers,
  script: Script,
): Promise<{ readonly server: ScriptedServer; readonly store: ObjectStore }> {
  const server = await ScriptedServer.start(script);
  const store = makers[kind](new URL(server.origin));
  t.teardown(async () => {
    await store.close();
    await server.stop();
  });
  return { server, store };
}

async function listAll(store: ObjectStore, signal?: AbortSignal): Promise<number> {
  let count = 0;
  for await (const _ of store.list('keys/', signal ? { signal } : {})) count++;
  return count;
}

const page = (token: string, keys: readonly string[]): string =>
  `<ListBucketResult>${keys.map((key) => `<Contents><Key>${key}</Key><Size>1</Size></Contents>`).join('')}` +
  `<IsTruncated>true</IsTruncated><NextContinuationToken>${token}</NextContinuationToken></ListBucketResult>`;
/** The marker of a store is missing, as in most stores. */
const dav = (answer: ServerResponse, body: string): void => {
  answer.writeHead(207, { 'content-type': 'application/xml' }).end(`<D:multistatus xmlns:D="DAV:">${body}</D:multistatus>`);
};
const collection = (href: string): string =>
  `<D:response><D:href>${href}</D:href><D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop></D:propstat></D:response>`;

t.test('S3: endless pages, empty or with keys that were listed before, end in an error', async (t) => {
  for (const [name, keys] of [
    ['empty pages', () => []],
    ['the same keys', () => ['keys/a', 'keys/b']],
    ['foreign keys', (at: number) => [`keys/FOREIGN/${at}`]],
    ['keys that go back', (at: number) => [`keys/${String(1_000_000 - at).padStart(7, '0')}`]],
  ] as const) {
    let at = 0;
    const { server, store } = await open(t, 's3', (_, answer) => answer.end(page(`token-${++at}`, keys(at))));
    await t.rejects(listAll(store), { code: 'PROTOCOL', message: /does not end/ }, name);
    t.ok(server.requests.length <= 600, `${name}: ${server.requests.length} requests`);
  }
});

t.test('WebDAV: collections that contain each other, or nest without end, end in an error', async (t) => {
  const { server, store } = await open(t, 'webdav', ({ method, target }, answer) => {
    if (method === 'GET') answer.writeHead(404).end();
    else dav(answer, collection(target) + collection(`${target}a/`) + collection(`${target}b/`));
  });
  await t.rejects(listAll(store), { code: 'PROTOCOL', message: /does not end/ });
  t.ok(server.requests.length <= 600, `${server.requests.length} requests`);
});

t.test('WebDAV: an endless list of foreign names is given up', async (t) => {
  const { store } = await open(t, 'webdav', ({ method }, answer) => {
    if (method === 'GET') {
      answer.writeHead(404).end();
      return;
    }
    answer.writeHead(207).write('<D:multistatus xmlns:D="DAV:">');
    // Padded by white space, which is cheap to read.
    const entry = Buffer.from(`<D:response><D:href>/drive/keys/FOREIGN</D:href></D:response>${' '.repeat(64 * 1024)}`);
    const more = (): void => {
      while (!answer.destroyed) {
        if (!answer.write(entry)) {
          answer.once('drain', more);
          return;
        }
      }
    };
    more();
  });
  await t.rejects(listAll(store), { code: 'PROTOCOL', message: /does not end/ });
});

t.test('serve: a list must advance with each page, and each page counts against its limit', async (t) => {
  const { store } = await open(t, 'serve', (_, answer) => {
    answer.writeHead(200, { sealdrive: '1' }).end(JSON.stringify({ objects: [['keys/a', 1]], more: true }));
  });
  await t.rejects(listAll(store), { code: 'PROTOCOL', message: /goes on without saying where/ });
});

t.test('a directory: foreign names take no memory, and possible keys are bounded in number', async (t) => {
  const root = await scratchDirectory(t);
  let names = function* (): Generator<string> {};
  let keptMax = 0;
  const disk: Disk = {
    ...systemDisk,
    async readDirectory(path, isWanted) {
      if (!isWanted) return systemDisk.readDirectory(path);
      const kept = [...names()].filter((name) => isWanted(name)).map((name) => ({ name, kind: 'file' }) as const);
      keptMax = Math.max(keptMax, kept.length);
      return kept;
    },
  };
  const store = await DirectoryStore.create(root, { disk, random });
  t.teardown(() => store.close());
  mkdirSync(join(root, 'keys'));
  function* many(prefix: string, count: number): Generator<string> {
    for (let at = 0; at < count; at++) yield prefix + at;
  }
  names = () => many('FOREIGN ', 200_000);
  t.equal(await listAll(store), 0);
  t.equal(keptMax, 0);
  names = () => many('a', 1_000_001);
  await t.rejects(listAll(store), { code: 'PROTOCOL', message: /more than 1000000 names/ });
});

t.test('a directory: endlessly nested folders are given up', async (t) => {
  const root = await scratchDirectory(t);
  let count = 0;
  const folders = ['a', 'b', 'c'].map((name) => ({ name, kind: 'directory' }) as const);
  const disk: Disk = {
    ...systemDisk,
    readDirectory: async (path, isWanted) => (isWanted ? folders.filter(({ name }) => isWanted(name)) : systemDisk.readDirectory(path)),
    // All of them are listed.
    openDirectory: async () => ({ path: root, setAccess: async () => {}, close: () => void count++ }),
  };
  const store = await DirectoryStore.create(root, { disk, random });
  t.teardown(() => store.close());
  await t.rejects(listAll(store), { code: 'PROTOCOL', message: /does not end/ });
  t.ok(count < 200_000, `${count} folders were opened`);
});

t.test('SFTP: a directory whose listing never ends is given up', async (t) => {
  const names = (at: number): string => `FOREIGN ${at}`.padEnd(200, 'x');
  let replies = 0;
  const budget = new ListingBudget('listing keys/', new ManualClock());
  const connection = {
    async readDirectory(_: string, take: (entries: readonly SftpEntry[]) => void): Promise<void> {
      for (;;) {
        const entries = Array.from(
          { length: 100 },
          (_, at) => ({ filename: names(replies * 100 + at), longname: '', attrs: {} }) as unknown as SftpEntry,
        );
        replies++;
        take(entries);
      }
    },
  };
  await t.rejects(
    readWithin(connection, '/drive/keys', budget, () => {}),
    { code: 'PROTOCOL', message: /does not end/ },
  );
  t.ok(replies < 10_000, `${replies} answers were taken`);
  budget.end();
});

t.test('an aborted list ends at once, even in the middle of an answer that trickles in', async (t) => {
  for (const kind of ['s3', 'webdav', 'serve'] as const) {
    const stop = new AbortController();
    const { store } = await open(t, kind, ({ method, target }, answer) => {
      if (kind === 'webdav' && method === 'GET') {
        answer.writeHead(404).end();
        return;
      }
      answer.writeHead(kind === 'webdav' ? 207 : 200, { sealdrive: '1' }).write(kind === 'serve' ? '{"objects":[' : `<a href="${target}">`);
      stop.abort(new Error('enough'));
    });
    await t.rejects(listAll(store, stop.signal), /enough/, kind);
  }
});

t.test('a listing has a minute, and more time for what it finds', async (t) => {
  const clock = new ManualClock();
  const budget = new ListingBudget('listing', clock);
  budget.request();
  t.equal(budget.signal.aborted, false);
  t.same(clock.sleeps, [60_000]);
  await new Promise((resolve) => budget.signal.addEventListener('abort', resolve));
  t.throws(() => budget.request(), { code: 'UNAVAILABLE', message: "listing: the store's list takes too long" });
  budget.end();
});

t.test('each listed object allows one more request and some more bytes', (t) => {
  const budget = new ListingBudget('listing', new ManualClock());
  for (let at = 0; at < 500; at++) budget.request();
  t.throws(() => budget.request(), { code: 'PROTOCOL' });
  for (let at = 0; at < 2; at++) budget.found();
  budget.request();
  t.throws(() => budget.request(), { code: 'PROTOCOL' });
  budget.received(64 * 1024 * 1024 + 2 * 4096);
  t.throws(() => budget.received(1), { code: 'PROTOCOL' });
  budget.end();
  t.end();
});

/** The result for a document that arrives in pieces of `pieceSize`. */
function read(pieces: Iterable<string>, pieceSize = 1000): { readonly records: XmlNode[]; readonly root: XmlNode } {
  const records: XmlNode[] = [];
  const reader = new XmlReader('list', 'entry', 'listing', (record) => records.push(record));
  for (const piece of pieces) {
    const bytes = Buffer.from(piece);
    for (let at = 0; at < bytes.byteLength; at += pieceSize) reader.write(bytes.subarray(at, at + pieceSize));
  }
  return { records, root: reader.end() };
}

t.test('a document is read the same however it is split into pieces', (t) => {
  const text = `\ufeff<?xml version="1.0"?>\n<x:list xmlns:x="y"><more>true</more><e:entry a="b"><key>a&amp;b &#x20ac; ä </key><size><![CDATA[12<3]]></size></e:entry><!-- c -->
    <entry><key>2</key><key>3</key></entry><next/><constructor>7</constructor></x:list>`;
  for (const pieceSize of [1, 2, 3, 7, 10_000]) {
    const { records, root } = read([text], pieceSize);
    t.equal(records.length, 2);
    t.equal(childText(records[0]!, 'key'), 'a&b € ä');
    t.equal(childText(records[0]!, 'size'), '12<3');
    t.equal(childText(records[1]!, 'key'), undefined, 'there are two');
    t.equal(childText(root, 'more'), 'true');
    t.equal(childText(root, 'next'), '');
    t.equal(childText(root, 'constructor'), '7');
    t.equal(childText(root, 'toString'), undefined);
  }
  t.end();
});

t.test('documents that are too large in any way are refused early, but not those with many records', (t) => {
  function* many(head: string, one: (at: number) => string, tail = ''): Generator<string> {
    yield head;
    for (let at = 0; at < 1_000_000; at++) {
      yield one(at);
      passed = at;
    }
    yield tail;
  }
  let passed = 0;
  for (const [name, document] of Object.entries({
    attributes: many('<list ', (at) => `a${at}="" `),
    'attributes of a record': many('<list><entry ', (at) => `a${at}="" `),
    'one attribute': many('<list a="', () => 'a'.repeat(100)),
    'one name': many('<', () => 'a'.repeat(100)),
    'one text': many('<list><entry><key>', () => 'a'.repeat(100)),
    'one text of many sections': many('<list><entry><key>', () => '<![CDATA[a]]>'),
    'one text of references': many('<list><entry><key>', () => '&#97;'),
    'one comment': many('<list><!--', () => 'a'.repeat(100)),
    'one instruction': many('<list><?', () => 'a'.repeat(100)),
    depth: many('<list>', () => '<a>'),
    'elements in a record': many('<list><entry>', () => '<a/>'),
    'elements beside records': many('<list>', () => '<a/>'),
    'a type of documents': many('<!DOCTYPE list [', () => '<!ENTITY a "b">'),
    'no document at all': many('', () => 'a'.repeat(100)),
    'another document': many('<html>', () => '<p>a</p>'),
  })) {
    t.throws(() => read(document), { code: 'PROTOCOL' }, name);
    t.ok(passed < 100_000, `${name}: ${passed}`);
  }
  const bomb = '<!DOCTYPE list [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><list><entry><key>&b;</key></entry></list>';
  t.throws(() => read([bomb]), { code: 'PROTOCOL' });
  t.throws(() => read(['<list><entry><key>&nbsp;</key></entry></list>']), { code: 'PROTOCOL' }, 'no entity of XML');
  t.equal(tryParseXml(Buffer.from(bomb)), undefined);
  let count = 0;
  const reader = new XmlReader('list', 'entry', 'listing', () => count++);
  reader.write(Buffer.from('<list>'));
  for (let at = 0; at < 20_000; at++) reader.write(Buffer.from(`<entry><key>${at}</key><size>1</size></entry>`));
  reader.write(Buffer.from('</list>'));
  reader.end();
  t.equal(count, 20_000);
  t.end();
});
