/** The random programs on a plain directory: they agree with a correct filesystem, and detect an incorrect one. */
import { appendFile, mkdir, mkdtemp, readdir, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Probe } from '../mount/posix-probe.js';
import { randomIo } from './random-io.js';
import { RandomTree } from './random-tree.js';
import { testSeed } from './seeded-random.js';

const seed = testSeed();
const directory = await mkdtemp(join(tmpdir(), 'models-'));
t.teardown(() => rm(directory, { recursive: true, force: true }));

async function grown(name: string): Promise<RandomTree> {
  const path = join(directory, name);
  await mkdir(path);
  const tree = new RandomTree({ directory: path, seed });
  t.teardown(() => tree.close());
  await tree.run({ ops: 400 });
  return tree;
}

void t.test(`random I/O on a plain file agrees with the model (TEST_SEED=${seed})`, async (t) => {
  t.equal(await randomIo({ directory, ops: 1500, seed }), 1500);
});

void t.test('random I/O reports, with the seed, that the content was changed by something else', async (t) => {
  const disturb = async (): Promise<void> => {
    const file = (await readdir(directory)).find((name) => name.startsWith('random-io-')) ?? '';
    await appendFile(join(directory, file), 'x');
  };
  await t.rejects(randomIo({ directory, ops: 500, seed, disturb, disturbEvery: 100 }), new RegExp(`seed ${seed}, operation`));
});

void t.test(`a random tree in a plain directory agrees with the model (TEST_SEED=${seed})`, async (t) => {
  const tree = await grown('agrees');
  t.same(await tree.verify(), []);
});

void t.test('a saved model is loaded and verified by another run', async (t) => {
  const tree = await grown('saved');
  const again = new RandomTree({ directory: join(directory, 'saved'), seed: 1 });
  t.teardown(() => again.close());
  again.restore(tree.save());
  t.same(await again.verify(), []);
  await again.run({ ops: 50 });
  t.same(await again.verify(), []);
});

void t.test('a name that something else moved is reported', async (t) => {
  const tree = await grown('moved');
  // Names are bytes, and some are not UTF-8.
  const [name] = await readdir(join(directory, 'moved'), { encoding: 'buffer' });
  await rename(Buffer.concat([Buffer.from(join(directory, 'moved', '/')), name!]), join(directory, 'moved', 'elsewhere'));
  t.not((await tree.verify()).length, 0);
});

void t.test('an operation in flight may have happened or not, and nothing else', async (t) => {
  const path = join(directory, 'flight');
  const tree = await grown('flight');
  const saved = JSON.parse(tree.save()) as { pending?: unknown };
  const pending = { kind: 'mkdir', path: 'in-flight', mode: 0o755 };
  const settled = async (operation: object): Promise<readonly string[]> => {
    tree.restore(JSON.stringify({ ...saved, pending: operation }));
    return tree.settle();
  };
  t.same(await settled(pending), [], 'it did not happen');
  const probe = await Probe.start();
  t.teardown(() => probe.close());
  await probe.ok('mkdir', join(path, 'in-flight'));
  t.same(await settled(pending), [], 'it happened');
  t.not((await settled({ ...pending, path: 'something-else' })).length, 0, 'another one happened');
});
