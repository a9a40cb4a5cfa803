/**
 * A drive whose network comes and goes, as its user sees it: the command line, a real mount, and a server behind a
 * proxy that causes outages. The server is Sealdrive's own, or those named by TEST_STORES (`s3,sftp`). The volume by
 * itself is tested in test/volume/offline-volume.test.ts.
 */
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { DaemonStatus, PinStatus } from '../../src/daemon/control-protocol.js';
import type { Outcome } from '../cli/command-line.js';
import { Workplace } from '../cli/command-line.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { until } from '../suite/switched-store.js';
import { FaultProxy } from '../support/fault-proxy.js';
import type { StoreKind } from '../support/store-server.js';
import { startStoreServer, storeKindsOf } from '../support/store-server.js';
import { Probe } from './posix-probe.js';

const why = whyNoFuse();

type Status = DaemonStatus & { readonly pins: readonly PinStatus[] };

interface World {
  readonly work: Workplace;
  readonly proxy: FaultProxy;
  readonly directory: string;
  readonly store: string;
  run(...words: string[]): Promise<Outcome>;
  succeed(...words: string[]): Promise<string>;
  mount(...options: string[]): Promise<string>;
  status(): Promise<Status>;
  path(...names: string[]): string;
  /** The state directory of the volume. */
  state(): Promise<string>;
}

async function createWorld(t: { teardown(fn: () => unknown): void; setTimeout(ms: number): void }, kind: StoreKind): Promise<World> {
  t.setTimeout(300_000);
  const work = new Workplace();
  const server = await startStoreServer(kind, work.makeFolder('server'));
  const proxy = await FaultProxy.start(server.port, new SeededRandom(testSeed()));
  const store = await server.location('volume', proxy.port);
  const directory = work.makeFolder('drive');
  const options = { env: server.environment };
  const keyFile = work.path('key');
  t.teardown(async () => {
    proxy.faults.isRefusing = true;
    await work.remove();
    await proxy.stop();
    await server.stop();
  });
  // The server looks for new tokens periodically.
  await until(async () => !/status 401/.test((await work.run(['init', store, '--key-file', keyFile, '--no-recovery'], options)).stderr));
  return {
    work,
    proxy,
    directory,
    store,
    run: (...words) => work.run(words, options),
    succeed: (...words) => work.succeed(words, options),
    mount: (...words) => work.succeed(['mount', store, directory, '--key-file', keyFile, '--json', ...words], options),
    async status() {
      const { mounts } = JSON.parse(await work.succeed(['status', directory, '--json'])) as { mounts: [Status] };
      return mounts[0];
    },
    path: (...names) => join(directory, ...names),
    async state() {
      const base = work.path('state', 'sealdrive');
      const [name] = (await readdir(base)).filter((one) => /^[0-9a-f]{16}$/.test(one));
      return join(base, name!);
    },
  };
}

/** The next daemon knows of new cache content only after a moment. */
async function untilCacheIsNoted(cache: string): Promise<void> {
  await until(async () => {
    const index = await readFile(join(cache, 'recent'), 'latin1').catch(() => '');
    return (await readdir(join(cache, 'packs'))).every((name) => index.includes(name));
  });
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'done',
    (error: NodeJS.ErrnoException) => error.code ?? String(error),
  );

if (why !== false) t.plan(0, why);
else {
  t.setTimeout(600_000);

  for (const kind of storeKindsOf(process.env['TEST_STORES'] ?? 'http')) {
    t.test(`a drive that was killed with unstored work mounts without a network (${kind})`, async (t) => {
      const { work, proxy, store, mount, path, run, status, succeed, state } = await createWorld(t, kind);
      await mount('--timeout', '3s');
      const stored = randomBytes(400_000);
      await writeFile(path('stored'), stored);
      await succeed('flush', path());
      proxy.faults.isRefusing = true;
      proxy.cutAll();
      const waiting = randomBytes(900_000);
      await writeFile(path('waiting'), waiting);
      const { pid } = await status();
      await untilCacheIsNoted(join(await state(), 'cache'));
      process.kill(pid, 'SIGKILL');
      await until(() => codeOf(readdir(path())).then((code) => code === 'ENOTCONN'));
      // A wrong secret is reported as it is with a network.
      await writeFile(work.path('wrong'), randomBytes(64));
      const wrong = await run('mount', store, path(), '--key-file', work.path('wrong'));
      t.not(wrong.code, 0);
      const mounted = JSON.parse(await mount('--timeout', '3s')) as { offline: boolean };
      t.equal(mounted.offline, true);
      t.ok(stored.equals(await readFile(path('stored'))));
      t.ok(waiting.equals(await readFile(path('waiting'))));
      await writeFile(path('third'), 'written offline');
      const { details, pending } = await status();
      t.equal(details['store']!['reachable'], false);
      t.ok(pending.operations > 0);
      const unmounted = await run('unmount', path());
      t.equal(unmounted.code, 9);
      t.match(unmounted.stderr, /changes? to .* left: the store does not answer/);
      proxy.faults.isRefusing = false;
      await succeed('status', path(), '--wait', '--timeout', '2m');
      t.equal((await status()).pending.operations, 0);
      await succeed('unmount', path());
      // A new device.
      await rm(await state(), { recursive: true });
      await mount();
      t.ok(waiting.equals(await readFile(path('waiting'))));
      t.equal(await readFile(path('third'), 'utf8'), 'written offline');
      await succeed('unmount', path());
    });

    t.test(`the status of a file is an attribute that nobody copies (${kind})`, async (t) => {
      const { proxy, mount, path, run, succeed } = await createWorld(t, kind);
      await mount('--timeout', '3s');
      const probe = await Probe.start();
      t.teardown(() => probe.close());
      const read = async (name: string): Promise<string> =>
        Buffer.from((await probe.need('getxattr', path(name), 'user.sealdrive.status')).data ?? '', 'hex').toString('latin1');
      await writeFile(path('file'), randomBytes(100_000));
      await succeed('flush', path());
      t.match(await read('file'), /^stored here=100 pinned=no$/);
      t.equal((await probe.need('listxattr', path('file'))).data ?? '', '');
      t.equal(await probe.errno('setxattr', path('file'), 'user.sealdrive.status', Buffer.from('x'), 0), 'EPERM');
      t.equal(await probe.errno('removexattr', path('file'), 'user.sealdrive.status'), 'EPERM');
      proxy.faults.isHanging = true;
      await writeFile(path('file'), randomBytes(100_000));
      await writeFile(path('new'), randomBytes(100_000));
      await until(async () => /^(pending|uploading) here=100 pinned=no$/.test(await read('file')));
      t.match(await read('new'), /^(local|uploading) here=100 pinned=no$/);
      const { stdout, code } = await run('status', path('file'), path('new'), '--json');
      t.equal(code, 0);
      const { files } = JSON.parse(stdout) as { files: { path: string; states: Record<string, number> }[] };
      t.strictSame(
        files.map(({ states }) => states['stored']),
        [0, 0],
      );
      t.equal((await run('status', '/')).code, 2, 'what is on no drive has no status');
      proxy.faults.isHanging = false;
      proxy.cutAll();
      await succeed('status', path(), '--wait', '--timeout', '2m');
      t.match(await read('new'), /^stored/);
      await succeed('unmount', path());
    });

    t.test(`a hanging store delays nobody longer than the timeout, and a signal still ends the drive in time (${kind})`, async (t) => {
      const { proxy, mount, path, run, status, state } = await createWorld(t, kind);
      await mount();
      await writeFile(path('one'), randomBytes(300_000));
      await writeFile(path('two'), randomBytes(300_000));
      t.equal((await run('unmount', path())).code, 0);
      await rm(join(await state(), 'cache'), { recursive: true });
      await mount('--timeout', '2s', '--stop-timeout', '1s');
      t.strictSame((await readdir(path())).toSorted(), ['one', 'two']);
      proxy.faults.isHanging = true;
      t.equal(await codeOf(readFile(path('one'))), 'ETIMEDOUT');
      await until(async () => (await status()).details['store']!['offlineSeconds'] !== undefined);
      const startMs = performance.now();
      for (let count = 0; count < 10; count++) t.equal(await codeOf(readFile(path('two'))), 'ETIMEDOUT');
      t.ok(performance.now() - startMs < 18_000, 'ten times the timeout would be twenty seconds');
      t.strictSame((await readdir(path())).toSorted(), ['one', 'two']);
      await writeFile(path('three'), 'x');
      t.equal((await run('flush', path())).code, 9);
      const { pid } = await status();
      process.kill(pid, 'SIGTERM');
      await until(() => {
        try {
          process.kill(pid, 0);
          return false;
        } catch {
          return true;
        }
      });
      const log = await readFile(join(await state(), 'daemon.log'), 'utf8');
      t.match(log, /"message":"unmounted","operationsLeft":[1-9]/, 'it says what is left');
      proxy.faults.isHanging = false;
      proxy.cutAll();
      await mount();
      t.equal(await readFile(path('three'), 'utf8'), 'x');
      t.equal((await run('unmount', path())).code, 0);
    });

    t.test(`pinned files are readable without a network after a remount (${kind})`, async (t) => {
      const { proxy, mount, path, run, succeed, state, directory } = await createWorld(t, kind);
      await mount();
      await succeed('pin', '--list');
      await writeFile(path('pinned'), randomBytes(700_000));
      await writeFile(path('other'), randomBytes(700_000));
      await succeed('unmount', path());
      await rm(join(await state(), 'cache'), { recursive: true });
      await mount('--timeout', '2s');
      const { pins } = JSON.parse(await succeed('pin', path('pinned'), '--json')) as { pins: PinStatus[] };
      t.match(pins, [{ path: '/pinned', state: 'complete', files: 1 }]);
      t.match(await succeed('pin'), new RegExp(`${directory}/pinned: all here, 1 file`));
      t.equal((await run('pin', '/etc')).code, 2);
      t.equal((await run('unpin', path('other'))).code, 2);
      await succeed('unmount', path());
      proxy.faults.isRefusing = true;
      proxy.cutAll();
      await mount('--timeout', '2s');
      t.equal((await readFile(path('pinned'))).byteLength, 700_000);
      t.equal(await codeOf(readFile(path('other'))), 'ETIMEDOUT');
      await succeed('unpin', path('pinned'));
      t.match(await succeed('pin', '--list'), /Nothing is pinned/);
      await succeed('unmount', path());
    });
  }
}
