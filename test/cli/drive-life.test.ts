/** The life of a drive as a user sees it, through the command line and the kernel. */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import type { DaemonStatus } from '../../src/daemon/control-protocol.js';
import { findMount } from '../../src/fuse/mount-table.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { programPath, Workplace } from './command-line.js';

/** Starting processes and deriving keys take time. */
t.setTimeout(600_000);
const place = new Workplace();
t.teardown(() => place.remove());

async function statusOf(mountPoint: string): Promise<DaemonStatus & { readonly stateDirectory: string }> {
  const { mounts } = JSON.parse(await place.succeed(['status', mountPoint, '--json'])) as {
    mounts: (DaemonStatus & { readonly stateDirectory: string })[];
  };
  return mounts[0]!;
}

/** Resolves when the process is gone. */
function ended(pid: number): Promise<void> {
  return new Promise((settle) => {
    const look = (): void => {
      try {
        process.kill(pid, 0);
        setTimeout(look, 20);
      } catch {
        settle();
      }
    };
    look();
  });
}

t.test('everything is there after a drive is created, used, unmounted and mounted again', async (t) => {
  const { store, keyFile } = await place.makeVolume('life');
  const mountPoint = place.makeFolder('life-mnt');
  const mount = ['mount', store, mountPoint, '--key-file', keyFile];
  t.equal(await place.succeed(mount), `Mounted at ${mountPoint}\n`);
  mkdirSync(join(mountPoint, 'letters'));
  writeFileSync(join(mountPoint, 'letters', 'one.txt'), 'dear reader');
  writeFileSync(join(mountPoint, 'large'), Buffer.alloc(3_000_000, 'sealdrive'));
  const status = await statusOf(mountPoint);
  t.equal(status.driver, 'native');
  t.equal(status.statistics.files, 4);
  t.match(await place.succeed(['flush', mountPoint]), /Everything is in the store/);
  t.strictSame((await statusOf(mountPoint)).pending, { operations: 0, files: 0, dirtyBytes: 0, uploadBytes: 0 });
  t.equal(await place.succeed(['unmount', mountPoint]), `Unmounted ${mountPoint}\n`);
  t.strictSame(readdirSync(mountPoint), []);

  // Another device, with nothing but the store and the key.
  await place.succeed([...mount, '--state-dir', place.path('second-state'), '--read-only']);
  t.equal(readFileSync(join(mountPoint, 'letters', 'one.txt'), 'utf8'), 'dear reader');
  t.ok(readFileSync(join(mountPoint, 'large')).equals(Buffer.alloc(3_000_000, 'sealdrive')));
  t.throws(() => writeFileSync(join(mountPoint, 'more'), ''), { code: 'EROFS' });
  await place.succeed(['unmount', mountPoint]);
});

t.test('a passphrase, recovery words and a key file open the same volume, until they are removed', async (t) => {
  const store = place.path('keys');
  const made = JSON.parse(await place.succeed(['init', store, '--passphrase-fd', '3', '--json'], { secret: 'pass' })) as {
    slotId: string;
    recoveryWords: string;
  };
  t.equal(made.recoveryWords.split(' ').length, 24);
  const withWords = ['--recovery', '--passphrase-fd', '3'];
  const add = ['key', 'add', store, '--type', 'key-file', '--new-key-file', place.path('new.key'), ...withWords];
  await place.succeed(add, { secret: made.recoveryWords.toUpperCase() });
  t.equal(statSync(place.path('new.key')).mode & 0o777, 0o600);
  t.equal((await place.succeed(['key', 'list', store])).trim().split('\n').length, 3);

  const own = await place.run(['key', 'remove', store, made.slotId, '--passphrase-fd', '3'], { secret: 'pass' });
  t.equal(own.code, exitCodes.USAGE, 'the slot that was opened cannot be removed');
  await place.succeed(['key', 'remove', store, made.slotId.slice(0, 6), '--key-file', place.path('new.key')]);
  const gone = await place.run(['mount', store, place.makeFolder('keys-mnt'), '--passphrase-fd', '3'], { secret: 'pass' });
  t.equal(gone.code, exitCodes.LOCKED);
});

t.test('an open file stops an unmount, but not with --force', async (t) => {
  const { store, keyFile } = await place.makeVolume('busy');
  const mountPoint = place.makeFolder('busy-mnt');
  await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
  const { pid } = await statusOf(mountPoint);
  const fd = openSync(join(mountPoint, 'open'), 'w');
  const refused = await place.run(['unmount', mountPoint]);
  t.equal(refused.code, exitCodes.MOUNT_POINT);
  t.match(refused.stderr, /^sealdrive: files on the drive are open[^\n]*\n$/);
  t.match(refused.stderr, `(pid ${process.pid})`, 'it names who holds them');
  t.equal((await statusOf(mountPoint)).state, 'serving');
  await place.succeed(['unmount', mountPoint, '--force']);
  // The connection is gone, and the kernel reports this to every process that has a file open.
  try {
    closeSync(fd);
  } catch (error) {
    t.match(error, { code: /ECONNABORTED|ENOTCONN/ });
  }
  await ended(pid);
  t.equal(await findMount(mountPoint), undefined);
});

t.test('a process that only looks at the drive does not stop an unmount', async (t) => {
  const { store, keyFile } = await place.makeVolume('looked-at');
  const mountPoint = place.makeFolder('looked');
  for (let round = 0; round < 3; round++) {
    await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
    const looks = `const fs = require('node:fs'); for (;;) { try { fs.statSync(process.argv[1]); fs.readdirSync(process.argv[1]); fs.statfsSync(process.argv[1]); } catch {} }`;
    const looker = spawn(process.execPath, ['-e', looks, mountPoint], { stdio: 'ignore', cwd: '/' });
    await once(looker, 'spawn');
    const { code, stderr } = await place.run(['unmount', mountPoint]);
    looker.kill('SIGKILL');
    t.equal(code, 0, stderr);
  }
});

t.test('the next mount after kill -9 recovers the mount point and all closed files', async (t) => {
  const { store, keyFile } = await place.makeVolume('crash');
  const mountPoint = place.makeFolder('crash-mnt');
  const mount = ['mount', store, mountPoint, '--key-file', keyFile];
  await place.succeed(mount);
  writeFileSync(join(mountPoint, 'closed'), 'survives');
  const { pid } = await statusOf(mountPoint);
  process.kill(pid, 'SIGKILL');
  await ended(pid);
  const again = await place.run(mount);
  t.equal(again.code, 0, again.stderr);
  t.match(again.stderr, /removed what a dead daemon had left/);
  t.equal(readFileSync(join(mountPoint, 'closed'), 'utf8'), 'survives');
  const { pid: second } = await statusOf(mountPoint);
  process.kill(second, 'SIGKILL');
  await ended(second);
  await place.succeed(['unmount', mountPoint]);
  t.equal(await findMount(mountPoint), undefined);
});

t.test('SIGTERM and an unmount from outside upload everything to the store', async (t) => {
  const { store, keyFile } = await place.makeVolume('signal');
  const mountPoint = place.makeFolder('signal-mnt');
  const mount = ['mount', store, mountPoint, '--key-file', keyFile];
  await place.succeed(mount);
  writeFileSync(join(mountPoint, 'first'), '1');
  const first = await statusOf(mountPoint);
  process.kill(first.pid, 'SIGHUP');
  t.equal((await statusOf(mountPoint)).state, 'serving', 'a closed terminal changes nothing');
  process.kill(first.pid, 'SIGTERM');
  await ended(first.pid);
  t.equal(await findMount(mountPoint), undefined);

  await place.succeed([...mount, '--state-dir', place.path('other-state')]);
  t.equal(readFileSync(join(mountPoint, 'first'), 'utf8'), '1', 'another device sees it');
  writeFileSync(join(mountPoint, 'second'), '2');
  const second = await statusOf(mountPoint);
  execFileSync('umount', [mountPoint]);
  await ended(second.pid);

  await place.succeed(mount);
  // Commits of another device arrive within seconds.
  while (!readdirSync(mountPoint).includes('second')) await new Promise((settle) => setTimeout(settle, 50));
  t.equal(readFileSync(join(mountPoint, 'second'), 'utf8'), '2');
  await place.succeed(['unmount', mountPoint]);
});

t.test('a mount in the foreground stays until it is unmounted, and exits with 0', async (t) => {
  const { store, keyFile } = await place.makeVolume('front');
  const mountPoint = place.makeFolder('front-mnt');
  const running = place.run(['mount', store, mountPoint, '--key-file', keyFile, '--foreground', '--json']);
  while (!(await findMount(mountPoint))) await new Promise((settle) => setTimeout(settle, 50));
  // The mount exists a moment before the daemon is in the registry.
  while ((await place.run(['unmount', mountPoint])).code !== 0) await new Promise((settle) => setTimeout(settle, 50));
  const { code, stdout, stderr } = await running;
  t.equal(code, 0, stderr);
  t.match(JSON.parse(stdout), { mountPoint });
});

t.test('other users reach neither the state nor the socket, and no plaintext name is in the log', async (t) => {
  const { store, keyFile } = await place.makeVolume('private');
  const mountPoint = place.makeFolder('private-mnt');
  await place.succeed(['mount', store, mountPoint, '--key-file', keyFile, '--debug', '--trace']);
  writeFileSync(join(mountPoint, 'canary-in-a-name'), 'canary-in-content');
  const { stateDirectory } = await statusOf(mountPoint);
  t.equal(statSync(stateDirectory).mode & 0o777, 0o700);
  t.equal(statSync(join(stateDirectory, 'control.sock')).mode & 0o777, 0o600);
  await place.succeed(['unmount', mountPoint]);
  for (const folder of [stateDirectory, store]) {
    for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const bytes = readFileSync(join(entry.parentPath, entry.name));
      t.notOk(bytes.includes('canary'), `${entry.name} holds no plaintext`);
      t.equal(folder === stateDirectory ? statSync(join(entry.parentPath, entry.name)).mode & 0o077 : 0, 0, `${entry.name} is private`);
    }
  }
});

t.test('a state directory with a long path still has a control socket', async (t) => {
  const { store, keyFile } = await place.makeVolume('long');
  const mountPoint = place.makeFolder('long-mnt');
  await place.succeed(['mount', store, mountPoint, '--key-file', keyFile, '--state-dir', place.path('long-'.repeat(30))]);
  t.equal((await statusOf(mountPoint)).state, 'serving');
  await place.succeed(['unmount', mountPoint]);
});

const hasScript = ((): boolean => {
  try {
    execFileSync('script', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

t.test('the passphrase is asked for at a terminal and not shown', { skip: hasScript ? false : 'needs script(1)' }, async (t) => {
  const store = place.path('typed');
  const command = `env -u NODE_OPTIONS ${process.execPath} ${programPath} init ${store} --no-recovery`;
  const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    cwd: place.folder,
    env: { PATH: process.env['PATH'], HOME: place.folder, TERM: 'dumb' },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let screen = '';
  let answered = 0;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    screen += text;
    // Typed only at the prompt, with a backspace and a fresh start on the way.
    if (answered === 0 && screen.includes('New passphrase: ')) {
      answered++;
      child.stdin.write('wrong\u0015sesamx\u007fe\r');
    } else if (answered === 1 && screen.includes('Again: ')) {
      answered++;
      child.stdin.write('sesame\r');
    }
  });
  const code = await new Promise((settle) => child.on('close', settle));
  t.equal(code, 0, screen);
  t.notOk(screen.includes('sesam'));
  t.match(screen, /Made volume .*[0-9a-f]{64}/);
  await place.succeed(['key', 'add', store, '--passphrase-fd', '3', '--new-passphrase-fd', '4'], { secret: 'sesame', newSecret: 'two' });
});
