import { relative } from 'node:path';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { openStore } from '../../src/store/open-store.js';
import { sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const options = { disk: systemDisk, random: new SeededRandom(testSeed()) };

t.test('the ways to write a directory open the same store', async (t) => {
  const path = `${await scratchDirectory(t)}/store`;
  await t.rejects(openStore(path, options), { code: 'NOT_A_STORE' });
  const made = await openStore(path, { ...options, create: true });
  await made.put('keys/a', sealedText('a'));
  for (const location of [path, `dir:${path}`, `file://${path}`, relative(process.cwd(), path), `dir:${relative(process.cwd(), path)}`]) {
    t.ok(await (await openStore(location, options)).get('keys/a'), location);
  }
});

t.test('an unknown kind of store is refused, and the message names the known kinds and no secret', async (t) => {
  const error = await openStore('gopher://user:hunter2@host/x', options).catch((thrown: unknown) => thrown as Error);
  t.match(error, { code: 'UNKNOWN_SCHEME', message: /dir:/ });
  t.notMatch((error as Error).message, /hunter2/);
  await t.rejects(openStore('constructor:x', options), { code: 'UNKNOWN_SCHEME' });
  await t.rejects(openStore('', options), { code: 'MALFORMED' });
  await t.rejects(openStore('dir:', options), { code: 'MALFORMED' });
  await t.rejects(openStore('file://host/x', options), { code: 'MALFORMED' });
});
