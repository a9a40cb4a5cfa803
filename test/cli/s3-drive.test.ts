/**
 * A drive in an S3 bucket with the traits of real ones: locked, archived, far away. The buckets are in this process, so
 * all access to a drive here is asynchronous.
 */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import t from 'tap';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { FaultProxy } from '../support/fault-proxy.js';
import type { BucketHabits } from '../support/scripted-bucket.js';
import { ScriptedBucket } from '../support/scripted-bucket.js';
import type { ScriptedServer } from '../support/scripted-server.js';
import { Workplace } from './command-line.js';

const place = new Workplace();
t.teardown(() => place.remove());
const env = { AWS_ACCESS_KEY_ID: 'KEY', AWS_SECRET_ACCESS_KEY: 'HIDDEN' };
const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);

async function startBucket(habits: Partial<BucketHabits>): Promise<{ readonly bucket: ScriptedBucket; readonly server: ScriptedServer }> {
  const bucket = new ScriptedBucket({ condition: 'kept', ranges: true, uploads: true, ...habits });
  const server = await bucket.start();
  t.teardown(() => server.stop());
  return { bucket, server };
}

t.test('a bucket with a default retention holds a volume', async (t) => {
  const { server } = await startBucket({ isLocked: true });
  const url = `s3://bucket/locked?endpoint=${server.origin}`;
  await place.succeed(['init', url, '--key-file', 'locked.key', '--no-recovery', '--name', 'locked'], { env });
  const drive = place.makeFolder('locked-drive');
  await place.succeed(['mount', 'locked', drive], { env });
  const content = randomBytes(9 * 1024 * 1024);
  await writeFile(place.path('locked-drive', 'file'), content);
  await place.succeed(['flush', 'locked']);
  await place.succeed(['unmount', 'locked']);
  t.match(await place.succeed(['check', 'locked', '--data'], { env }), /Nothing is wrong/);
  t.match(await place.succeed(['doctor', 'locked'], { env }), /versions: kept: what is deleted stays as an old version.*probes of 512 bytes/);
});

t.test('an archived object is an error at once with its remedy, and is readable after it is restored', async (t) => {
  const { bucket, server } = await startBucket({});
  const url = `s3://bucket/archive?endpoint=${server.origin}`;
  await place.succeed(['init', url, '--key-file', 'archive.key', '--no-recovery', '--name', 'archive'], { env });
  const drive = place.makeFolder('archive-drive');
  await place.succeed(['mount', 'archive', drive], { env });
  const content = randomBytes(300_000);
  await writeFile(place.path('archive-drive', 'file'), content);
  await place.succeed(['unmount', 'archive']);
  for (const name of bucket.objects.keys()) if (name.includes('/packs/')) bucket.archived.add(name);
  t.ok(bucket.archived.size > 0);

  await place.succeed(['mount', 'archive', drive, '--state-dir', place.path('archive-fresh')], { env });
  await t.rejects(readFile(place.path('archive-drive', 'file')), { code: 'EIO' });
  const shown = await place.succeed(['status', drive]);
  t.match(shown, /refused .*moved to an archive: restore it/);
  const status = JSON.parse(await place.succeed(['status', drive, '--json'])) as { readonly mounts: readonly { readonly details: object }[] };
  t.match(status.mounts[0]!.details, { refused: { objects: 1, reason: /InvalidObjectState/ }, store: { reachable: true } });
  const checked = await place.run(['check', 'archive', '--data'], { env });
  t.equal(checked.code, exitCodes.STORE);
  t.match(checked.stderr, /moved to an archive: restore it/);
  t.match(await place.succeed(['doctor', 'archive', '--no-probe'], { env }), /in an archive[^]*restore them/);

  bucket.archived.clear();
  t.ok((await readFile(place.path('archive-drive', 'file'))).equals(content));
  t.notMatch(await place.succeed(['status', drive]), /refused/);
  await place.succeed(['unmount', drive]);
});

t.test('the next mount after kill -9 in the middle of a large upload sends the missing parts', async (t) => {
  const { bucket, server } = await startBucket({});
  const proxy = await FaultProxy.start(Number(new URL(server.origin).port), new SeededRandom(seed));
  t.teardown(() => proxy.stop());
  const url = `s3://bucket/parts?endpoint=http://127.0.0.1:${proxy.port}`;
  await place.succeed(['init', url, '--key-file', 'parts.key', '--no-recovery', '--name', 'parts'], { env });
  const drive = place.makeFolder('parts-drive');
  await place.succeed(['mount', 'parts', drive], { env });
  const content = randomBytes(15 * 1024 * 1024);
  /** Waits until the third part of the only pack begins to arrive, when two are there. */
  const arriving = new Promise<void>((settle) => {
    server.onArrival = (_, path) => {
      if (!path.includes('partNumber=3')) return;
      proxy.faults.isHanging = true;
      settle();
    };
  });
  await writeFile(place.path('parts-drive', 'large'), content);
  await arriving;
  server.onArrival = () => {};
  const status = JSON.parse(await place.succeed(['status', drive, '--json'])) as { readonly mounts: readonly { readonly pid: number }[] };
  process.kill(status.mounts[0]!.pid, 'SIGKILL');
  proxy.faults.isHanging = false;
  proxy.cutAll();
  const kept = [...bucket.uploads.values()].map(({ parts }) => [...parts.keys()]);
  t.same(kept, [[1, 2]]);
  const before = server.requests.length;
  await place.succeed(['mount', 'parts', drive], { env });
  await place.succeed(['flush', 'parts']);
  const sent = server.requests.slice(before).filter(({ method, target }) => method === 'PUT' && target.includes('/packs/'));
  const bytes = sent.reduce((sum, { body }) => sum + body.length, 0);
  t.ok(bytes < 6 * 1024 * 1024, `${bytes} bytes were sent of ${content.length}`);
  t.notOk(sent.some(({ target }) => /partNumber=[12]\b/.test(target)));
  t.equal(bucket.uploads.size, 0, 'nothing is left of the upload');
  await place.succeed(['unmount', drive]);
  await place.succeed(['mount', 'parts', drive, '--state-dir', place.path('parts-fresh')], { env });
  t.ok((await readFile(place.path('parts-drive', 'large'))).equals(content));
  await place.succeed(['unmount', drive]);
});
