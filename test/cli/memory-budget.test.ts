/** A mount with little memory does the same in smaller steps; `status` shows its limit (doc/cli.md, "Memory"). */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readFile, writeFile } from 'node:fs/promises';
import t from 'tap';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { Workplace } from './command-line.js';

t.setTimeout(300_000);
const place = new Workplace();
t.teardown(() => place.remove());
const MiB = 1024 * 1024;

interface MemoryFacts {
  readonly bytes: number;
  readonly maxBytes: number;
  readonly residentBytes: number;
}

async function memoryOf(): Promise<MemoryFacts> {
  const { mounts } = JSON.parse(await place.succeed(['status', '--json'])) as { mounts: { details: { memory: MemoryFacts } }[] };
  const [mount] = mounts;
  if (!mount) throw new Error('nothing is mounted');
  return mount.details.memory;
}

async function hashOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(path)) hash.update(piece as Uint8Array);
  return hash.digest('hex');
}

t.test('a mount with 64M of memory writes and reads a file that is larger', async (t) => {
  const { store, keyFile } = await place.makeVolume();
  const folder = place.makeFolder('mnt');
  const words = ['mount', store, folder, '--key-file', keyFile, '--memory', '64M'];
  await place.succeed(words);
  const hash = createHash('sha256');
  const file = await open(place.path('mnt', 'large'), 'w');
  // Each MiB differs and is incompressible.
  for (let index = 0; index < 160; index++) {
    const piece = createHash('shake256', { outputLength: MiB }).update(String(index)).digest();
    hash.update(piece);
    await file.write(piece);
  }
  await file.close();
  // Many files that are open at once share the limit of dirty data.
  const names = Array.from({ length: 24 }, (_, index) => place.path('mnt', `part-${index}`));
  await Promise.all(names.map((name, index) => writeFile(name, Buffer.alloc(2 * MiB, index))));
  await place.succeed(['flush']);
  const busy = await memoryOf();
  t.equal(busy.maxBytes, 64 * MiB);
  t.ok(busy.bytes > 0 && busy.bytes <= busy.maxBytes, `${busy.bytes} bytes are used`);
  t.ok(busy.residentBytes > busy.bytes);
  t.match(await place.succeed(['status']), /memory +.*max 64 MiB/);
  await place.succeed(['unmount', folder]);
  await place.succeed(words);
  t.equal(await hashOf(place.path('mnt', 'large')), hash.digest('hex'));
  for (const [index, name] of names.entries()) t.ok((await readFile(name)).equals(Buffer.alloc(2 * MiB, index)), name);
  const after = await memoryOf();
  t.ok(after.bytes <= after.maxBytes, `${after.bytes} bytes are used`);
  await place.succeed(['unmount', folder]);
});

t.test('a memory limit below the minimum is refused before a passphrase is asked for', async (t) => {
  const { code, stderr } = await place.run(['mount', place.path('nowhere'), place.path('mnt'), '--memory', '32M']);
  t.equal(code, exitCodes.USAGE);
  t.match(stderr, /^sealdrive: --memory is at least 64M\n$/);
});
