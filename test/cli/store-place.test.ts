/**
 * The record of a store and its volume does not depend on how its location is spelled: attacks 6 and 7 of
 * doc/security.md through every spelling.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import t from 'tap';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import type { Outcome } from './command-line.js';
import { fingerprint, Workplace } from './command-line.js';

const place = new Workplace();
t.teardown(() => place.remove());
t.setTimeout(600_000);
const skip = whyNoFuse();
const isRoot = process.getuid?.() === 0;

/** Spellings of the folder `store`, relative to the folder of the workplace. */
function spellingsOf(store: string): Readonly<Record<string, string>> {
  const link = place.path(`${basename(store)}-link`);
  symlinkSync(store, link);
  const above = place.path(`${basename(store)}-above`);
  symlinkSync(place.folder, above);
  return {
    plain: store,
    'a slash behind it': `${store}/`,
    'slashes in it': store.replaceAll('/', '//'),
    'a way up and down': `${store}/keys/..`,
    'dir:': `dir:${store}`,
    'file:': `file://${store}`,
    'file: with percent signs': `file://${store.replace('s', '%73')}`,
    relative: `./${relative(place.folder, store)}`,
    'a symbolic link': link,
    'a symbolic link with dir:': `dir:${link}/`,
    'a symbolic link above it': join(above, basename(store)),
  };
}

const exchange = (a: string, b: string): void => {
  renameSync(a, `${a}-away`);
  renameSync(b, a);
  renameSync(`${a}-away`, b);
};

/** Commands that would open the volume that is in the store now. */
function openings(store: string, keyFile: string, name: string): Readonly<Record<string, readonly string[]>> {
  const key = ['--key-file', keyFile];
  return {
    mount: ['mount', store, place.makeFolder(`${name}-mnt`), ...key],
    check: ['check', store, ...key],
    repair: ['repair', store, '--yes', ...key],
    salvage: ['salvage', store, place.path(`${name}-saved`), ...key],
    'key add': ['key', 'add', store, '--type', 'key-file', '--new-key-file', place.path(`${name}-new.key`), ...key],
    'key list': ['key', 'list', store],
  };
}

t.test('a replaced volume is refused by every command, however its location is spelled', { skip }, async (t) => {
  const { store, keyFile } = await place.makeVolume('seven');
  await place.succeed(['init', place.path('other'), '--key-file', keyFile, '--no-recovery']);
  const spellings = spellingsOf(store);
  exchange(store, place.path('other'));
  const before = fingerprint(store);
  for (const [command, words] of Object.entries(openings(store, keyFile, 'seven'))) {
    const { code, stderr } = await place.run(words);
    t.equal(code, exitCodes.INTEGRITY, `${command}: ${stderr}`);
    t.match(stderr, /exchanged.*sealdrive volume forget/);
  }
  for (const [spelling, location] of Object.entries(spellings)) {
    const { code, stderr } = await place.run(['check', location, '--key-file', keyFile]);
    t.equal(code, exitCodes.INTEGRITY, `${spelling}: ${stderr}`);
  }
  await place.succeed(['volume', 'add', 'named', store]);
  t.equal((await place.run(['check', 'named', '--key-file', keyFile])).code, exitCodes.INTEGRITY, 'by its name');
  t.equal(fingerprint(store), before, 'nothing was written');
  t.match(await place.succeed(['volume', 'forget', spellings['a symbolic link'] ?? '']), /Forgot that volume/);
  await place.succeed(['check', store, '--key-file', keyFile]);
});

t.test(
  'a volume that was replaced by a bind mount or in place is refused',
  { skip: skip || (isRoot ? false : 'needs root, to mount') },
  async (t) => {
    const { store, keyFile } = await place.makeVolume('bound');
    const other = place.path('bound-other');
    await place.succeed(['init', other, '--key-file', keyFile, '--no-recovery']);
    for (const name of ['keys', 'log']) exchange(join(store, name), join(other, name));
    const bound = place.makeFolder('bound-elsewhere');
    execFileSync('mount', ['--bind', store, bound]);
    t.teardown(() => execFileSync('umount', [bound]));
    const { code, stderr } = await place.run(['check', bound, '--key-file', keyFile]);
    t.equal(code, exitCodes.INTEGRITY, stderr);
    const copy = place.path('bound-copy');
    cpSync(store, copy, { recursive: true });
    t.equal((await place.run(['check', copy, '--key-file', keyFile])).code, exitCodes.INTEGRITY, 'a copy has the mark of the store');
  },
);

t.test('a keyslot that was removed here stays removed, wherever the volume reappears', async (t) => {
  const { store, keyFile } = await place.makeVolume('six');
  const second = place.path('six-second.key');
  await place.succeed(['key', 'add', store, '--type', 'key-file', '--new-key-file', second, '--key-file', keyFile]);
  const before = place.path('six-before');
  cpSync(store, before, { recursive: true });
  const { slots } = JSON.parse(await place.succeed(['key', 'list', store, '--json'])) as { slots: { id: string }[] };
  let removedCount = 0;
  for (const { id } of slots) if ((await place.run(['key', 'remove', store, id, '--key-file', second])).code === 0) removedCount++;
  t.equal(removedCount, 1);
  for (const name of readdirSync(join(before, 'keys'))) cpSync(join(before, 'keys', name), join(store, 'keys', name));
  for (const [spelling, location] of Object.entries({ ...spellingsOf(store), 'a copy elsewhere': before })) {
    const { code, stderr } = await place.run(['check', location, '--key-file', keyFile]);
    t.equal(code, exitCodes.LOCKED, `${spelling}: ${stderr}`);
  }
  const checked = await place.run(['check', store, '--key-file', second]);
  t.equal(checked.code, exitCodes.FLAWED, 'the other one opens the volume, and shows what the store has brought back');
  t.match(checked.stdout, /KEYSLOT_UNLISTED/);
});

t.test('a known volume is not replaced by a new one when its keyslots or its store are gone', async (t) => {
  const { store, keyFile } = await place.makeVolume('gone');
  const refused = async (words: readonly string[], pattern: RegExp, code: number = exitCodes.INTEGRITY): Promise<Outcome> => {
    const outcome = await place.run(words);
    t.equal(outcome.code, code, `${words[0]}: ${outcome.stderr}`);
    t.match(outcome.stderr, pattern);
    return outcome;
  };
  rmSync(join(store, 'keys'), { recursive: true });
  for (const [command, words] of Object.entries(openings(store, keyFile, 'gone'))) {
    if (command === 'mount' && skip) continue;
    const { stderr } = await refused(words, /keyslots of this known volume are gone/);
    t.notMatch(stderr, /sealdrive init/);
  }
  await refused(['init', store, '--key-file', keyFile, '--no-recovery'], /held volume/);
  for (const name of readdirSync(store)) rmSync(join(store, name), { recursive: true });
  await refused(['check', store, '--key-file', keyFile], /is no store now/);
  await refused(['init', store, '--key-file', keyFile, '--no-recovery'], /sealdrive volume forget/);
  rmSync(store, { recursive: true });
  await refused(['check', store, '--key-file', keyFile], /attach and mount the disk/, exitCodes.NOT_A_VOLUME);
  await refused(['init', `${store}/`, '--key-file', keyFile, '--no-recovery'], /held volume/);
  await place.succeed(['volume', 'forget', store]);
  await place.succeed(['init', store, '--key-file', keyFile, '--no-recovery']);
  t.equal((await place.run(['volume', 'forget', place.path('never')])).code, exitCodes.NOT_A_VOLUME);
});

t.test('a mark that is not a regular file is ignored without waiting', async (t) => {
  const { store, keyFile } = await place.makeVolume('marked');
  const mark = join(store, '_sealdrive');
  const bytes = readFileSync(mark);
  rmSync(mark);
  execFileSync('mkfifo', [mark]);
  t.not((await place.run(['volume', 'forget', place.path('elsewhere')])).code, null);
  t.not((await place.run(['key', 'list', store])).code, exitCodes.UNEXPECTED);
  rmSync(mark);
  mkdirSync(mark);
  t.not((await place.run(['key', 'list', store])).code, exitCodes.UNEXPECTED);
  rmSync(mark, { recursive: true });
  writeFileSync(mark, bytes);
  await place.succeed(['check', store, '--key-file', keyFile]);
});
