/** Access times: the rules of mount(8), no uploads for mere reading, and times that outlive the daemon. */
import t, { type Test } from 'tap';
import { type Clock, systemClock } from '../../src/base/clock.js';
import { type Ino, rootIno } from '../../src/meta/key.js';
import { AccessTimes } from '../../src/vfs/access-time.js';
import type { AccessTimePolicy } from '../../src/vfs/access-time-policy.js';
import type { Caller } from '../../src/vfs/caller.js';
import { Filesystem } from '../../src/vfs/filesystem.js';
import type { OpenVolume } from '../../src/volume/open-volume.js';
import { scratchDirectory } from '../suite/scratch.js';
import { createTestRealm, openTestVolume, type TestRealm } from '../suite/test-volume.js';

const user: Caller = { uid: 1000, gid: 100, umask: 0o022, signal: new AbortController().signal };
const old = { sec: 1_000_000, nsec: 5 };
const daySec = 86_400;

/** The system clock, ahead by the simulated waits. */
class LateClock implements Clock {
  #aheadSec = 0;
  now(): ReturnType<Clock['now']> {
    const { sec, nsec } = systemClock.now();
    return { sec: sec + this.#aheadSec, nsec };
  }
  monotonicMs(): number {
    return systemClock.monotonicMs();
  }
  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return systemClock.sleep(delayMs, signal);
  }
  pass(sec: number): void {
    this.#aheadSec += sec;
  }
}

interface Drive {
  readonly realm: TestRealm;
  readonly clock: LateClock;
  readonly volume: OpenVolume;
  readonly fs: Filesystem;
  readonly inos: readonly Ino[];
  readonly stateDirectory: string;
  /** The number of commits when everything was in the store. */
  readonly commits: number;
}

/** Files with old access times, all of them in the store. */
async function drive(t: Test, count: number, policy: AccessTimePolicy = 'lazy'): Promise<Drive> {
  const realm = await createTestRealm();
  const clock = new LateClock();
  const stateDirectory = await scratchDirectory(t);
  const volume = await openTestVolume(t, realm, { clock, stateDirectory });
  const fs = new Filesystem(volume, { accessTimes: { policy } });
  const inos: Ino[] = [];
  for (let i = 0; i < count; i++) {
    const { ino } = await fs.mknod(user, rootIno, `file-${i}`, 0o100644, 0);
    await fs.write(user, ino, 0, Buffer.from('content'), false);
    await fs.setattr(ino, { atime: old });
    inos.push(ino);
  }
  await volume.flush();
  return { realm, clock, volume, fs, inos, stateDirectory, commits: await commitsIn(realm) };
}

async function commitsIn(realm: TestRealm): Promise<number> {
  let count = 0;
  for await (const _ of realm.store.list('log/')) count++;
  return count;
}

t.test('reading updates the access time at once, without an operation or a commit', async (t) => {
  const { realm, volume, fs, inos, commits } = await drive(t, 50);
  const before = volume.now();
  for (const ino of inos) await fs.read(user, ino, 0, 100);
  for (const ino of inos) t.ok((await fs.getattr(ino)).atime.sec >= before.sec);
  t.equal(volume.pending().operations, 0);
  await volume.flush();
  t.equal(await commitsIn(realm), commits);
  const listed: number[] = [];
  await fs.readdir(rootIno, 0, true, ({ attributes }) => (attributes && listed.push(attributes.atime.sec), true));
  t.ok(
    listed.every((sec) => sec >= before.sec),
    'listings show the same',
  );
  t.ok(listed.length >= 16);
});

t.test('directories and symbolic links have access times too', async (t) => {
  const { volume, fs } = await drive(t, 0);
  const { ino: directory } = await fs.mkdir(user, rootIno, 'd', 0o755);
  const { ino: link } = await fs.symlink(user, rootIno, 'l', 'target');
  const before = volume.now();
  for (const ino of [directory, link]) await fs.setattr(ino, { atime: old });
  await fs.readdir(directory, 0, false, () => true);
  await fs.readlink(link);
  for (const ino of [directory, link]) t.ok((await fs.getattr(ino)).atime.sec >= before.sec);
});

t.test('a second read updates the access time only after a change or a day', async (t) => {
  const { clock, fs, inos } = await drive(t, 1);
  const [ino] = inos;
  await fs.read(user, ino!, 0, 1);
  const { atime: first } = await fs.getattr(ino!);
  clock.pass(3600);
  await fs.read(user, ino!, 0, 1);
  t.same((await fs.getattr(ino!)).atime, first);
  await fs.write(user, ino!, 0, Buffer.from('x'), false);
  clock.pass(2);
  await fs.read(user, ino!, 0, 1);
  const { atime: second } = await fs.getattr(ino!);
  t.ok(second.sec >= first.sec + 3600);
  clock.pass(daySec + 10);
  await fs.read(user, ino!, 0, 1);
  t.ok((await fs.getattr(ino!)).atime.sec >= second.sec + daySec);
});

t.test('the access time is stored with the next change of the same inode, and with no other', async (t) => {
  const { realm, volume, fs, inos } = await drive(t, 2);
  for (const ino of inos) await fs.read(user, ino, 0, 1);
  const { atime } = await fs.getattr(inos[0]!);
  await fs.setattr(inos[0]!, { mode: 0o600 });
  await volume.flush();
  const other = new Filesystem(await openTestVolume(t, realm));
  t.same((await other.getattr(inos[0]!)).atime, atime);
  t.same((await other.getattr(inos[1]!)).atime, old);
});

/** The files as another device sees them. */
async function seenElsewhere(t: Test, realm: TestRealm, inos: readonly Ino[]): Promise<number[]> {
  const other = new Filesystem(await openTestVolume(t, realm));
  return Promise.all(inos.map(async (ino) => (await other.getattr(ino)).atime.sec));
}

t.test('access times alone are not stored by default, neither after a day nor at the unmount', async (t) => {
  const { realm, clock, volume, fs, inos, commits } = await drive(t, 20);
  const nothing = { operations: 0, files: 0, dirtyBytes: 0, uploadBytes: 0 };
  for (const ino of inos) await fs.read(user, ino, 0, 1);
  await fs.stop();
  t.same(volume.pending(), nothing);
  await volume.flush();
  t.equal(await commitsIn(realm), commits);
  // From here on there may be a heartbeat commit.
  clock.pass(daySec + 1);
  for (const ino of inos) await fs.read(user, ino, 0, 1);
  await fs.stop();
  t.same(volume.pending(), nothing);
  await volume.flush();
  t.same(
    await seenElsewhere(t, realm, inos),
    inos.map(() => old.sec),
  );
});

t.test('access times are kept on this machine from one mount to the next', async (t) => {
  const { realm, volume, fs, inos, stateDirectory } = await drive(t, 5);
  const [read, unread] = [inos.slice(1), inos[0]];
  for (const ino of read) await fs.read(user, ino, 0, 1);
  const times = await Promise.all(read.map(async (ino) => (await fs.getattr(ino)).atime));
  await fs.stop();
  await volume.close();
  const again = new Filesystem(await openTestVolume(t, realm, { stateDirectory }));
  await again.start();
  t.same(await Promise.all(read.map(async (ino) => (await again.getattr(ino)).atime)), times);
  t.same((await again.getattr(unread!)).atime, old);
  await again.setattr(read[0]!, { atime: old });
  t.same((await again.getattr(read[0]!)).atime, old);
});

t.test('access times are saved to disk once an hour, in case the daemon is killed', async (t) => {
  const { clock, volume, fs, inos } = await drive(t, 2);
  const saved: Promise<void>[] = [];
  const { save } = volume.accessTimes;
  volume.accessTimes.save = (noted) => (saved.push(save(noted)), saved[0]!);
  await fs.read(user, inos[0]!, 0, 1);
  t.same(saved, []);
  clock.pass(3601);
  await fs.read(user, inos[1]!, 0, 1);
  await new Promise(setImmediate);
  t.equal(saved.length, 1);
  await saved[0];
  t.equal((await volume.accessTimes.load()).length, 2);
});

t.test('an unreadable or unwritable list of access times does no harm', async (t) => {
  const { volume, fs, inos } = await drive(t, 1);
  volume.accessTimes.load = () => Promise.reject(new Error('no disk'));
  volume.accessTimes.save = () => Promise.reject(new Error('no disk'));
  await fs.start();
  await fs.read(user, inos[0]!, 0, 1);
  await fs.stop();
  t.ok((await fs.getattr(inos[0]!)).atime.sec > old.sec);
});

t.test('relatime stores access times when the drive is unmounted', async (t) => {
  const { realm, volume, fs, inos } = await drive(t, 3, 'relatime');
  for (const ino of inos) await fs.read(user, ino, 0, 1);
  const times = await Promise.all(inos.map(async (ino) => (await fs.getattr(ino)).atime.sec));
  await fs.stop();
  await volume.flush();
  t.same(await seenElsewhere(t, realm, inos), times);
});

t.test('relatime stores all access times a day after the last time, in one commit', async (t) => {
  const { realm, clock, volume, fs, inos, commits } = await drive(t, 20, 'relatime');
  for (const ino of inos.slice(1)) await fs.read(user, ino, 0, 1);
  clock.pass(daySec + 1);
  t.equal(volume.pending().operations, 0);
  await fs.read(user, inos[0]!, 0, 1);
  await fs.stop();
  await volume.flush();
  t.ok((await seenElsewhere(t, realm, inos)).every((sec) => sec > old.sec));
  t.equal(await commitsIn(realm), commits + 1 + 1, 'one commit, and the enrolment of the other device');
});

t.test('strictatime updates the access time at each read', async (t) => {
  const { clock, fs, inos } = await drive(t, 1, 'strictatime');
  const times: number[] = [];
  for (let i = 0; i < 3; i++) {
    clock.pass(1);
    t.equal(await fs.readMovesTime(inos[0]!), true);
    await fs.read(user, inos[0]!, 0, 1);
    times.push((await fs.getattr(inos[0]!)).atime.sec);
  }
  t.ok(times[0]! < times[1]! && times[1]! < times[2]!, String(times));
});

t.test('nodiratime keeps the access time of a listed folder', async (t) => {
  const { volume, inos } = await drive(t, 1);
  const fs = new Filesystem(volume, { accessTimes: { keepsFolders: true } });
  const { ino } = await fs.mkdir(user, rootIno, 'd', 0o755);
  await fs.setattr(ino, { atime: old });
  await fs.readdir(ino, 0, false, () => true);
  t.same((await fs.getattr(ino)).atime, old);
  await fs.read(user, inos[0]!, 0, 1);
  t.ok((await fs.getattr(inos[0]!)).atime.sec > old.sec, 'reading a file moves its own');
});

t.test('an access time that is set overrides earlier reads', async (t) => {
  const { realm, volume, fs, inos } = await drive(t, 1);
  await fs.read(user, inos[0]!, 0, 1);
  await fs.setattr(inos[0]!, { atime: old });
  t.same((await fs.getattr(inos[0]!)).atime, old);
  await fs.stop();
  await volume.flush();
  const other = new Filesystem(await openTestVolume(t, realm));
  t.same((await other.getattr(inos[0]!)).atime, old);
});

t.test('the number of access times kept, and written at a time, is bounded', async (t) => {
  const { volume, fs, inos } = await drive(t, 10);
  const times = new AccessTimes(volume, { policy: 'relatime', keptMax: 6, writtenMax: 4 });
  const inodes = await volume.read((view) => inos.map((ino) => volume.inode(view, ino)));
  for (const [i, ino] of inos.entries()) times.note(ino, inodes[i]!);
  t.same(
    inos.map((ino, i) => times.noted(ino, inodes[i]!) !== undefined),
    inos.map((_, i) => i >= 4),
    'the first noted are forgotten',
  );
  await times.keep();
  const written = await Promise.all(inos.map(async (ino) => (await fs.getattr(ino)).atime.sec > old.sec));
  t.same(
    written,
    inos.map((_, i) => i >= 6),
    'the last noted are written',
  );
});

t.test('a removed file does no harm, and noatime records nothing', async (t) => {
  const { volume, fs, inos } = await drive(t, 2);
  await fs.read(user, inos[0]!, 0, 1);
  await fs.unlink(rootIno, 'file-0');
  fs.forget(inos[0]!);
  await fs.stop();
  const quiet = new Filesystem(volume, { accessTimes: { policy: 'noatime' } });
  await quiet.read(user, inos[1]!, 0, 1);
  t.same((await quiet.getattr(inos[1]!)).atime, old);
});

t.test('access times are not written while the drive is offline, so that an unmount does not wait', async (t) => {
  const { volume, inos } = await drive(t, 1);
  const away = new Proxy(volume, {
    get(target, name) {
      if (name === 'isOffline') return true;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  const fs = new Filesystem(away, { accessTimes: { policy: 'relatime' } });
  await fs.read(user, inos[0]!, 0, 1);
  t.ok((await fs.getattr(inos[0]!)).atime.sec > old.sec);
  await fs.stop();
  t.equal(volume.pending().operations, 0);
});
