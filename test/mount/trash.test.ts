/**
 * The trash of desktops on the drive (FreeDesktop.org Trash specification): a file is moved to `.Trash-$UID` by a
 * rename, so that nothing is copied, and comes back from there.
 */
import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { mountedDrive } from './mounted-drive.js';

const why = whyNoFuse();

if (why !== false) t.plan(0, why);
else {
  const { drive, scratch } = await mountedDrive(t);
  // Neither the trash of this machine's user nor a running desktop is asked.
  const env = { ...process.env, HOME: scratch, XDG_DATA_HOME: join(scratch, 'data'), DBUS_SESSION_BUS_ADDRESS: 'disabled:' };
  const run = (program: string, ...words: string[]) => promisify(execFile)(program, words, { cwd: drive.directory, env });
  const trash = join(drive.directory, `.Trash-${process.getuid?.() ?? 0}`);

  for (const [program, ...words] of [['trash-put'], ['gio', 'trash']] as const) {
    await t.test(`${[program, ...words].join(' ')} moves a file and a folder to the trash of the drive`, async (t) => {
      const folder = join(drive.directory, `of-${program}`);
      await mkdir(folder);
      await writeFile(join(folder, 'inside'), 'text');
      const file = join(drive.directory, `file-${program}`);
      await writeFile(file, Buffer.alloc(1_000_000, 'x'));
      const [{ ino }, { ino: folderIno }] = [await stat(file), await stat(folder)];
      await run(program, ...words, file, folder);
      t.notOk((await readdir(drive.directory)).some((name) => name.endsWith(program)));
      t.equal((await stat(join(trash, 'files', `file-${program}`))).ino, ino, 'the same file');
      t.equal((await stat(join(trash, 'files', `of-${program}`))).ino, folderIno, 'the same folder');
      t.match(await readFile(join(trash, 'info', `file-${program}.trashinfo`), 'utf8'), `Path=file-${program}\n`);
    });
  }

  await t.test('the trash is there for every device of the volume, and can be emptied', async (t) => {
    await drive.unmount();
    await drive.forget();
    await drive.mount();
    t.equal(await readFile(join(trash, 'files', 'of-gio', 'inside'), 'utf8'), 'text');
    await promisify(execFile)('rm', ['-r', trash]);
    await drive.unmount();
    await drive.check();
  });
}
