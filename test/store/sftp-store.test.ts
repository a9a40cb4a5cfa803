/** The SFTP store against OpenSSH's server. */
import { chmod, mkdir, readdir, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { temporaryName } from '../../src/disk/temporary-file.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { knownKeysOf } from '../../src/store/known-hosts.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { openStore } from '../../src/store/open-store.js';
import { probeStore } from '../../src/store/probe.js';
import { RetryingStore } from '../../src/store/retrying-store.js';
import type { SftpTarget } from '../../src/store/sftp-connection.js';
import { SftpStore } from '../../src/store/sftp-store.js';
import { emptyFolderSuite } from '../suite/empty-folder-suite.js';
import { collect, objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { writeWhole } from '../suite/whole-file.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { freePort, runTool } from '../support/server-process.js';
import { Sshd, skipSftp } from '../support/sshd.js';

const skip = skipSftp();
const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);

if (skip !== undefined) t.test('SFTP', { skip }, async () => {});
else await run();

async function run(): Promise<void> {
  const scratch = await scratchDirectory(t);
  await mkdir(join(scratch, 'server'));
  const server = await Sshd.start(join(scratch, 'server'));
  t.teardown(() => server.stop());
  const knownKeys = knownKeysOf(await readFile(server.knownHostsPath, 'utf8'), '127.0.0.1', server.port);
  const target: SftpTarget = {
    host: '127.0.0.1',
    port: server.port,
    user: server.user,
    knownKeys,
    privateKeys: [await readFile(server.keyPath)],
    clock: systemClock,
    connectMs: 10_000,
    idleMs: 10_000,
  };
  let count = 0;
  const makeStore = (changes: Partial<SftpTarget> = {}, name = `store-${count++}`): SftpStore =>
    new SftpStore({
      loadTarget: async () => ({ ...target, ...changes }),
      path: join(server.root, name),
      where: 'test@127.0.0.1',
      disk: systemDisk,
      random,
    });
  const retrying = (inner: ObjectStore): RetryingStore => new RetryingStore(inner, { clock: systemClock, random, disk: systemDisk, baseMs: 10 });

  emptyFolderSuite(t, 'SFTP', async () => {
    const name = `empty-${count++}`;
    const root = join(server.root, name);
    await mkdir(root);
    return {
      writeFile: (file) => writeFile(join(root, file), ''),
      makeFolder: (folder) => mkdir(join(root, folder)),
      async create() {
        const store = makeStore({}, name);
        t.teardown(() => store.close());
        await store.create();
      },
    };
  });

  objectStoreSuite(t, 'SFTP', async () => {
    const name = `suite-${count++}`;
    const store = makeStore({}, name);
    await store.create();
    return {
      store,
      writeFile: (bytes) => writeWhole(systemDisk, join(scratch, `file-${count++}`), bytes),
      async plantForeign(foreign) {
        await mkdir(dirname(join(server.root, name, foreign)), { recursive: true });
        await writeFile(join(server.root, name, foreign), 'foreign');
      },
    };
  });

  t.test('the probe reports the features of the server', async (t) => {
    const store = makeStore();
    t.teardown(() => store.close());
    await store.create();
    t.match(await probeStore(store, random), {
      conditionalPut: 'exact',
      ranges: true,
      readAfterWrite: true,
      listAfterWrite: true,
      listOrdered: true,
      delete: 'works',
    });
  });

  t.test('the same store can be used over SFTP and as a local directory', async (t) => {
    const store = makeStore({}, 'shared');
    t.teardown(() => store.close());
    await store.create();
    const local = await DirectoryStore.open(join(server.root, 'shared'), { disk: systemDisk, random });
    t.teardown(() => local.close());
    await local.put('keys/a', sealedText('local'));
    t.equal(await store.put('keys/a', sealedText('remote'), { ifAbsent: true }), 'exists');
    t.equal(await store.put('keys/b', sealedText('remote'), { ifAbsent: true }), 'created');
    t.equal(await local.put('keys/b', sealedText('local'), { ifAbsent: true }), 'exists');
    t.same(await readdir(join(server.root, 'shared', '_tmp')), [], 'nothing is left behind');
  });

  t.test('permissions of new files in a store follow its folder', async (t) => {
    for (const [folder, file, made] of [
      [0o700, 0o600, 0o700],
      [0o2770, 0o640, 0o2770],
      [0o755, 0o644, 0o755],
    ] as const) {
      const name = `rights-${folder.toString(8)}`;
      await mkdir(join(server.root, name));
      await chmod(join(server.root, name), folder);
      const store = makeStore({}, name);
      t.teardown(() => store.close());
      await store.create();
      await store.put('packs/aa/a', sealedText('a'));
      const rightsOf = async (path: string): Promise<string> => ((await stat(join(server.root, name, path))).mode & 0o7777).toString(8);
      for (const path of ['_sealdrive', 'packs/aa/a']) t.equal(await rightsOf(path), file.toString(8), path);
      for (const path of ['_tmp', 'packs', 'packs/aa']) t.equal(await rightsOf(path), made.toString(8), path);
    }
  });

  t.test('only our own leftover uploads are removed, and none through a link', async (t) => {
    for (const isLink of [false, true]) {
      const name = `stale-${isLink}`;
      const made = makeStore({}, name);
      await made.create();
      await made.close();
      const store = makeStore({}, name);
      t.teardown(() => store.close());
      await rm(join(server.root, name, '_tmp'), { recursive: true });
      const place = join(server.root, isLink ? `${name}-outside` : join(name, '_tmp'));
      await mkdir(place);
      if (isLink) await symlink(place, join(server.root, name, '_tmp'));
      const [old, recent] = [temporaryName(random), temporaryName(random)];
      for (const file of [old, recent, 'foreign']) await writeFile(join(place, file), 'x');
      for (const file of [old, 'foreign']) await utimes(join(place, file), 1_000_000, 1_000_000);
      await store.put('keys/a', sealedText('a')).catch(() => {});
      t.same((await readdir(place)).toSorted(), [...(isLink ? [old] : []), recent, 'foreign'].toSorted());
    }
  });

  t.test('a missing directory is not taken for an empty store', async (t) => {
    const store = makeStore({}, 'gone');
    t.teardown(() => store.close());
    await t.rejects(store.get('keys/a'), { code: 'NOT_A_STORE' });
    await store.create();
    await store.put('keys/a', sealedText('a'));
    await rename(join(server.root, 'gone'), join(server.root, 'away'));
    await t.rejects(store.get('keys/a'), { code: 'NOT_A_STORE', message: /mounted/ });
    await t.rejects(store.head('keys/a'), { code: 'NOT_A_STORE' });
    await t.rejects(collect(store.list('keys/')), { code: 'NOT_A_STORE' });
    await t.rejects(store.put('keys/b', sealedText('b')), { code: 'NOT_A_STORE' });
    await mkdir(join(server.root, 'full'));
    await writeFile(join(server.root, 'full', 'cat.jpg'), 'cat');
    const other = makeStore({}, 'full');
    t.teardown(() => other.close());
    await t.rejects(other.create(), { code: 'NOT_A_STORE', message: /other files/ });
  });

  t.test('only a known host with the right key is trusted, and only a known user is admitted', async (t) => {
    const failure = async (changes: Partial<SftpTarget>): Promise<unknown> => {
      const store = makeStore(changes);
      const error = await store.get('keys/a').then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      await store.close();
      return error;
    };
    t.match(await failure({ knownKeys: [] }), { code: 'UNAVAILABLE', message: /no file of known hosts/, retryAfterMs: Infinity });
    const strange = (await readFile(`${server.strangerKeyPath}.pub`, 'utf8')).split(' ')[1] ?? '';
    t.match(await failure({ knownKeys: [{ type: 'ssh-ed25519', key: strange, isRevoked: false }] }), {
      code: 'UNAVAILABLE',
      message: /in between/,
      retryAfterMs: Infinity,
    });
    t.match(await failure({ knownKeys: [...knownKeys, { ...knownKeys[0]!, isRevoked: true }] }), { code: 'UNAVAILABLE', message: /in between/ });
    t.match(await failure({ privateKeys: [await readFile(server.strangerKeyPath)] }), { code: 'DENIED', message: /none of the keys/ });
    t.match(await failure({ privateKeys: [] }), { code: 'DENIED' });
    t.match(await failure({ port: await freePort() }), { code: 'UNAVAILABLE', message: /ECONNREFUSED/ });
  });

  t.test('a URL opens the store, with keys and known hosts from files or an agent', async (t) => {
    const location = `sftp://${server.user}@127.0.0.1:${server.port}${server.root}/by%20url?known_hosts=${server.knownHostsPath}`;
    const options = { disk: systemDisk, random, env: {} };
    const store = await openStore(`${location}&key=${server.keyPath}`, { ...options, create: true });
    await store.put('keys/a', sealedText('a'));
    t.same(await collect(store.list('')), ['keys/a']);
    await store.close();
    const socket = join(scratch, 'agent');
    const pid = /SSH_AGENT_PID=(\d+)/.exec(runTool('ssh-agent', ['-a', socket]))?.[1];
    t.teardown(() => process.kill(Number(pid)));
    runTool('ssh-add', ['-q', server.keyPath], { SSH_AUTH_SOCK: socket });
    const viaAgent = await openStore(location, { ...options, env: { SSH_AUTH_SOCK: socket } });
    t.same(await collect(viaAgent.list('')), ['keys/a']);
    await viaAgent.close();
    await t.rejects(openStore('sftp://127.0.0.1/x', options), { code: 'MALFORMED', message: /user/ });
    await t.rejects(openStore('sftp://u:secret@127.0.0.1/x', options), { code: 'MALFORMED' });
    await t.rejects(openStore('sftp://u@127.0.0.1/', options), { code: 'MALFORMED' });
  });

  t.test('randomly cut connections neither lose nor duplicate anything', async (t) => {
    const maker = makeStore({}, 'faults');
    await maker.create();
    await maker.close();
    const proxy = await FaultProxy.start(server.port, random);
    t.teardown(() => proxy.stop());
    const store = retrying(makeStore({ port: proxy.port }, 'faults'));
    t.teardown(() => store.close());
    await store.put('keys/a', sealedText('a'));
    proxy.faults.answersLost = 1;
    t.equal(await store.put('log/1', sealedText('mine'), { ifAbsent: true }), 'created');
    proxy.faults.cutChance = 0.01;
    const keys = Array.from({ length: 40 }, (_, index) => `packs/0${index % 4}/${index.toString(16).padStart(4, '0')}`);
    const outcomes = await Promise.all(keys.map((key) => store.put(key, sealedText(key.repeat(2000)), { ifAbsent: true })));
    t.ok(outcomes.every((outcome) => outcome === 'created'));
    for (const key of keys) t.equal(Buffer.from((await store.get(key)) ?? []).toString(), key.repeat(2000), `TEST_SEED=${seed}`);
    proxy.faults.cutChance = 0;
    t.same(await collect(store.list('packs/')), keys.toSorted());
    t.same(await collect(store.list('log/')), ['log/1']);
  });

  t.test('a server that hangs is given up in time, and reconnected when it answers again', async (t) => {
    const maker = makeStore({}, 'hang');
    await maker.create();
    await maker.put('keys/a', sealedText('a'));
    await maker.close();
    const proxy = await FaultProxy.start(server.port, random);
    t.teardown(() => proxy.stop());
    const store = makeStore({ port: proxy.port, idleMs: 400, connectMs: 2000 }, 'hang');
    t.teardown(() => store.close());
    t.equal(await store.head('keys/a'), 1);
    proxy.faults.isHanging = true;
    await t.rejects(store.get('keys/a'), { code: 'UNAVAILABLE', message: /stopped answering/ });
    proxy.faults.isHanging = false;
    t.equal(Buffer.from((await retrying(store).get('keys/a')) ?? []).toString(), 'a');
  });
}

t.test('known_hosts files are read as OpenSSH reads them', async (t) => {
  const text = [
    '# comment',
    'plain.example,192.0.2.1 ssh-ed25519 AAAA',
    '[plain.example]:2222 ssh-ed25519 BBBB',
    '*.wild.example,!bad.wild.example ecdsa-sha2-nistp256 CCCC',
    '@revoked plain.example ssh-rsa DDDD',
    '@cert-authority plain.example ssh-rsa EEEE',
    // A hashed name for 192.168.1.61.
    '|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg= ssh-ed25519 FFFF',
    'short',
  ].join('\n');
  const keys = (host: string, port = 22): string[] => knownKeysOf(text, host, port).map(({ key }) => key);
  t.same(keys('plain.example'), ['AAAA', 'DDDD']);
  t.same(keys('PLAIN.example'), ['AAAA', 'DDDD']);
  t.same(keys('192.0.2.1'), ['AAAA']);
  t.same(keys('plain.example', 2222), ['BBBB']);
  t.same(keys('a.wild.example'), ['CCCC']);
  t.same(keys('bad.wild.example'), []);
  t.same(keys('plainxexample'), []);
  t.same(keys('192.168.1.61'), ['FFFF']);
});
