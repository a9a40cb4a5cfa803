/**
 * Packs that were sealed before a crash are uploaded unchanged after it: nothing is sealed or chunked again
 * (doc/stores.md, "Over the network").
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { ScriptedBucket } from '../support/scripted-bucket.js';
import { Workplace } from './command-line.js';

const place = new Workplace();
t.teardown(() => place.remove());
const env = { AWS_ACCESS_KEY_ID: 'KEY', AWS_SECRET_ACCESS_KEY: 'HIDDEN' };

/** The files of staged packs by their names. */
function stagedPacks(): Map<string, Buffer> {
  const base = place.path('state', 'sealdrive');
  const volume = readdirSync(base).find((name) => /^[0-9a-f]{16}$/.test(name)) ?? '';
  const folder = join(base, volume, 'staging');
  return new Map(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name))]));
}

t.test('the next mount after kill -9 in the middle of an upload sends the same pack without sealing it again', async (t) => {
  const bucket = new ScriptedBucket();
  const server = await bucket.start();
  t.teardown(() => server.stop());
  const seed = testSeed();
  t.comment(`TEST_SEED=${seed}`);
  const proxy = await FaultProxy.start(Number(new URL(server.origin).port), new SeededRandom(seed));
  t.teardown(() => proxy.stop());
  const url = `s3://bucket?endpoint=http://127.0.0.1:${proxy.port}`;
  const mountPoint = place.makeFolder('mnt');
  await place.succeed(['volume', 'add', 'slow', url, '--key-file', 'key', '--mount-point', mountPoint]);
  await place.succeed(['init', 'slow', '--no-recovery'], { env });
  await place.succeed(['mount', 'slow'], { env });
  const content = randomBytes(6 * 1024 * 1024);

  proxy.faults.bytesPerSecond = 400_000;
  const arriving = new Promise<string>((settle) => {
    server.onArrival = (method, path, bytes) => {
      if (method === 'PUT' && path.includes('/packs/') && bytes > 500_000) settle(path);
    };
  });
  // Never synchronous, since the server of the drive runs in this process.
  await writeFile(join(mountPoint, 'large'), content);
  const target = await arriving;
  const status = JSON.parse(await place.succeed(['status', 'slow', '--json'])) as { readonly mounts: readonly { readonly pid: number }[] };
  process.kill(status.mounts[0]!.pid, 'SIGKILL');
  const staged = stagedPacks();
  const key = target.slice('/bucket/'.length);
  const inFlight = staged.get(key.split('/').at(-1) ?? '');
  t.ok(inFlight && inFlight.length > 1_000_000, `the pack is on this disk, ${inFlight?.length} bytes`);
  t.notOk(bucket.objects.has(key), 'and not in the store');

  proxy.faults.bytesPerSecond = 0;
  proxy.cutAll();
  const before = server.requests.length;
  await place.succeed(['mount', 'slow'], { env });
  await place.succeed(['flush', 'slow']);
  const puts = server.requests.slice(before).filter(({ method, target: path }) => method === 'PUT' && path.includes('/packs/'));
  const again = puts.filter(({ target: path }) => path === target);
  t.equal(again.length, 1, 'it is sent once');
  t.ok(inFlight && again[0]?.body.equals(inFlight), 'whole, byte by byte what was sealed before');
  const sent = puts.reduce((sum, { body }) => sum + body.length, 0);
  const kept = [...staged.values()].reduce((sum, bytes) => sum + bytes.length, 0);
  t.ok(sent < kept + 300_000, `${sent} bytes were sent of ${kept} that were staged`);
  await place.succeed(['unmount', 'slow']);
  await place.succeed(['mount', 'slow', '--state-dir', place.path('fresh')], { env });
  t.ok((await readFile(join(mountPoint, 'large'))).equals(content));
  await place.succeed(['unmount', 'slow']);
});
