/** The native addon by itself: its functions besides mounting, and closing at a bad moment. */

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import * as fs from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import t from 'tap';
import { addonCandidates, loadNative } from '../../src/fuse/native.js';
import { whyNoFuse } from '../suite/driver-suite.js';

const run = promisify(execFile);
const skip = process.platform === 'linux' ? false : 'the addon is for Linux';
const mountSkip = whyNoFuse();
const unprivilegedSkip =
  mountSkip ||
  (process.getuid?.() === 0 && existsSync('/usr/bin/setpriv') && existsSync('/usr/bin/fusermount3') ? false : 'needs root, setpriv and fusermount3');

const descriptorOf = (socket: Socket): number => (socket as unknown as { _handle: { fd: number } })._handle.fd;

void t.test('a prebuilt addon is preferred to one that was built here', async (t) => {
  t.same(addonCandidates('/root', 'linux', 'x64'), ['/root/native/prebuilds/linux-x64/sealdrive.node', '/root/native/build/Release/sealdrive.node']);
});

void t.test('data in the page cache is read at once, and only such data', { skip }, async (t) => {
  const folder = await fs.mkdtemp(join(tmpdir(), 'sealdrive-native-'));
  t.teardown(() => fs.rm(folder, { recursive: true }));
  const file = await fs.open(join(folder, 'file'), 'w+');
  await file.write(Buffer.from('0123456789'));
  const native = loadNative();
  const target = Buffer.alloc(4);
  const count = native.readNow(file.fd, target, 3);
  // Some filesystems cannot tell.
  t.ok(count === -1 || (count === 4 && target.toString() === '3456'), `${count}`);
  t.equal(native.readNow(-1, target, 0), -1);
  t.throws(() => native.readNow(file.fd, [] as unknown as Uint8Array, 0), TypeError);
  await file.close();
});

void t.test('an exclusive lock is held by one open file at a time', { skip }, async (t) => {
  const folder = await fs.mkdtemp(join(tmpdir(), 'sealdrive-native-'));
  t.teardown(() => fs.rm(folder, { recursive: true }));
  const [one, two] = [await fs.open(join(folder, 'lock'), 'w'), await fs.open(join(folder, 'lock'), 'w')];
  const native = loadNative();
  t.equal(native.lockExclusive(one.fd), true);
  t.equal(native.lockExclusive(one.fd), true, 'again by the same is fine');
  t.equal(native.lockExclusive(two.fd), false);
  t.equal(native.isLocked(two.fd), true);
  await one.close();
  t.equal(native.isLocked(two.fd), false);
  t.equal(native.lockExclusive(two.fd), true);
  await two.close();
  t.throws(() => native.lockExclusive(-1), { code: 'EBADF' });
});

void t.test('the peer of a Unix socket is known', { skip }, async (t) => {
  const folder = await fs.mkdtemp(join(tmpdir(), 'sealdrive-native-'));
  t.teardown(() => fs.rm(folder, { recursive: true }));
  const server = createServer().listen(join(folder, 'socket'));
  await once(server, 'listening');
  const client = connect(join(folder, 'socket'));
  const [accepted] = (await once(server, 'connection')) as [Socket];
  t.same(loadNative().peerCredentials(descriptorOf(accepted)), { pid: process.pid, uid: process.getuid?.(), gid: process.getgid?.() });
  client.destroy();
  accepted.destroy();
  server.close();
});

void t.test('systemd is notified over its socket, or not at all', { skip }, async (t) => {
  const folder = await fs.mkdtemp(join(tmpdir(), 'sealdrive-native-'));
  t.teardown(() => fs.rm(folder, { recursive: true }));
  const native = loadNative();
  delete process.env['NOTIFY_SOCKET'];
  t.equal(native.notifySystemd('READY=1'), false);
  const path = join(folder, 'notify');
  const listener = spawn('python3', [
    '-c',
    'import socket,sys; s=socket.socket(socket.AF_UNIX,socket.SOCK_DGRAM); s.bind(sys.argv[1]); print("bound",flush=True); print(s.recv(100).decode())',
    path,
  ]);
  await once(listener.stdout, 'data');
  process.env['NOTIFY_SOCKET'] = path;
  t.equal(native.notifySystemd('READY=1'), true);
  let heard = '';
  for await (const chunk of listener.stdout) heard += String(chunk);
  t.match(heard, /^\s*READY=1\s*$/);
  delete process.env['NOTIFY_SOCKET'];
});

void t.test('a process can refuse to be dumped', { skip }, async (t) => {
  const script = `
    const native = process.argv[1];
    require(native).setDumpable(false);
    console.log(require('fs').readFileSync('/proc/self/limits', 'utf8').match(/Max core file size +(\\d+)/)[1]);
  `;
  const addon = addonCandidates(join(import.meta.dirname, '..', '..', '..'), process.platform, process.arch).find((path) => existsSync(path));
  t.equal((await run(process.execPath, ['-e', script, String(addon)])).stdout, '0\n');
});

void t.test('a worker that ends while its mount is busy ends its session without a crash', { skip: mountSkip }, async (t) => {
  const path = await fs.mkdtemp(join(tmpdir(), 'sealdrive-driver-'));
  const worker = new Worker(join(import.meta.dirname, 'memory-daemon.js'), { argv: [path], stdout: true });
  await once(worker.stdout, 'data');
  await fs.writeFile(join(path, 'x'), 'content');
  const handle = await fs.open(join(path, 'x'));
  const reading = Promise.allSettled(Array.from({ length: 50 }, () => fs.stat(join(path, 'x'))));
  t.equal(await worker.terminate(), 1);
  await reading;
  // The descriptor is closed by the loop that ends with the worker, a moment after the worker is called ended.
  let said: string | undefined;
  for (let tries = 0; tries < 200 && said !== 'ENOTCONN'; tries++) {
    said = await fs.readdir(path).then(
      () => 'answered',
      (error: NodeJS.ErrnoException) => error.code,
    );
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  t.equal(said, 'ENOTCONN', 'the connection is aborted');
  await handle.close().catch(() => {});
  await run('umount', ['-l', path]);
  await fs.rmdir(path);
});

void t.test('an ordinary user mounts through fusermount3', { skip: unprivilegedSkip }, async (t) => {
  const folder = await fs.mkdtemp(join(tmpdir(), 'sealdrive-driver-'));
  t.teardown(() => fs.rm(folder, { recursive: true }));
  await fs.chmod(folder, 0o755);
  await fs.mkdir(join(folder, 'mount'));
  await fs.chown(join(folder, 'mount'), 65534, 65534);
  // A private namespace, in which everybody may open the device.
  const script = `
    set -e
    mount -t tmpfs none "$1"
    mknod -m 666 "$1/fuse" c 10 229
    mount --bind "$1/fuse" /dev/fuse
    exec setpriv --reuid 65534 --regid 65534 --clear-groups "$2" "$3" "$4" "$5"
  `;
  await fs.mkdir(join(folder, 'device'));
  const inner = `
    const [daemon, path] = process.argv.slice(2);
    const { spawn } = require('child_process'), fs = require('fs/promises');
    const child = spawn(process.execPath, [daemon, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    child.stdout.once('data', async () => {
      await fs.writeFile(path + '/x', 'content');
      const table = await fs.readFile('/proc/self/mountinfo', 'utf8');
      console.log(process.getuid(), await fs.readFile(path + '/x', 'utf8'), /fuse\\.sealdrive.*user_id=65534/.test(table));
      child.kill('SIGTERM');
      child.once('exit', (code) => console.log('exit', code));
    });
  `;
  await fs.writeFile(join(folder, 'inner.cjs'), inner);
  const { stdout } = await run('unshare', [
    '-m',
    'sh',
    '-c',
    script,
    'sh',
    join(folder, 'device'),
    process.execPath,
    join(folder, 'inner.cjs'),
    join(import.meta.dirname, 'memory-daemon.js'),
    join(folder, 'mount'),
  ]);
  t.equal(stdout, '65534 content true\nexit 0\n');
});
