/** Attacks through the command line and on the machine itself: 6, 7, 23 and 24 of doc/security.md. */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import t from 'tap';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { fingerprint, programPath, Workplace } from '../cli/command-line.js';
import { detach } from '../mount/drive-process.js';
import { whyNoFuse } from '../suite/driver-suite.js';

const place = new Workplace();
t.teardown(() => place.remove());
t.setTimeout(600_000);
const skip = whyNoFuse();
const isRoot = process.getuid?.() === 0;

interface Status {
  readonly pid: number;
  readonly stateDirectory: string;
  readonly details: Readonly<Record<string, Readonly<Record<string, string | number | boolean>>>>;
}

async function statusOf(mountPoint: string): Promise<Status> {
  const { mounts } = JSON.parse(await place.succeed(['status', mountPoint, '--json'])) as { mounts: Status[] };
  return mounts[0]!;
}

/** The forms in which a store or a disk could hold `text`: plain, hex, base64 at any alignment, and UTF-16. */
function disguises(text: string): Buffer[] {
  const raw = Buffer.from(text, 'utf8');
  const base64 = [0, 1, 2].map((shift) => {
    const encoded = Buffer.concat([Buffer.alloc(shift, 0x41), raw])
      .toString('base64')
      .replaceAll('=', '');
    // The characters that depend on neighbours are cut off.
    return encoded.slice(shift === 0 ? 0 : 4, -2);
  });
  const hex = raw.toString('hex');
  const wide = Buffer.from(text, 'utf16le');
  return [raw, Buffer.from(hex), Buffer.from(hex.toUpperCase()), wide, Buffer.from(wide).swap16(), ...base64.map((one) => Buffer.from(one))];
}

/** Files below the folders that contain one of `texts` in any form, in content or name. */
function holders(folders: readonly string[], texts: readonly string[]): string[] {
  const needles = texts.flatMap(disguises);
  const found: string[] = [];
  for (const folder of folders) {
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name);
      const name = Buffer.from(path);
      const bytes = entry.isFile() ? readFileSync(path) : Buffer.alloc(0);
      if (needles.some((needle) => bytes.includes(needle) || name.includes(needle))) found.push(path);
    }
  }
  return found;
}

t.test('6: a keyslot that was removed does not come back on this machine', { skip }, async (t) => {
  const { store, keyFile } = await place.makeVolume('six');
  const second = place.path('six-second.key');
  await place.succeed(['key', 'add', store, '--type', 'key-file', '--new-key-file', second, '--key-file', keyFile]);
  const before = place.path('six-before');
  cpSync(join(store), before, { recursive: true });
  const slots = (JSON.parse(await place.succeed(['key', 'list', store, '--json'])) as { slots: { id: string }[] }).slots;
  const other = [];
  for (const { id } of slots) {
    const removed = await place.run(['key', 'remove', store, id, '--key-file', second]);
    if (removed.code === 0) other.push(id);
  }
  t.equal(other.length, 1, 'one was removed: that of the first key file');
  rmSync(store, { recursive: true });
  renameSync(before, store);
  const back = await place.run(['mount', store, place.makeFolder('six-mnt'), '--key-file', keyFile]);
  t.equal(back.code, exitCodes.LOCKED, 'the store has it again, and it is not opened');
  // A new machine opens it, and reports what it cannot know.
  const elsewhere = { XDG_STATE_HOME: place.path('six-elsewhere') };
  await place.succeed(['mount', store, place.path('six-mnt'), '--key-file', keyFile], { env: elsewhere });
  const { mounts } = JSON.parse(await place.succeed(['status', '--json'], { env: elsewhere })) as { mounts: Status[] };
  t.equal(mounts[0]!.details['freshness']?.['history'], 'unproven');
  await place.succeed(['unmount', place.path('six-mnt')], { env: elsewhere });
});

t.test('7: another volume of the same user is refused in the place of this one, and nothing is written', { skip }, async (t) => {
  const { store, keyFile } = await place.makeVolume('seven');
  const mountPoint = place.makeFolder('seven-mnt');
  await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
  await place.succeed(['unmount', mountPoint]);
  const other = place.path('seven-other');
  await place.succeed(['init', other, '--key-file', keyFile, '--no-recovery']);
  renameSync(store, place.path('seven-away'));
  renameSync(other, store);
  const print = fingerprint(store);
  const swapped = await place.run(['mount', store, mountPoint, '--key-file', keyFile]);
  t.equal(swapped.code, exitCodes.INTEGRITY, swapped.stderr);
  t.match(swapped.stderr, /exchanged/);
  const added = await place.run(['key', 'add', store, '--type', 'key-file', '--new-key-file', place.path('seven-new.key'), '--key-file', keyFile]);
  t.equal(added.code, exitCodes.INTEGRITY, 'no key goes there either');
  t.equal(fingerprint(store), print, 'nothing was written');
  rmSync(store, { recursive: true });
  renameSync(place.path('seven-away'), store);
  await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
  await place.succeed(['unmount', mountPoint]);
});

t.test('23: nothing readable reaches the disk, the store or the log, also after kill -9', { skip }, async (t) => {
  const store = place.path('twenty-three');
  const passphrase = 'Kanarienvogel-passphrase-0';
  const texts = [
    'Kanarienvogel-content-1',
    'Kanarienvogel-name-2',
    'Kanarienvogel-attribute-3',
    'Kanarienvogel-target-4',
    'Kanarienvogel-value-5',
    passphrase,
  ];
  const mountPoint = place.makeFolder('twenty-three-mnt');
  const secret = { secret: passphrase };
  await place.succeed(['init', store, '--passphrase-fd', '3', '--no-recovery'], secret);
  const mount = ['mount', store, mountPoint, '--passphrase-fd', '3', '--debug', '--trace'];
  await place.succeed(mount, secret);
  const { stateDirectory, pid } = await statusOf(mountPoint);
  const folders = [place.path('state'), store];
  mkdirSync(join(mountPoint, 'Kanarienvogel-name-2'));
  const file = join(mountPoint, 'Kanarienvogel-name-2', 'file');
  writeFileSync(file, 'Kanarienvogel-content-1');
  // Small, large, compressible and not.
  writeFileSync(join(mountPoint, 'large'), Buffer.concat([Buffer.alloc(700_000, 'Kanarienvogel-content-1'), Buffer.alloc(10, 'x')]));
  symlinkSync('Kanarienvogel-target-4', join(mountPoint, 'link'));
  const attribute = ['-c', 'import os,sys; os.setxattr(sys.argv[1], b"user.Kanarienvogel-attribute-3", b"Kanarienvogel-value-5")', file];
  t.equal(spawnSync('python3', attribute, { stdio: 'inherit' }).status, 0);
  t.same(holders(folders, texts), [], 'while it is mounted and nothing was flushed');
  await place.succeed(['flush', mountPoint]);
  t.same(holders(folders, texts), [], 'after a flush');
  const proc = (name: string): Buffer => readFileSync(`/proc/${pid}/${name}`);
  for (const name of ['cmdline', 'environ']) t.notOk(proc(name).includes('Kanarienvogel-passphrase'), `the secret is not in ${name}`);
  writeFileSync(join(mountPoint, 'unflushed'), Buffer.alloc(400_000, 'Kanarienvogel-content-1'));
  process.kill(pid, 'SIGKILL');
  for (let tries = 0; existsSync(`/proc/${pid}/exe`) && tries < 200; tries++) await wait(20);
  t.same(holders(folders, texts), [], 'after kill -9');
  t.ok(readdirSync(join(stateDirectory, 'journal')).length > 0, 'a journal was there to look at');
  await place.succeed(mount, secret);
  t.equal(readFileSync(file, 'utf8'), 'Kanarienvogel-content-1');
  await place.succeed(['unmount', mountPoint]);
  t.same(holders(folders, texts), [], 'after the replay');
  t.same(
    holders(folders, ['SDSLOT01']).filter((path) => path.startsWith(store)).length,
    1,
    'the search finds what is there: the magic of the keyslot',
  );
});

t.test('23: a daemon that dies leaves no core dump', { skip }, async (t) => {
  const { store, keyFile } = await place.makeVolume('core');
  const folder = place.makeFolder('core-cwd');
  const dumps = (command: string): boolean =>
    /core dumped/.test(spawnSync('bash', ['-c', `ulimit -c unlimited; ${command}`], { cwd: folder, encoding: 'utf8' }).stderr);
  if (!dumps("bash -c 'kill -ABRT $$'; true")) return t.comment('this machine makes no core dumps that could be looked for');
  const mountPoint = place.makeFolder('core-mnt');
  const child = spawn(
    'bash',
    [
      '-c',
      'ulimit -c unlimited; "$@"; true',
      'bash',
      // tap's hooks, which the program refuses.
      'env',
      '-u',
      'NODE_OPTIONS',
      process.execPath,
      programPath,
      'mount',
      store,
      mountPoint,
      '--key-file',
      keyFile,
      '--foreground',
    ],
    {
      cwd: folder,
      env: { PATH: process.env['PATH'], HOME: place.folder, XDG_STATE_HOME: place.path('state') },
      stdio: ['ignore', 'ignore', 'pipe'],
    },
  );
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  const ended = new Promise((resolve) => child.on('close', resolve));
  for (let tries = 0; !said.includes('Mounted') && tries < 500; tries++) await wait(20);
  process.kill((await statusOf(mountPoint)).pid, 'SIGABRT');
  await ended;
  await detach(mountPoint);
  t.match(said, /Abort/);
  t.notMatch(said, /core dumped/);
  return undefined;
});

t.test(
  '24: other users reach neither the drive nor its socket',
  { skip: skip === false && !isRoot ? 'needs root, to become somebody else' : skip },
  async (t) => {
    const { store, keyFile } = await place.makeVolume('twenty-four');
    const mountPoint = place.makeFolder('twenty-four-mnt');
    chmodSync(place.folder, 0o755);
    await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
    writeFileSync(join(mountPoint, 'open to all'), 'x', { mode: 0o666 });
    chmodSync(mountPoint, 0o777);
    const { stateDirectory } = await statusOf(mountPoint);
    // The test runner's Node.js options are removed, since they write into a folder of its own user.
    const asNobody = (code: string): string =>
      execFileSync('/usr/bin/env', ['-u', 'NODE_OPTIONS', process.execPath, '-e', code], {
        uid: 65534,
        gid: 65534,
        encoding: 'utf8',
        cwd: '/',
        env: {},
      });
    const tryRead = `try { require('fs').readdirSync(${JSON.stringify(mountPoint)}); console.log('in') } catch (e) { console.log(e.code) }`;
    t.match(asNobody(tryRead), /EACCES|EPERM/);
    // Even if the modes of the folder were opened, the kernel tells the daemon who connects.
    chmodSync(stateDirectory, 0o755);
    chmodSync(place.path('state'), 0o755);
    chmodSync(place.path('state', 'sealdrive'), 0o755);
    const socket = join(stateDirectory, 'control.sock');
    const ask = `const s = require('net').connect(${JSON.stringify(socket)}); let got = ''; s.on('connect', () => s.write('{"method":"status"}\\n')); s.on('data', (d) => got += d); s.on('error', (e) => console.log(e.code)); s.on('close', () => console.log('got ' + got.length))`;
    t.match(asNobody(ask), /EACCES/, 'the mode of the socket');
    chmodSync(socket, 0o777);
    t.match(asNobody(ask), /got 0/, 'and who connects');
    chmodSync(place.path('state', 'sealdrive'), 0o700);
    chmodSync(stateDirectory, 0o700);
    chmodSync(socket, 0o600);
    t.ok((await statusOf(mountPoint)).pid > 0, 'its owner is answered');
    await place.succeed(['unmount', mountPoint]);
  },
);
