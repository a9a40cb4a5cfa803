/** `sealdrive gc` on a mounted and an unmounted volume (doc/collecting.md). */
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { Workplace } from './command-line.js';

const place = new Workplace();
t.teardown(() => place.remove());
const secret = ['--key-file', 'key'];
const random = new SeededRandom(testSeed());
const skip = whyNoFuse();

const storedBytes = (): number =>
  readdirSync(place.path('store', 'packs'), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, { parentPath, name }) => sum + statSync(join(parentPath, name)).size, 0);

interface Report {
  readonly live: number;
  readonly kept: number;
  readonly garbage: number;
  readonly freed: { readonly packs: number; readonly bytes: number };
}

const gc = async (...more: string[]): Promise<Report> => JSON.parse(await place.succeed(['gc', 'store', ...secret, '--json', ...more])) as Report;

t.test('the space of removed files comes back, and what is left is as it was', skip === false ? {} : { skip }, async (t) => {
  const mountPoint = place.makeFolder('mnt');
  await place.succeed(['init', 'store', '--no-recovery', ...secret]);
  await place.succeed(['mount', 'store', mountPoint, ...secret]);
  const files = new Map(Array.from({ length: 40 }, (_, index) => [join(mountPoint, `${index}`), random.bytes(300_000)]));
  for (const [path, bytes] of files) writeFileSync(path, bytes);
  await place.succeed(['flush', mountPoint]);
  const full = storedBytes();
  // Every tenth stays.
  for (const [index, path] of [...files.keys()].entries()) {
    if (index % 10 === 0) continue;
    rmSync(path);
    files.delete(path);
  }
  const dry = await gc('--dry-run', '--keep-window', '0s');
  t.equal(dry.freed.packs, 0);
  t.equal(storedBytes(), full, 'a dry run removes nothing');
  const week = await gc();
  t.equal(week.freed.packs, 0, 'a week is kept unless a person says otherwise');
  t.ok(week.kept > 10_000_000, `${week.kept} bytes are kept`);
  await gc('--keep-window', '0s');
  const { live } = await gc('--keep-window', '0s');
  t.ok(storedBytes() < 1.15 * live + 500_000, `${storedBytes()} bytes are stored for ${live} that are live`);
  for (const [path, bytes] of files) t.ok(readFileSync(path).equals(bytes), `${path} is as it was`);
  await place.succeed(['unmount', mountPoint]);
  // The same without a mount.
  const again = await gc('--keep-window', '0s');
  t.ok(again.live > 1_000_000);
  t.match(await place.succeed(['check', 'store', '--data', ...secret]), /Nothing is wrong/);
  await place.succeed(['mount', 'store', mountPoint, ...secret]);
  for (const [path, bytes] of files) t.ok(readFileSync(path).equals(bytes), `${path} is as it was after a new mount`);
  await place.succeed(['unmount', mountPoint]);
});

t.test('a window that is no time is refused', async (t) => {
  const { code, stderr } = await place.run(['gc', 'store', ...secret, '--keep-window', 'long']);
  t.equal(code, 2);
  t.match(stderr, /keep-window/);
});
