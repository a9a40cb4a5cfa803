/**
 * Attacks by somebody who can write into the folder of a store: files elsewhere are neither changed, nor removed, nor
 * read (doc/security.md).
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { findMount } from '../../src/fuse/mount-table.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import type { Outcome } from '../cli/command-line.js';
import { fingerprint, Workplace } from '../cli/command-line.js';
import { whyNoFuse } from '../suite/driver-suite.js';

const place = new Workplace();
t.teardown(() => place.remove());
t.setTimeout(900_000);

const { store, keyFile } = await place.makeVolume('original');
const mountPoint = place.makeFolder('mnt');
const skip = whyNoFuse();
if (!skip) {
  await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
  writeFileSync(join(mountPoint, 'file'), Buffer.alloc(1_000_000, 'content'));
  await place.succeed(['unmount', mountPoint]);
}
const firstIn = (folder: string): string => join(folder, readdirSync(join(store, folder)).toSorted()[0]!);

/** An old file of the user, with a name like Sealdrive's temporary files. */
const oldName = 'ab'.repeat(16);

let count = 0;
/** A store with a trap in it, and a folder elsewhere with everything in the store and files of the user. */
function setTrap(trapped: string, kind: 'link' | 'fifo'): { readonly store: string; readonly outside: string } {
  const [copy, outside] = [place.path(`store-${++count}`), place.path(`outside-${count}`)];
  for (const folder of [copy, outside]) cpSync(store, folder, { recursive: true });
  for (const folder of ['.', '_tmp', 'packs', 'probe', 'keys', 'log']) {
    mkdirSync(join(outside, folder), { recursive: true });
    for (const name of ['thesis', oldName]) {
      writeFileSync(join(outside, folder, name), `mine: ${name}`);
      utimesSync(join(outside, folder, name), 1_000_000, 1_000_000);
    }
  }
  rmSync(join(copy, trapped), { recursive: true, force: true });
  mkdirSync(dirname(join(copy, trapped)), { recursive: true });
  if (kind === 'link') symlinkSync(join(outside, trapped), join(copy, trapped));
  else execFileSync('mkfifo', [join(copy, trapped)]);
  return { store: copy, outside };
}

const withKey = ['--key-file', keyFile];
/** The commands that a user runs on a store, with a secret and without one. */
const commands: Readonly<Record<string, (at: string, state: string) => readonly string[]>> = {
  'doctor --no-probe': (at) => ['doctor', at, '--no-probe'],
  doctor: (at) => ['doctor', at],
  'key list': (at) => ['key', 'list', at],
  init: (at, state) => ['init', at, '--key-file', join(state, 'new-key'), '--no-recovery'],
  check: (at) => ['check', at, '--data', ...withKey],
  salvage: (at, state) => ['salvage', at, join(state, 'salvaged'), ...withKey],
  repair: (at) => ['repair', at, '--yes', ...withKey],
  'key add': (at, state) => ['key', 'add', at, '--type', 'key-file', '--new-key-file', join(state, 'added-key'), ...withKey],
  ...(skip
    ? {}
    : {
        'mount --read-only': (at: string) => ['mount', at, mountPoint, '--read-only', ...withKey],
        mount: (at: string) => ['mount', at, mountPoint, ...withKey],
      }),
};
const readers = ['doctor --no-probe', 'key list', 'check', 'salvage', 'mount --read-only'];

async function attack(trap: { readonly store: string; readonly outside: string }, command: string): Promise<Outcome> {
  const state = place.makeFolder(`state-${++count}`);
  const options = { env: { XDG_STATE_HOME: state } };
  const outcome = await place.run(commands[command]!(trap.store, state), options);
  if (await findMount(mountPoint)) {
    try {
      execFileSync('cat', [join(mountPoint, 'file')], { stdio: 'ignore' });
      writeFileSync(join(mountPoint, 'new'), 'new');
    } catch {
      // The object behind the trap cannot be read.
    }
    const { code } = await place.run(['unmount', mountPoint, '--timeout', '5s'], options);
    if (code !== 0) await place.run(['unmount', mountPoint, '--force', '--timeout', '0s'], options);
  }
  rmSync(state, { recursive: true });
  return outcome;
}

const traps = ['_tmp', 'packs', 'keys', 'log', 'probe', '_sealdrive', firstIn('log'), firstIn('keys'), ...(skip ? [] : [firstIn('packs')])];
const attacks = {
  link: { trapped: traps, by: Object.keys(commands) },
  fifo: {
    trapped: ['_tmp', 'log', firstIn('log'), '_sealdrive'],
    by: Object.keys(commands).filter((command) => /^(?:doctor|check|mount)$/.test(command)),
  },
} as const;
for (const kind of ['link', 'fifo'] as const) {
  t.test(`no command follows or is blocked by a ${kind} in a store`, async (t) => {
    for (const trapped of attacks[kind].trapped) {
      const trap = setTrap(trapped, kind);
      const before = fingerprint(trap.outside);
      for (const command of attacks[kind].by) {
        const inside = fingerprint(trap.store);
        const { code, stderr } = await attack(trap, command);
        if (fingerprint(trap.outside) !== before) t.fail(`${command} changed what lies elsewhere, through ${trapped}`);
        if (readers.includes(command) && fingerprint(trap.store) !== inside) t.fail(`${command} changed the store with ${trapped}`);
        if (code === exitCodes.UNEXPECTED) t.fail(`${command} took ${trapped} for a defect: ${stderr}`);
        if (/\/proc\/self/.test(stderr)) t.fail(`${command} names a descriptor: ${stderr}`);
      }
      t.pass(trapped);
    }
  });
}

t.test('the error names the trap', async (t) => {
  const { store: copy } = setTrap('keys', 'link');
  const { code, stderr } = await place.run(['key', 'list', copy]);
  t.equal(code, exitCodes.STORE);
  t.match(stderr, `${join(copy, 'keys')} is a symbolic link or a special file, and no link is followed there`);
});

t.test('a marker of any size is read only up to its limit', async (t) => {
  const copy = place.path('huge');
  cpSync(store, copy, { recursive: true });
  execFileSync('truncate', ['-s', '1T', join(copy, '_sealdrive')]);
  t.equal((await place.run(['key', 'list', copy])).code, 0);
  rmSync(join(copy, '_sealdrive'));
  mkdirSync(join(copy, '_sealdrive'));
  const { code, stderr } = await place.run(['key', 'list', copy]);
  t.equal(code, exitCodes.NOT_A_VOLUME, stderr);
});
