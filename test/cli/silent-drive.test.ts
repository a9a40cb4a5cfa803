/**
 * A drive whose daemon does not answer, has died, or has lost its socket is never reported as not mounted (doc/cli.md,
 * "A drive that does not answer").
 */
import { existsSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { findMount } from '../../src/fuse/mount-table.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { Workplace } from './command-line.js';

/** Starting processes takes time. */
t.setTimeout(600_000);
const skip = existsSync('/dev/fuse') ? false : 'needs /dev/fuse';
const place = new Workplace();
t.teardown(() => place.remove());

interface Drive {
  readonly mountPoint: string;
  readonly store: string;
  readonly keyFile: string;
  readonly pid: number;
  /** The only one in the registry. */
  readonly record: { readonly socket: string; readonly stateDirectory: string };
}

const registry = place.path('state', 'sealdrive', 'mounts');

async function mountDrive(name: string): Promise<Drive> {
  const { store, keyFile } = await place.makeVolume(`${name}-store`);
  const mountPoint = place.makeFolder(name);
  const { pid } = JSON.parse(await place.succeed(['mount', store, mountPoint, '--key-file', keyFile, '--json'])) as { pid: number };
  const [file] = readdirSync(registry).filter((one) => one.endsWith('.json'));
  const record = JSON.parse(readFileSync(join(registry, file!), 'utf8')) as Drive['record'];
  return { mountPoint, store, keyFile, pid, record };
}

t.test('every command reports a stopped daemon with a code of its own, and none hangs', { skip }, async (t) => {
  const { mountPoint, store, keyFile, pid } = await mountDrive('stopped');
  writeFileSync(join(mountPoint, 'file'), 'not in the store yet');
  symlinkSync(mountPoint, place.path('link'));
  process.kill(pid, 'SIGSTOP');
  const commands = [
    ['status'],
    ['status', '--wait'],
    ['status', mountPoint],
    ['status', join(mountPoint, 'file')],
    ['status', join(place.path('link'), 'file')],
    ['flush'],
    ['flush', mountPoint],
    ['limit'],
    ['pin', join(mountPoint, 'file')],
    ['unpin', join(mountPoint, 'file')],
    ['pin', '--list'],
    ['unmount', mountPoint],
    ['unmount', place.path('link')],
    ['mount', store, mountPoint, '--key-file', keyFile],
    ['repair', store, '--key-file', keyFile, '--yes'],
  ];
  const outcomes = await Promise.all(commands.map(async (words) => [words, await place.run(words)] as const));
  for (const [words, { code, stdout, stderr }] of outcomes) {
    const isRepair = words[0] === 'repair';
    t.equal(code, isRepair ? exitCodes.IN_USE : exitCodes.NO_ANSWER, words.join(' '));
    t.notMatch(stdout, /Nothing is|nothing is mounted/, words.join(' '));
    if (!isRepair) t.match(stdout + stderr, `kill -CONT ${pid}`, `${words.join(' ')} says what to do`);
  }
  const { code, stdout } = await place.run(['status', '--json']);
  t.equal(code, exitCodes.NO_ANSWER);
  t.match(JSON.parse(stdout), { mounts: [], silent: [{ mountPoint, pid, isDead: false }] });

  const forced = await place.run(['unmount', mountPoint, '--force']);
  t.equal(forced.code, exitCodes.NO_ANSWER);
  t.match(forced.stderr, `kill -9 ${pid}`);
  t.equal(await findMount(mountPoint), undefined, 'it is detached');
  t.equal((await place.run(['status', '--wait'])).code, exitCodes.NO_ANSWER, 'the process is still there, with what is not in the store');

  process.kill(pid, 'SIGCONT');
  for (let tries = 0; tries < 600 && existsSync(`/proc/${pid}`); tries++) await place.succeed(['--version']);
  t.match(await place.succeed(['status', '--wait']), /Nothing is mounted/, 'it went on, brought everything to the store, and ended');
  await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
  t.equal(readFileSync(join(mountPoint, 'file'), 'utf8'), 'not in the store yet');
  await place.succeed(['unmount', mountPoint]);
});

t.test('status reports a dead daemon until its mount is removed', { skip }, async (t) => {
  const { mountPoint, store, keyFile, pid } = await mountDrive('dead');
  writeFileSync(join(mountPoint, 'file'), 'closed');
  process.kill(pid, 'SIGKILL');
  for (const words of [['status'], ['status', '--wait'], ['flush'], ['status', mountPoint]]) {
    const { code, stdout, stderr } = await place.run(words);
    t.equal(code, exitCodes.NO_ANSWER, words.join(' '));
    t.match(stdout + stderr, /has died: mount again/, words.join(' '));
  }
  await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
  t.equal(readFileSync(join(mountPoint, 'file'), 'utf8'), 'closed');
  await place.succeed(['unmount', mountPoint]);
  t.match(await place.succeed(['status']), /Nothing is mounted/);
});

t.test('silent connections do not shut out others', { skip }, async (t) => {
  const { mountPoint, record } = await mountDrive('crowded');
  const idle: Socket[] = [];
  for (let count = 0; count < 60; count++) {
    const socket = connect(record.socket).on('error', () => {});
    await new Promise<void>((resolve) => socket.once('connect', resolve));
    idle.push(socket);
  }
  t.match(JSON.parse(await place.succeed(['status', '--json'])), { mounts: [{ mountPoint }] });
  await place.succeed(['flush']);
  await place.succeed(['unmount', mountPoint]);
  for (const socket of idle) socket.destroy();
});

t.test('a removed socket or record is made again', { skip }, async (t) => {
  const { mountPoint, record } = await mountDrive('unlisted');
  rmSync(record.socket);
  t.match(JSON.parse(await place.succeed(['status', '--json'])), { mounts: [{ mountPoint }] }, 'without its socket');
  rmSync(registry, { recursive: true });
  t.match(JSON.parse(await place.succeed(['status', '--json'])), { mounts: [{ mountPoint }] }, 'without its record');
  await place.succeed(['unmount', mountPoint]);
  t.match(await place.succeed(['status']), /Nothing is mounted/);
});
