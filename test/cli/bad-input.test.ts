/** Bad input of every kind gets one clear line, its exit code, and changes nothing (doc/cli.md, "Exit codes"). */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { FailureCode } from '../../src/terminal/exit-code.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import type { RunOptions } from './command-line.js';
import { fingerprint, programPath, Workplace } from './command-line.js';

/** Starting processes and deriving keys take time. */
t.setTimeout(600_000);
const place = new Workplace();
t.teardown(() => place.remove());
const { store, keyFile } = await place.makeVolume();
const mountPoint = place.makeFolder('mnt');

type Assertions = Pick<typeof t, 'equal' | 'match'>;

/**
 * Runs a command, and checks its exit code, that its output is one line that matches `says`, and that `untouched` is
 * unchanged.
 */
async function refuses(
  t: Assertions,
  words: readonly string[],
  code: FailureCode,
  says: RegExp,
  options: RunOptions = {},
  untouched = store,
): Promise<void> {
  const before = fingerprint(untouched);
  const outcome = await place.run(words, options);
  t.equal(outcome.code, exitCodes[code], `${words[0]} ends with ${code}: ${outcome.stderr}`);
  t.match(outcome.stderr, /^sealdrive: [^\n]+\n$/, 'one line');
  t.match(outcome.stderr, says);
  t.equal(fingerprint(untouched), before, 'nothing changed');
}

const mountWith = (at: string, ...more: string[]): string[] => ['mount', store, at, '--key-file', keyFile, ...more];

/** Why private namespaces cannot be made here, or false. */
function namespaceSkip(): string | false {
  try {
    execFileSync('unshare', ['--mount', 'true'], { stdio: 'ignore' });
    return false;
  } catch {
    return 'needs root and unshare(1)';
  }
}

t.test('a wrong key file, or a passphrase without a keyslot, is reported', async (t) => {
  const other = place.path('other.key');
  writeFileSync(other, Buffer.alloc(64, 7), { mode: 0o600 });
  await refuses(t, ['mount', store, mountPoint, '--key-file', other], 'LOCKED', /wrong key file/);
  await refuses(t, ['mount', store, mountPoint, '--passphrase-fd', '3'], 'LOCKED', /no keyslot for a passphrase/, { secret: 'x' });
});

t.test('a wrong passphrase is reported', async (t) => {
  const words = ['key', 'add', store, '--key-file', keyFile, '--new-passphrase-fd', '4'];
  await place.succeed(words, { newSecret: 'the right one' });
  await refuses(t, ['mount', store, mountPoint, '--passphrase-fd', '3'], 'LOCKED', /wrong passphrase/, { secret: 'the wrong one' });
});

t.test('a store without a volume is reported', async (t) => {
  await refuses(t, ['mount', place.path('nowhere'), mountPoint, '--key-file', keyFile], 'NOT_A_VOLUME', /nowhere/);
  const empty = place.makeFolder('empty');
  await refuses(t, ['mount', empty, mountPoint, '--key-file', keyFile], 'NOT_A_VOLUME', /sealdrive init/, {}, empty);
  writeFileSync(join(empty, 'letter.txt'), 'dear reader');
  await refuses(t, ['mount', empty, mountPoint, '--key-file', keyFile], 'NOT_A_VOLUME', /no Sealdrive store/, {}, empty);
  await refuses(t, ['mount', join(empty, 'letter.txt'), mountPoint, '--key-file', keyFile], 'NOT_A_VOLUME', /not a directory/, {}, empty);
});

t.test('init refuses a place that is not empty', async (t) => {
  await refuses(t, ['init', store, '--passphrase-fd', '3'], 'NOT_A_VOLUME', /holds a volume already/, { secret: 'x' });
  const full = place.makeFolder('full');
  writeFileSync(join(full, 'letter.txt'), 'dear reader');
  await refuses(t, ['init', full, '--passphrase-fd', '3'], 'NOT_A_VOLUME', /holds other files/, { secret: 'x' }, full);
  await refuses(t, ['init', place.path('no', 'parent'), '--passphrase-fd', '3'], 'NOT_A_VOLUME', /there is no directory/, { secret: 'x' });
});

t.test('a volume of a newer format is refused', async (t) => {
  const newer = place.path('newer');
  cpSync(store, newer, { recursive: true });
  for (const name of readdirSync(join(newer, 'keys'))) {
    const path = join(newer, 'keys', name);
    const bytes = readFileSync(path);
    bytes.write('SDSLOT02', 0, 'latin1');
    writeFileSync(path, bytes);
  }
  await refuses(t, ['mount', newer, mountPoint, '--key-file', keyFile], 'NEWER_FORMAT', /newer Sealdrive/, {}, newer);
});

t.test('the message about a damaged object names the failed check', async (t) => {
  const damaged = place.path('damaged');
  for (const [index, sequence] of ['0000000000000000', '0000000000000001'].entries()) {
    cpSync(store, damaged, { recursive: true });
    const name = readdirSync(join(damaged, 'log')).find((file) => file.startsWith(sequence));
    if (name === undefined) throw new Error(`there is no commit ${sequence}`);
    const path = join(damaged, 'log', name);
    const bytes = readFileSync(path);
    bytes[bytes.length - 20]! ^= 1;
    writeFileSync(path, bytes);
    const words = ['mount', damaged, mountPoint, '--key-file', keyFile, '--state-dir', place.path(`damaged-state-${index}`)];
    await refuses(t, words, 'INTEGRITY', /commit|genesis|volume/, {}, damaged);
    rmSync(damaged, { recursive: true });
  }
});

t.test('a truncated keyslot is reported', async (t) => {
  const damaged = place.path('slots');
  cpSync(store, damaged, { recursive: true });
  for (const name of readdirSync(join(damaged, 'keys'))) truncateSync(join(damaged, 'keys', name), 100);
  await refuses(t, ['mount', damaged, mountPoint, '--key-file', keyFile], 'INTEGRITY', /keyslot/, {}, damaged);
});

t.test('a mount point that is missing, not a directory, not empty, busy or a parent of the store is refused', async (t) => {
  await refuses(t, mountWith(place.path('missing')), 'MOUNT_POINT', /mkdir/);
  await refuses(t, mountWith(place.path('no', 'parent')), 'MOUNT_POINT', /there is no directory/);
  await refuses(t, mountWith(keyFile), 'MOUNT_POINT', /not a directory/);
  await refuses(t, mountWith(store), 'MOUNT_POINT', /not empty/);
  await refuses(t, mountWith('/proc'), 'MOUNT_POINT', /in use/);
  await refuses(t, mountWith(place.makeFolder('mnt'), '--state-dir', place.path('mnt', 'state')), 'MOUNT_POINT', /state directory/);
});

t.test('a mount point that is a link stands for its target directory', async (t) => {
  symlinkSync(mountPoint, place.path('link'));
  await place.succeed(mountWith(place.path('link')));
  t.match(await place.succeed(['status', mountPoint]), new RegExp(mountPoint));
  await place.succeed(['unmount', place.path('link')]);
});

t.test('a second mount of the same state, or at the same place, is refused', async (t) => {
  const second = place.makeFolder('second');
  await place.succeed(mountWith(mountPoint));
  t.teardown(() => place.succeed(['unmount', mountPoint]));
  await refuses(t, mountWith(second), 'IN_USE', /mounted already/, {}, second);
  await refuses(t, mountWith(mountPoint, '--state-dir', place.path('elsewhere')), 'IN_USE', /mounted already/, {}, second);
  // The registry is a hint: the lock of the state directory works without it.
  const words = mountWith(second, '--state-dir', place.path('state', 'sealdrive'));
  await refuses(t, words, 'IN_USE', /in use by another mount/, { env: { XDG_STATE_HOME: place.makeFolder('blind') } }, second);
});

t.test('a state directory that is open to others or cannot be made is refused', async (t) => {
  const open = place.makeFolder('open-state');
  chmodSync(open, 0o755);
  await refuses(t, mountWith(mountPoint, '--state-dir', open), 'LOCAL_DISK', /chmod 700/);
  await refuses(t, mountWith(mountPoint, '--state-dir', join(keyFile, 'state')), 'LOCAL_DISK', /cannot be made/);
});

t.test('a store that is read-only or full is reported', { skip: namespaceSkip() }, async (t) => {
  const inside = (script: string): readonly string[] => ['unshare', '--mount', 'sh', '-ec', `${script}; exec "$@"`, 'sh'];
  const readOnly = place.makeFolder('read-only');
  const noWrites = inside(`mount -t tmpfs -o ro none ${readOnly}`);
  await refuses(t, ['init', readOnly, '--passphrase-fd', '3'], 'STORE', /takes no writes/, { secret: 'x', wrapper: noWrites });
  const small = place.makeFolder('small');
  const noRoom = inside(`mount -t tmpfs -o size=16k none ${small}; head -c 16384 /dev/zero > ${small}/lost+found || true`);
  const outcome = await place.run(['init', small, '--key-file', keyFile, '--no-recovery'], { wrapper: noRoom });
  t.equal(outcome.code, exitCodes.STORE, outcome.stderr);
  t.match(outcome.stderr, /make room/);
});

t.test('a full local disk is reported', { skip: namespaceSkip() }, async (t) => {
  const state = place.makeFolder('small-state');
  const script = `mount -t tmpfs -o size=16k,mode=700 none ${state}; head -c 16384 /dev/zero > ${state}/filler || true; exec "$@"`;
  const wrapper = ['unshare', '--mount', 'sh', '-ec', script, 'sh'];
  await refuses(t, mountWith(mountPoint, '--state-dir', state), 'LOCAL_DISK', /room|space/, { wrapper });
});

/** A private /dev without the devices that a test removes; the program is copied to where any user can read it. */
const withDevices = (...nodes: string[]): string => `mount -t tmpfs -o mode=755 none /dev; mknod -m 666 /dev/null c 1 3; ${nodes.join('; ')}`;

t.test('a missing /dev/fuse is reported', { skip: namespaceSkip() }, async (t) => {
  const wrapper = ['unshare', '--mount', 'sh', '-ec', `${withDevices('true')}; exec "$@"`, 'sh'];
  await refuses(t, mountWith(mountPoint), 'MACHINE', /no \/dev\/fuse/, { wrapper });
  const { code, stdout } = await place.run(['doctor'], { wrapper });
  t.equal(code, exitCodes.MACHINE);
  t.match(stdout, /MISSING there is no \/dev\/fuse\n +-> .*modprobe fuse/);
});

t.test(
  'a missing fusermount3 is reported to a user who needs it',
  { skip: namespaceSkip() || (existsSync('/usr/bin/setpriv') ? false : 'needs setpriv(1)') },
  async (t) => {
    const home = place.makeFolder('nobody');
    chmodSync(place.folder, 0o755);
    cpSync(store, join(home, 'store'), { recursive: true });
    cpSync(keyFile, join(home, 'key'));
    mkdirSync(join(home, 'mnt'));
    execFileSync('chown', ['-R', '65534:65534', home]);
    const script = `${withDevices('mknod -m 666 /dev/fuse c 10 229')}; mount --bind /dev/null /usr/bin/fusermount3; exec "$@"`;
    const wrapper = ['unshare', '--mount', 'sh', '-ec', script, 'sh', 'setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', '--'];
    const env = { HOME: home, XDG_STATE_HOME: home, PATH: '/usr/bin:/bin' };
    if ((await place.run(['--version'], { wrapper, env })).code !== 0) {
      t.comment(`another user cannot read ${programPath}: nothing to see here`);
      return;
    }
    const words = ['mount', join(home, 'store'), join(home, 'mnt'), '--key-file', join(home, 'key')];
    await refuses(t, words, 'MACHINE', /fusermount3.*fuse3/, { wrapper, env });
  },
);
