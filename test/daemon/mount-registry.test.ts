/** The registry of mounts: records of several containers and machines side by side, and which of them are dead. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { Registration, readMountRecords } from '../../src/daemon/mount-registry.js';
import { identifyThisProcess, stateOfProcess } from '../../src/daemon/process-identity.js';
import { scratchDirectory } from '../suite/scratch.js';

const record = { pid: process.pid, mountPoint: '/mnt/a', stateDirectory: '/state', socket: '/state/control.sock', volumeId: 'ab', store: 'memory' };

/** Locks whose holder the test decides. */
const locksWith = (isHeld: boolean): { lockExclusive(fd: number): boolean; isLocked(fd: number): boolean } => ({
  lockExclusive: () => true,
  isLocked: () => isHeld,
});

t.test('two daemons with the same pid have a record each', async (t) => {
  const folder = join(await scratchDirectory(t), 'mounts');
  const one = Registration.add(folder, '01', record, locksWith(true));
  const two = Registration.add(folder, '02', { ...record, mountPoint: '/mnt/b' }, locksWith(true));
  t.strictSame(
    readMountRecords(folder, locksWith(true)).map((found) => [found.record.mountPoint, found.life]),
    [
      ['/mnt/a', 'alive'],
      ['/mnt/b', 'alive'],
    ],
  );
  one.remove();
  t.strictSame(readdirSync(folder), ['02.json'], 'whoever goes takes only its own');
  two.remove();
});

t.test('only a record whose daemon is proved dead is removed', async (t) => {
  const folder = join(await scratchDirectory(t), 'mounts');
  const identity = identifyThisProcess();
  const write = (name: string, process: object, isLocked: boolean): void =>
    writeFileSync(join(folder, name), JSON.stringify({ ...record, process: { ...identity, ...process }, isLocked }));
  const mine = Registration.add(folder, 'aa', record, undefined);
  write('01.json', { startTicks: '1' }, false);
  write('02.json', { pidNamespace: 'pid:[1]' }, false);
  write('03.json', { bootId: 'another machine' }, false);
  write('04.json', {}, false);
  writeFileSync(join(folder, '05.json'), JSON.stringify(record));
  writeFileSync(join(folder, 'notes.txt'), 'hello');
  const lives = readMountRecords(folder, undefined).map(({ life }) => life);
  t.strictSame(lives.toSorted(), ['alive', 'alive', 'alive', 'dead', 'elsewhere', 'unknown']);
  Registration.add(folder, 'bb', record, undefined).remove();
  t.strictSame(readdirSync(folder).toSorted(), ['02.json', '03.json', '04.json', '05.json', 'aa.json', 'notes.txt']);
  mine.remove();
});

t.test('a free lock proves that a daemon is dead, whichever container it was in', async (t) => {
  const folder = join(await scratchDirectory(t), 'mounts');
  const identity = { ...identifyThisProcess(), pidNamespace: 'pid:[1]' };
  const registration = Registration.add(folder, 'aa', record, locksWith(true));
  writeFileSync(join(folder, '01.json'), JSON.stringify({ ...record, process: identity, isLocked: true }));
  t.strictSame(
    readMountRecords(folder, locksWith(true)).map(({ life }) => life),
    ['alive', 'alive'],
  );
  t.strictSame(
    readMountRecords(folder, locksWith(false)).map(({ life }) => life),
    ['dead', 'dead'],
  );
  registration.remove();
});

t.test('a removed record is written again with the current socket', async (t) => {
  const folder = join(await scratchDirectory(t), 'mounts');
  const registration = Registration.add(folder, 'aa', record, undefined);
  t.equal(registration.keep(record.socket), false);
  rmSync(folder, { recursive: true });
  t.equal(registration.keep('/elsewhere.sock'), true);
  t.match(JSON.parse(readFileSync(join(folder, 'aa.json'), 'utf8')), { socket: '/elsewhere.sock', mountPoint: '/mnt/a' });
  registration.remove();
  t.strictSame(readdirSync(folder), []);
});

t.test('a process is distinguished from a later one with the same pid', async (t) => {
  const child = spawn('sleep', ['60']);
  await once(child, 'spawn');
  const startTicks = readFileSync(`/proc/${child.pid}/stat`, 'latin1').split(') ')[1]!.split(' ')[19]!;
  const identity = { ...identifyThisProcess(), pid: child.pid ?? 0, startTicks };
  t.equal(stateOfProcess(identifyThisProcess()), 'running');
  t.not(stateOfProcess(identity), 'gone');
  t.equal(stateOfProcess({ ...identity, startTicks: '1' }), 'gone');
  t.equal(stateOfProcess({ ...identity, bootId: 'x' }), 'elsewhere');
  child.kill('SIGKILL');
  await once(child, 'exit');
  t.equal(stateOfProcess(identity), 'gone');
});
