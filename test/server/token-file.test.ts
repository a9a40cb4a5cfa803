/** The token file: what is accepted, what is refused, and how a running server rereads it. */

import { chmod, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { createLogger } from '../../src/base/logger.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { isVolumeName, makeToken, permits, readAuthorization } from '../../src/server/token.js';
import type { TokenEntry } from '../../src/server/token-file.js';
import { changeTokenFile, decodeTokenFile, encodeTokenFile, readTokenFile, TokenTable } from '../../src/server/token-file.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);
const scratch = await scratchDirectory(t);

const entryOf = (right: TokenEntry['right'], volume = 'photos'): { readonly entry: TokenEntry; readonly text: string } => {
  const { id, text, hash } = makeToken(random);
  return { entry: { id, volume, right, hash, label: 'for Alice', created: 1_700_000_000 }, text };
};

t.test('a token is 256 random bits, and only its hash is in the file', async (t) => {
  const path = join(scratch, 'hashes.json');
  const { entry, text } = entryOf('read');
  t.match(text, /^sealdrive_[0-9a-f]{12}_[0-9a-f]{64}$/);
  await changeTokenFile(systemDisk, path, ({ tokens, quotas }) => ({ tokens: [...tokens, entry], quotas }));
  const written = await readFile(path, 'utf8');
  t.notOk(written.includes(text.slice(-64)));
  t.ok(written.includes(entry.hash));
  t.equal((await stat(path)).mode & 0o777, 0o600);
  t.same(await readTokenFile(path), { tokens: [entry], quotas: new Map() });
});

t.test('each right includes the lesser ones', async (t) => {
  for (const [right, needed, isPermitted] of [
    ['read', 'read', true],
    ['read', 'append', false],
    ['read', 'full', false],
    ['append', 'read', true],
    ['append', 'append', true],
    ['append', 'full', false],
    ['full', 'read', true],
    ['full', 'append', true],
    ['full', 'full', true],
  ] as const) {
    t.equal(permits(right, needed), isPermitted, `${right} ${needed}`);
  }
});

t.test('the name of a volume is one segment of a key, and differs from every first segment that a volume uses', async (t) => {
  for (const name of ['photos', 'a', '0', 'a-b', 'x'.repeat(63)]) t.ok(isVolumeName(name), name);
  for (const name of ['', '-a', 'a-', 'A', 'a/b', 'a b', '..', '_sealdrive', 'keys', 'log', 'packs', 'probe', 'x'.repeat(64), 'a\n']) {
    t.notOk(isVolumeName(name), name);
  }
});

t.test('only a well-formed token is accepted', async (t) => {
  const { text } = makeToken(random);
  t.ok(readAuthorization(`Bearer ${text}`));
  t.ok(readAuthorization(`bearer  ${text}`));
  for (const header of [undefined, '', text, `Basic ${text}`, `Bearer ${text} `, `Bearer ${text},Bearer ${text}`, `Bearer ${text.toUpperCase()}`]) {
    t.equal(readAuthorization(header), undefined, String(header));
  }
});

t.test('a malformed token file is refused, and the message repeats nothing of its content', async (t) => {
  const { entry } = entryOf('read');
  const good = { version: 1, tokens: [entry], quotas: { photos: 10 } };
  t.same(decodeTokenFile(JSON.stringify(good), 'x'), { tokens: [entry], quotas: new Map([['photos', 10]]) });
  t.same(decodeTokenFile(encodeTokenFile({ tokens: [entry], quotas: new Map([['photos', 10]]) }), 'x').tokens, [entry]);
  const wrong: readonly unknown[] = [
    null,
    [],
    { ...good, version: 2 },
    { ...good, tokens: {} },
    { ...good, quotas: [] },
    { ...good, quotas: { photos: -1 } },
    { ...good, quotas: { photos: 1.5 } },
    { ...good, quotas: { 'a/b': 1 } },
    { ...good, tokens: [entry, entry] },
    ...[{ id: 'x' }, { volume: '../music' }, { volume: 'keys' }, { right: 'owner' }, { hash: '' }, { label: 7 }, { created: 'now' }].map(
      (change) => ({
        ...good,
        tokens: [{ ...entry, ...change }],
      }),
    ),
  ];
  for (const value of wrong) {
    const text = JSON.stringify(value);
    t.throws(() => decodeTokenFile(text, 'PATH'), { code: 'TOKENS', message: /^the token file PATH / }, text);
  }
  for (const text of ['', '{', `{"tokens":"${entry.hash}`]) {
    t.throws(() => decodeTokenFile(text, 'PATH'), { code: 'TOKENS', message: 'the token file PATH is not JSON' });
  }
});

t.test('a file that others can read or write is refused', async (t) => {
  const path = join(scratch, 'modes.json');
  await writeFile(path, encodeTokenFile({ tokens: [], quotas: new Map() }));
  for (const mode of [0o644, 0o604, 0o602, 0o660, 0o620, 0o777]) {
    await chmod(path, mode);
    await t.rejects(readTokenFile(path), { code: 'TOKENS', message: /chmod 600/ }, mode.toString(8));
  }
  // A service reads a file that it must not change through its group.
  for (const mode of [0o600, 0o400, 0o640]) {
    await chmod(path, mode);
    t.same((await readTokenFile(path)).tokens, []);
  }
});

t.test('two simultaneous changes of the file never lose one silently', async (t) => {
  const path = join(scratch, 'race.json');
  const changes = Array.from({ length: 8 }, () => {
    const { entry } = entryOf('read');
    return changeTokenFile(systemDisk, path, ({ tokens, quotas }) => ({ tokens: [...tokens, entry], quotas })).then(() => entry.id);
  });
  const outcomes = await Promise.allSettled(changes);
  const made = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  t.ok(made.length > 0);
  t.same((await readTokenFile(path)).tokens.map(({ id }) => id).toSorted(), made.toSorted());
  for (const outcome of outcomes) if (outcome.status === 'rejected') t.match(outcome.reason, { code: 'TOKENS', message: /somebody else/ });
  await t.rejects(
    changeTokenFile(systemDisk, path, () => {
      throw new Error('no');
    }),
    /no/,
  );
  t.notOk((await readdir(scratch)).includes('race.json.new'));
  await changeTokenFile(systemDisk, path, (file) => file);
});

t.test('a running server rereads the token file, and keeps its tokens when the file becomes invalid', async (t) => {
  const path = join(scratch, 'followed.json');
  const lines: string[] = [];
  const logger = createLogger((line) => lines.push(line));
  const table = await TokenTable.open(path, { clock: systemClock, logger, recheckMs: 0 });
  const [first, second] = [entryOf('append'), entryOf('full')];
  const header = (text: string): string => `Bearer ${text}`;
  t.equal(await table.authorize(header(first.text)), undefined, 'there is no file yet');
  await changeTokenFile(systemDisk, path, () => ({ tokens: [first.entry], quotas: new Map([['photos', 5]]) }));
  t.same(await table.authorize(header(first.text)), { tokenId: first.entry.id, volume: 'photos', right: 'append', quota: 5 });
  t.equal(await table.authorize(header(second.text)), undefined);
  const forged = `${first.text.slice(0, -1)}${first.text.endsWith('0') ? '1' : '0'}`;
  t.equal(await table.authorize(header(forged)), undefined);
  await changeTokenFile(systemDisk, path, ({ tokens, quotas }) => ({ tokens: [...tokens, second.entry], quotas }));
  t.match(await table.authorize(header(second.text)), { right: 'full' });

  await writeFile(path, '{', { mode: 0o600 });
  t.match(await table.authorize(header(second.text)), { right: 'full' }, 'as before');
  t.match(lines.at(-1), /the tokens stay as they were/);
  await chmod(path, 0o666);
  t.match(await table.authorize(header(second.text)), { right: 'full' }, 'as before');

  await rm(path);
  t.equal(await table.authorize(header(second.text)), undefined, 'no file, no tokens');
  await changeTokenFile(systemDisk, path, () => ({ tokens: [second.entry], quotas: new Map() }));
  t.match(await table.authorize(header(second.text)), { right: 'full', quota: undefined });
});

t.test('a token that was just added is accepted at once, however recently the file was read', async (t) => {
  const path = join(scratch, 'added.json');
  const table = await TokenTable.open(path, { clock: systemClock, logger: createLogger(() => {}), recheckMs: 1e9 });
  const { entry, text } = entryOf('read');
  await changeTokenFile(systemDisk, path, () => ({ tokens: [entry], quotas: new Map() }));
  t.match(await table.authorize(`Bearer ${text}`), { tokenId: entry.id });
});

t.test('a server does not start with a file that it cannot use', async (t) => {
  const path = join(scratch, 'broken.json');
  await writeFile(path, 'x', { mode: 0o600 });
  await t.rejects(TokenTable.open(path, { clock: systemClock, logger: createLogger(() => {}) }), { code: 'TOKENS' });
});
