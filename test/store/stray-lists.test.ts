/**
 * Lists that speak of another place than the one that was asked for, as behind a proxy that changes paths: none of them
 * may look like an empty store (doc/stores.md, "Lists").
 */
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { HttpStore } from '../../src/store/http-store.js';
import { ListingBudget } from '../../src/store/listing-budget.js';
import { S3Store } from '../../src/store/s3-store.js';
import type { SftpEntry } from '../../src/store/sftp-connection.js';
import { readWithin } from '../../src/store/sftp-store.js';
import { WebdavStore } from '../../src/store/webdav-store.js';
import { collect } from '../suite/object-store-suite.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import type { Script } from '../support/scripted-server.js';
import { ScriptedServer } from '../support/scripted-server.js';

const random = new SeededRandom(testSeed());

async function serve(t: Pick<typeof t_, 'teardown'>, script: Script): Promise<URL> {
  const server = await ScriptedServer.start(script);
  t.teardown(() => server.stop());
  return new URL(server.origin);
}
const t_ = t;

const folder = '<D:propstat><D:prop><D:resourcetype><D:collection/></D:resourcetype></D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>';
const file = '<D:propstat><D:prop><D:resourcetype/><D:getcontentlength>5</D:getcontentlength></D:prop></D:propstat>';
const response = (href: string, rest: string): string => `<D:response><D:href>${href}</D:href>${rest}</D:response>`;

/** Each PROPFIND is answered by `body`. */
async function openWebdav(t: Pick<typeof t_, 'teardown'>, segments: readonly string[], body: () => string): Promise<WebdavStore> {
  const origin = await serve(t, ({ method }, answer) => {
    if (method === 'GET') answer.writeHead(404).end();
    else answer.writeHead(207).end(`<?xml version="1.0"?><D:multistatus xmlns:D="DAV:">${body()}</D:multistatus>`);
  });
  const store = new WebdavStore({ origin, segments, loadCredentials: async () => undefined, disk: systemDisk, random });
  t.teardown(() => store.close());
  return store;
}

t.test('WebDAV: a collection is recognized however the server writes its path', async (t) => {
  let body = '';
  const store = await openWebdav(t, ['my süite', 'a&b', '~x'], () => body);
  const plain = '/my%20s%C3%BCite/a%26b/~x/keys/';
  for (const own of [
    plain,
    plain.slice(0, -1),
    '/my%20s%c3%bcite/a%26b/%7ex/keys/',
    '/my%20s%C3%BCite/a&amp;b/%7Ex/%6beys/',
    '/my su\u0308ite/a&amp;b/~x/keys/',
    '/my%20su%CC%88ite/a%26b/~x/keys',
    `/${plain}`,
    `http://inside.example:8080${plain}`,
    `https://127.0.0.1${plain.slice(0, -1)}`,
    '/other/../my%20s%C3%BCite/a%26b/./~x/keys/',
  ]) {
    body = response(own, folder) + response(`${own.replace(/\/$/, '')}/abc`, file);
    t.same(await collect(store.list('keys/')), ['keys/abc'], own);
  }
});

t.test('WebDAV: an answer that does not hold the collection is an error, and not an empty collection', async (t) => {
  let body = '';
  const store = await openWebdav(t, ['dav', 'drive'], () => body);
  const stripped = response('/drive/keys/', folder) + response('/drive/keys/abc', file);
  for (const [name, wrong, shown] of [
    ['a stripped prefix', stripped, /does not hold the collection \/dav\/drive\/keys\/ .*but \/drive\/keys\/: a proxy that changes paths/],
    ['an added prefix', response('/x/dav/drive/keys/', folder), /but \/x\/dav\/drive\/keys\//],
    ['a prefix of the name', response('/dav/drive/keys-2/', folder), /keys-2/],
    ['a member alone', response('/dav/drive/keys/abc', file), /asked for: a proxy/],
    ['nothing', '', /asked for: a proxy/],
    ['another case', response('/Dav/drive/keys/', folder), /upper and lower case/],
    ['a way out', response('/dav/drive/keys/../../', folder), /but \/dav\/:/],
    ['an encoded way out', response('/dav/drive/keys/%2e%2e/%2E./', folder), /but \/dav\/:/],
    ['a refusal', response('/dav/drive/keys/', '<D:status>HTTP/1.1 404 Not Found</D:status>'), /does not hold/],
    ['no href', '<D:response><D:propstat/></D:response>', /does not hold/],
    ['a broken href', response('/dav/drive/keys/%zz/', folder) + response('http://', folder), /does not hold/],
    ['names that steer a terminal', response('/x%1b%5b31m/', folder), /but \/x\\x1b\[31m\//],
  ] as const) {
    body = wrong;
    await t.rejects(collect(store.list('keys/')), { code: 'PROTOCOL', message: shown }, name);
    await t.rejects(store.create(), { code: 'PROTOCOL' }, name);
  }
});

t.test('WebDAV: a member outside of its collection is left out', async (t) => {
  const own = '/drive/keys/';
  const outside = ['/drive/keys/../log/0', '/drive/keys/%2e%2e/log/0', '/log/0', '/drive/keys/a/b', '/drive/keys/a%2Fb'];
  const store = await openWebdav(t, ['drive'], () => response(own, folder) + outside.map((href) => response(href, file)).join(''));
  t.same(await collect(store.list('keys/')), []);
});

t.test('WebDAV: the collection of the store is not called present by an answer about another one', async (t) => {
  let body = '';
  const origin = await serve(t, ({ method, headers }, answer) => {
    if (method !== 'PROPFIND' || headers.depth === '1') answer.writeHead(404).end();
    else answer.writeHead(207).end(`<D:multistatus xmlns:D="DAV:">${body}</D:multistatus>`);
  });
  const store = new WebdavStore({ origin, segments: ['dav', 'drive'], loadCredentials: async () => undefined, disk: systemDisk, random });
  t.teardown(() => store.close());
  body = response('/dav/drive', folder);
  t.same(await collect(store.list('keys/')), []);
  body = response('/drive/', folder);
  await t.rejects(collect(store.list('keys/')), { code: 'PROTOCOL' });
});

async function openS3(t: Pick<typeof t_, 'teardown'>, prefix: string, body: () => string): Promise<S3Store> {
  const endpoint = await serve(t, (_, answer) => answer.writeHead(200).end(`<ListBucketResult>${body()}</ListBucketResult>`));
  const store = new S3Store({
    bucket: 'bucket',
    prefix,
    endpoint,
    region: 'us-east-1',
    style: 'path',
    loadSettings: async () => ({ credentials: { accessKeyId: 'KEY', secretAccessKey: 'SECRET' } }),
    disk: systemDisk,
  });
  t.teardown(() => store.close());
  return store;
}

const entry = (name: string): string => `<Contents><Key>${name}</Key><Size>5</Size></Contents>`;
const encoded = '<EncodingType>url</EncodingType>';
const repeated = (prefix: string): string => `<Prefix>${prefix}</Prefix>`;

t.test('S3: names are recognized whether or not the service encodes them as it says', async (t) => {
  let body = '';
  const store = await openS3(t, 'my drive+1/ä', () => body);
  for (const name of ['my drive+1/ä/keys/abc', 'my%20drive%2B1/%C3%A4/keys/abc', 'my+drive%2B1%2F%c3%a4%2Fkeys%2Fabc']) {
    for (const header of ['', encoded]) {
      body = header + entry(name);
      t.same(await collect(store.list('keys/')), ['keys/abc'], header + name);
      body = header + repeated(name.replace(/abc$/, '')) + entry(name);
      t.same(await collect(store.list('keys/')), ['keys/abc'], `${header}${name}, with its prefix`);
    }
  }
});

t.test('S3: a list of another prefix is an error, and not an empty list', async (t) => {
  let body = '';
  const store = await openS3(t, 'drive', () => body);
  for (const wrong of [
    entry('keys/abc'),
    entry('drive/log/0'),
    entry('drive/keys/abc') + entry('other/keys/abc'),
    entry('x/drive/keys/abc'),
    entry('drive/keysabc'),
    entry(''),
    repeated('keys/'),
    repeated('drive/') + entry('drive/keys/abc'),
    encoded + repeated('x%2Fdrive%2Fkeys%2F'),
  ]) {
    body = wrong;
    await t.rejects(collect(store.list('keys/')), { code: 'PROTOCOL', message: /lists another prefix .*gateway or proxy/ }, wrong);
  }
  for (const right of [repeated(''), repeated('drive/keys/'), encoded + repeated('drive%2Fkeys%2F')]) {
    body = right;
    t.same(await collect(store.list('keys/')), [], right);
  }
});

t.test('S3: a list that is cut without saying where it goes on is an error', async (t) => {
  let body = '';
  const store = await openS3(t, '', () => body);
  const token = '<NextContinuationToken>more</NextContinuationToken>';
  for (const wrong of [
    '<IsTruncated>true</IsTruncated>',
    '<IsTruncated>True</IsTruncated>',
    '<IsTruncated>true</IsTruncated><NextMarker>keys/abc</NextMarker>',
    '<IsTruncated>1</IsTruncated>',
    `<IsTruncated>true</IsTruncated>${token}`,
    token,
  ]) {
    body = entry('keys/abc') + wrong;
    await t.rejects(collect(store.list('keys/')), { code: 'PROTOCOL', message: /goes on without saying where/ }, wrong);
  }
  for (const right of ['<IsTruncated>false</IsTruncated>', '', `<IsTruncated>false</IsTruncated>${token}`]) {
    body = entry('keys/abc') + right;
    t.same(await collect(store.list('keys/')), ['keys/abc'], right);
  }
});

t.test('serve: a list of another prefix is an error', async (t) => {
  const origin = await serve(t, (_, answer) => answer.writeHead(200, { sealdrive: '1' }).end('{"objects":[["log/0",1]],"more":false}'));
  const store = new HttpStore({ origin, segments: ['photos'], loadToken: async () => 'token', disk: systemDisk });
  t.teardown(() => store.close());
  await t.rejects(collect(store.list('keys/')), { code: 'PROTOCOL', message: /another prefix/ });
});

t.test('SFTP: a server that lists paths where names belong shows no empty directory', async (t) => {
  for (const filename of ['keys/abc', '/srv/drive/keys/abc', './abc']) {
    const budget = new ListingBudget('listing keys/', systemClock);
    const connection = { readDirectory: async (_: string, take: (entries: SftpEntry[]) => void) => take([{ filename, longname: '' } as SftpEntry]) };
    await t.rejects(
      readWithin(connection, '/srv/drive/keys', budget, () => {}),
      { code: 'PROTOCOL', message: /paths where names belong/ },
      filename,
    );
    budget.end();
  }
});
