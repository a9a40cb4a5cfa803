/**
 * Access times through the mount, under the options of the command line (doc/semantics.md, "Access times"): reading
 * makes no commit, times survive a remount, and each policy of mount(8) holds.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { DrivePair } from './drive-pair.js';
import { Drive } from './drive-process.js';
import { Probe } from './posix-probe.js';

const fileCount = 100;
const old = 5_000_000_000n;

const commitsIn = async (store: string): Promise<number> => (await readdir(join(store, 'log'))).length;

/** Mounts the drive in `scratch` with these options for as long as `work` takes. */
async function mounted(t: Test, scratch: string, mountOptions: readonly string[], work: (p: Probe, drive: Drive) => Promise<void>): Promise<void> {
  const drive = new Drive({ scratch, withKeyFile: true, mountOptions });
  t.teardown(() => drive.destroy());
  await drive.mount();
  const p = await Probe.start();
  await p.ok('chdir', drive.directory);
  await work(p, drive);
  await p.close();
  await drive.unmount();
}

/** A file, a folder and a link whose access times are old. The content is in the kernel's cache. */
async function makeOldThings(p: Probe): Promise<void> {
  await p.writeFile('file', 'content');
  await p.ok('mkdir', 'folder');
  await p.ok('symlink', 'file', 'link');
  for (const name of ['file', 'folder', 'link']) await p.ok('utimens', name, old, old, 'nofollow');
}

async function readThings(p: Probe): Promise<void> {
  await p.readFile('file');
  const handle = await p.ok('opendir', 'folder');
  await p.need('readdir', handle);
  await p.ok('closedir', handle);
  await p.ok('readlink', 'link');
}

const timesOf = (p: Probe): Promise<bigint[]> => Promise.all(['file', 'folder', 'link'].map(async (name) => (await p.stat('lstat', name)).atime));

/** Returns once the clock for files has passed these times. */
async function passes(p: Probe, times: readonly bigint[]): Promise<void> {
  const newest = times.reduce((last, time) => (time > last ? time : last));
  await p.writeFile('clock', '');
  do await p.ok('chmod', 'clock', 0o600);
  while ((await p.stat('lstat', 'clock')).ctime <= newest);
}

const why = whyNoFuse();
if (why !== false) t.plan(0, why);
else {
  await t.test('two devices that read everything unmount at once, without a commit or a conflict', async (t) => {
    const scratch = await scratchDirectory(t);
    const store = join(scratch, 'store');
    const pair = await DrivePair.start({ scratch, store }, (drive) => t.teardown(() => drive.destroy()));
    const names = Array.from({ length: fileCount }, (_, i) => `file-${i}`);
    const { left, right } = pair;
    await left.probe.ok('chdir', left.drive.directory);
    for (const name of names) {
      await left.probe.writeFile(name, name);
      await left.probe.ok('utimens', name, old, old);
    }
    await left.drive.flush();
    await right.drive.unmount();
    // The next heartbeat commit of a mounted device is hours away.
    await right.drive.mount();
    await right.probe.ok('chdir', right.drive.directory);
    const commits = await commitsIn(store);
    for (const { probe } of [left, right]) {
      for (const name of names) {
        await probe.readFile(name);
        if (probe === right.probe) t.ok((await probe.stat('lstat', name)).atime > old);
      }
    }
    for (const { drive } of [left, right]) t.match(await drive.status(), /"operations": ?0,/);
    await pair.unmount();
    t.equal(await commitsIn(store), commits, 'reading made no commit');

    await right.drive.mount();
    const again = await Probe.start();
    await again.ok('chdir', right.drive.directory);
    for (const name of names) if ((await again.stat('lstat', name)).atime <= old) t.fail(`${name}: a remount has forgotten when it was read`);
    const handle = await again.ok('opendir', '.');
    t.equal((await again.need('readdir', handle)).entries?.length, fileCount + 2, 'no conflict copies');
    await again.close();
    await right.drive.unmount();
    t.equal(await commitsIn(store), commits);
    await right.drive.check();
  });

  await t.test('relatime counts reads from the kernel cache, once, and stores them', async (t) => {
    const scratch = await scratchDirectory(t);
    await new Drive({ scratch, withKeyFile: true }).init();
    let shown: bigint[] = [];
    await mounted(t, scratch, ['--atime', 'relatime'], async (p) => {
      await makeOldThings(p);
      await readThings(p);
      shown = await timesOf(p);
      t.ok(
        shown.every((time) => time > old),
        String(shown),
      );
      await passes(p, shown);
      await readThings(p);
      t.same(await timesOf(p), shown, 'not again');
    });
    await new Drive({ scratch, withKeyFile: true }).forget();
    await mounted(t, scratch, ['--read-only'], async (p) => {
      t.same(await timesOf(p), shown, 'another device sees it');
    });
  });

  await t.test('strictatime updates the access time at each read, also from the kernel cache', async (t) => {
    const scratch = await scratchDirectory(t);
    await new Drive({ scratch, withKeyFile: true }).init();
    let shown: bigint[] = [];
    await mounted(t, scratch, ['--atime', 'strictatime'], async (p) => {
      await makeOldThings(p);
      shown = await timesOf(p);
      for (let round = 0; round < 3; round++) {
        await passes(p, shown);
        await readThings(p);
        const now = await timesOf(p);
        for (const [i, time] of now.entries()) t.ok(time > shown[i]!, `round ${round}, ${['file', 'folder', 'link'][i]}`);
        shown = now;
      }
      // Dropping caches disturbs neither writers nor files that others have open.
      const fd = await p.ok('open', 'file', 'O_RDWR');
      await p.ok('write', fd, Buffer.from('C'), 0);
      t.equal((await p.readFile('file')).toString(), 'Content');
      t.equal((await p.readAt(fd, 100, 0)).toString(), 'Content');
      await p.ok('close', fd);
      shown = await timesOf(p);
    });
    await mounted(t, scratch, ['--read-only', '--atime', 'strictatime'], async (p) => {
      await readThings(p);
      t.same(await timesOf(p), shown, 'nothing moves on a read-only mount');
    });
  });

  await t.test('noatime updates no access times, nodiratime none of folders', async (t) => {
    const scratch = await scratchDirectory(t);
    await new Drive({ scratch, withKeyFile: true }).init();
    await mounted(t, scratch, ['--atime', 'noatime'], async (p, drive) => {
      await makeOldThings(p);
      await readThings(p);
      t.same(await timesOf(p), [old, old, old]);
      const line = (await readFile('/proc/self/mounts', 'utf8')).split('\n').find((text) => text.includes(` ${drive.directory} `));
      t.match(line, /[ ,]noatime,/);
    });
    await mounted(t, scratch, ['--atime', 'relatime', '--nodiratime'], async (p) => {
      await readThings(p);
      const [file, folder, link] = await timesOf(p);
      t.ok(file! > old && link! > old);
      t.equal(folder, old);
    });
  });
}
