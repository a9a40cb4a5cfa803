/** The WebDAV store against lighttpd, and against less strict servers. */
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import t from 'tap';
import type { Clock } from '../../src/base/clock.js';
import { systemClock } from '../../src/base/clock.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { HttpCredentials } from '../../src/store/netrc.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { StoreError } from '../../src/store/object-store.js';
import { openStore } from '../../src/store/open-store.js';
import { probeStore } from '../../src/store/probe.js';
import { RetryingStore } from '../../src/store/retrying-store.js';
import type { WebdavCollectionOptions } from '../../src/store/webdav-collection.js';
import { WebdavStore } from '../../src/store/webdav-store.js';
import { emptyFolderSuite } from '../suite/empty-folder-suite.js';
import { collect, objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { writeWhole } from '../suite/whole-file.js';
import { Apache } from '../support/apache.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { Lighttpd, skipWebdav } from '../support/lighttpd.js';
import { ScriptedServer } from '../support/scripted-server.js';

const skip = skipWebdav();
const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);

if (skip !== undefined) t.test('WebDAV', { skip }, async () => {});
else await run();

async function run(): Promise<void> {
  const scratch = await scratchDirectory(t);
  await mkdir(join(scratch, 'server'));
  const server = await Lighttpd.start(join(scratch, 'server'));
  t.teardown(() => server.stop());
  const password: HttpCredentials = { kind: 'password', user: server.user, password: server.password };
  await mkdir(join(scratch, 'apache'));
  const apache = await Apache.start(join(scratch, 'apache'));
  t.teardown(() => apache.stop());
  let count = 0;
  /** As if the server had failed the test of its conditional puts when the store was made, as Apache sometimes does. */
  const claimByMoving = (root: string): Promise<void> => writeFile(join(root, '_sealdrive'), 'Sealdrive store, claim=move\n');

  const makeStore = (options: Partial<WebdavCollectionOptions> = {}): WebdavStore =>
    new WebdavStore({
      origin: new URL(server.origin),
      segments: ['open', `store ${count++}`],
      loadCredentials: async () => undefined,
      disk: systemDisk,
      random,
      ...options,
    });
  const retrying = (inner: ObjectStore): RetryingStore => new RetryingStore(inner, { clock: systemClock, random, disk: systemDisk, baseMs: 10 });

  const suite = (name: string, place: string, loadCredentials: WebdavCollectionOptions['loadCredentials']): void =>
    objectStoreSuite(t, name, async () => {
      const segments = [place, `süite ${count++}`, 'a&b'];
      const root = join(server.root, ...segments);
      const store = makeStore({ segments, loadCredentials });
      await store.create();
      return {
        store,
        writeFile: (bytes) => writeWhole(systemDisk, join(scratch, `file-${count++}`), bytes),
        async plantForeign(foreign) {
          await mkdir(dirname(join(root, foreign)), { recursive: true });
          await writeFile(join(root, foreign), 'foreign');
        },
      };
    });
  suite('WebDAV', 'open', async () => undefined);
  suite('WebDAV with digest authentication', 'digest', async () => password);

  objectStoreSuite(t, 'WebDAV on Apache, with claims by moving', async () => {
    const segments = [`suite-${count++}`];
    const maker = makeStore({ segments, origin: new URL(apache.origin) });
    await maker.create();
    await maker.close();
    await claimByMoving(join(apache.root, ...segments));
    return {
      // The server may close connections at any time, which retries handle.
      store: retrying(makeStore({ segments, origin: new URL(apache.origin) })),
      writeFile: (bytes) => writeWhole(systemDisk, join(scratch, `file-${count++}`), bytes),
    };
  });

  emptyFolderSuite(t, 'WebDAV', async () => {
    const segments = ['open', `empty ${count++}`];
    const root = join(server.root, ...segments);
    await mkdir(root);
    return {
      writeFile: (file) => writeFile(join(root, file), ''),
      makeFolder: (folder) => mkdir(join(root, folder)),
      async create() {
        const store = makeStore({ segments });
        t.teardown(() => store.close());
        await store.create();
      },
    };
  });

  t.test('a store whose creation was broken off is made by the next one', async (t) => {
    const segments = ['open', `broken ${count++}`];
    const root = join(server.root, ...segments);
    for (const folder of ['_tmp', `probe-${'0'.repeat(16)}_`]) await mkdir(join(root, folder), { recursive: true });
    await writeFile(join(root, `_probe-${'0'.repeat(16)}`), 'x');
    const store = makeStore({ segments });
    t.teardown(() => store.close());
    await store.create();
    t.equal(await store.put('keys/a', sealedText('a')), 'created');
  });

  /** Servers close connections that are about to be used again. */
  const createPatiently = async (store: WebdavStore): Promise<void> => {
    for (let isMade = false; !isMade; ) {
      isMade = await store.create().then(
        () => true,
        (error: unknown) => {
          if (error instanceof StoreError && error.code === 'UNAVAILABLE') return false;
          throw error;
        },
      );
    }
  };

  for (const [name, real, place] of [
    ['lighttpd', server, ['open']],
    ['Apache', apache, []],
  ] as const) {
    t.test(`makers of one store at once agree how objects lie in it (${name})`, async (t) => {
      for (let round = 0; round < 3; round++) {
        const segments = [...place, `together-${count++}`];
        const stores = Array.from({ length: 4 }, () => makeStore({ segments, origin: new URL(real.origin) }));
        t.teardown(() => Promise.all(stores.map((store) => store.close())));
        await Promise.all(stores.map(createPatiently));
        const fresh = makeStore({ segments, origin: new URL(real.origin) });
        t.teardown(() => fresh.close());
        const claim = await fresh.claim();
        for (const store of stores) t.equal(await store.claim(), claim);
      }
    });
  }

  t.test('the probe finds what the servers do', async (t) => {
    // Retries, as in a drive: these servers close connections after refusals, also while the next request is in flight.
    const exact = { conditionalPut: 'exact', ranges: true, readAfterWrite: true, listAfterWrite: true, listOrdered: true, delete: 'works' };
    const strict = makeStore();
    t.teardown(() => strict.close());
    await strict.create();
    t.equal(await strict.claim(), 'put', 'lighttpd keeps to conditions');
    t.match(await probeStore(retrying(strict), random), exact);
    const maker = makeStore({ segments: ['probe'], origin: new URL(apache.origin) });
    await maker.create();
    await maker.close();
    await claimByMoving(join(apache.root, 'probe'));
    const loose = makeStore({ segments: ['probe'], origin: new URL(apache.origin) });
    t.teardown(() => loose.close());
    t.match(await probeStore(retrying(loose), random), { ...exact, conditionalPut: 'by-claim' });
  });

  t.test('a store is made only once, in an empty collection, with the collections above it', async (t) => {
    const segments = ['open', 'made', 'by', 'us'];
    const store = makeStore({ segments });
    await t.rejects(collect(store.list('')), { code: 'NOT_A_STORE' });
    await t.rejects(store.put('keys/a', sealedText('a')), { code: 'NOT_A_STORE' });
    await store.create();
    await store.put('keys/a', sealedText('a'));
    await store.create();
    t.same(await collect(store.list('')), ['keys/a']);
    t.same((await readdir(join(server.root, ...segments))).toSorted(), ['_sealdrive', 'keys']);
    await store.close();
    await mkdir(join(server.root, 'open', 'photos'));
    await writeFile(join(server.root, 'open', 'photos', 'cat.jpg'), 'cat');
    const other = makeStore({ segments: ['open', 'photos'] });
    t.teardown(() => other.close());
    await t.rejects(other.create(), { code: 'NOT_A_STORE', message: /other files/ });
  });

  t.test('right, wrong and missing credentials are distinguished, for basic and digest authentication', async (t) => {
    for (const place of ['basic', 'digest']) {
      const right = makeStore({ segments: [place, 'store'], loadCredentials: async () => password });
      await right.create();
      await right.put('keys/a', sealedText('a'));
      t.same(await collect(right.list('')), ['keys/a']);
      await right.close();
      for (const wrong of [undefined, { ...password, password: 'wrong' }] as const) {
        const store = makeStore({ segments: [place, 'store'], loadCredentials: async () => wrong });
        await t.rejects(store.get('keys/a'), { code: 'DENIED', message: /other credentials/ });
        // The server takes seconds for each wrong password, so there is only one.
        if (wrong === undefined) {
          await t.rejects(store.put('keys/b', sealedText('b')), { code: 'DENIED' });
          await t.rejects(collect(store.list('')), { code: 'DENIED' });
        }
        await store.close();
      }
    }
  });

  t.test('a URL opens the store, with credentials from a netrc file that nobody else can read', async (t) => {
    const home = await scratchDirectory(t);
    const env = { NETRC: join(home, 'netrc'), XDG_CONFIG_HOME: home };
    await writeFile(
      env.NETRC,
      `machine elsewhere login bob password x\nmachine 127.0.0.1:${server.port} login alice password "open \\"sesame\\" #1"\n`,
    );
    const location = `webdav+http://127.0.0.1:${server.port}/digest/by%20url`;
    const options = { disk: systemDisk, random, env };
    await chmod(env.NETRC, 0o644);
    await t.rejects(openStore(location, { ...options, create: true }), { code: 'DENIED', message: /chmod 600/ });
    await chmod(env.NETRC, 0o600);
    const store = await openStore(location, { ...options, create: true });
    await store.put('keys/a', sealedText('a'));
    t.same(await collect(store.list('')), ['keys/a']);
    t.notMatch(store.description, /sesame|alice/);
    await store.close();
    const wrong = openStore(`webdav+http://alice:secret@127.0.0.1:${server.port}/digest/x`, options);
    await t.rejects(wrong, { code: 'MALFORMED', message: /no credentials/ });
    await t.rejects(
      wrong.catch((error: Error) => Promise.reject(new Error(error.message.includes('secret') ? 'told' : 'kept'))),
      { message: 'kept' },
    );
  });

  t.test('a location that refuses writes is reported as such', async (t) => {
    const store = makeStore({ segments: ['readonly'] });
    t.teardown(() => store.close());
    await t.rejects(store.put('keys/a', sealedText('a')), { code: 'DENIED', message: /permit/ });
  });

  t.test('leftovers of interrupted uploads are removed when they are old by the clock of the server', async (t) => {
    const segments = ['leftovers'];
    const maker = makeStore({ segments, origin: new URL(apache.origin) });
    await maker.create();
    await maker.close();
    const root = join(apache.root, ...segments);
    await claimByMoving(root);
    const leave = async (name: string, hours: number): Promise<void> => {
      await mkdir(join(root, '_tmp', name), { recursive: true });
      await writeFile(join(root, '_tmp', name, 'body'), 'cut off');
      // The server runs as another user.
      for (const path of [join(root, '_tmp'), join(root, '_tmp', name)]) await chmod(path, 0o777);
      const sec = Date.now() / 1000 - hours * 3600;
      await utimes(join(root, '_tmp', name), sec, sec);
    };
    const [old, recent, foreign] = ['0'.repeat(24), '1'.repeat(24), 'somebody-elses'];
    await leave(old, 49);
    await leave(recent, 20);
    await leave(foreign, 500);
    // Our clock is a year late: only the server's counts.
    const clock: Clock = { ...systemClock, now: () => ({ ...systemClock.now(), sec: systemClock.now().sec + 365 * 86400 }) };
    const store = makeStore({ segments, origin: new URL(apache.origin), clock });
    t.teardown(() => store.close());
    t.equal(await store.put('keys/a', sealedText('a')), 'created');
    while (existsSync(join(root, '_tmp', old))) await new Promise((resolve) => setTimeout(resolve, 20));
    // They are listed in this order, so later ones have been visited too when the next write is done.
    t.equal(await store.put('keys/b', sealedText('b')), 'created');
    t.same((await readdir(join(root, '_tmp'))).toSorted(), [recent, foreign]);
  });

  for (const claim of ['put', 'move']) {
    t.test(`lost answers and cut connections lose nothing, with claims by ${claim}`, async (t) => {
      const real = claim === 'put' ? server : apache;
      const segments = claim === 'put' ? ['open', 'faults'] : ['faults'];
      const maker = makeStore({ segments, origin: new URL(real.origin) });
      await maker.create();
      await maker.close();
      if (claim === 'move') await claimByMoving(join(apache.root, ...segments));
      const proxy = await FaultProxy.start(real.port, random);
      t.teardown(() => proxy.stop());
      const store = retrying(makeStore({ segments, origin: new URL(`http://127.0.0.1:${proxy.port}`) }));
      t.teardown(() => store.close());
      t.equal(await store.get('log/0'), undefined);
      proxy.faults.answersLost = 1;
      t.equal(await store.put('log/1', sealedText('mine'), { ifAbsent: true }), 'created');
      proxy.faults.answersLost = 1;
      t.equal(await store.put('log/1', sealedText('other'), { ifAbsent: true }), 'exists');
      proxy.faults.cutChance = 0.04;
      const keys = Array.from({ length: 40 }, (_, index) => `packs/0${index % 4}/${index.toString(16).padStart(4, '0')}`);
      const outcomes = await Promise.all(keys.map((key) => store.put(key, sealedText(key.repeat(500)), { ifAbsent: true })));
      t.ok(outcomes.every((outcome) => outcome === 'created'));
      for (const key of keys) t.equal(Buffer.from((await store.get(key)) ?? []).toString(), key.repeat(500), `TEST_SEED=${seed}`);
      t.same(await collect(store.list('packs/')), keys.toSorted());
    });
  }

  t.test('a server that ignores conditions is detected when the store is made', async (t) => {
    // A proxy in front of a real server drops the header, as some servers do.
    const careless = await ScriptedServer.start(({ method, target, headers, body }, answer) => {
      const dropped = ['host', 'connection', 'content-length', 'transfer-encoding', 'if-none-match'];
      const rest = Object.entries(headers).filter(([name]) => !dropped.includes(name));
      const forwarded = Object.fromEntries(rest.map(([name, value]) => [name, String(value).replace(/^http:\/\/[^/]+/, apache.origin)]));
      const forward = (): Promise<Response> => fetch(apache.origin + target, { method, headers: forwarded, ...(body.length > 0 ? { body } : {}) });
      // Retried once where the server closed the connection just then, as it may when nothing was sent for a while.
      void forward()
        .catch(forward)
        .then(async (got) => {
          const bytes = Buffer.from(await got.arrayBuffer());
          const passed = ['content-type', 'content-range'].flatMap((name) =>
            got.headers.get(name) === null ? [] : [[name, got.headers.get(name) ?? '']],
          );
          answer
            .writeHead(got.status, { ...Object.fromEntries(passed), ...(method === 'HEAD' ? {} : { 'content-length': bytes.length }) })
            .end(bytes);
        });
    });
    t.teardown(() => careless.stop());
    const store = makeStore({ segments: ['careless'], origin: new URL(careless.origin) });
    t.teardown(() => store.close());
    await store.create();
    t.equal(await store.claim(), 'move');
    t.match(await probeStore(store, random), { conditionalPut: 'by-claim', ranges: true, listOrdered: true, delete: 'works' });
  });
}
