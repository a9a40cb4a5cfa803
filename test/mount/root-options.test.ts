/** Mount options for root only: `--suid` and `--dev`, under which set-user-id programs and device nodes take effect. */
import { execFile } from 'node:child_process';
import { copyFile, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { Drive, driveCommands } from './drive-process.js';
import { Probe } from './posix-probe.js';

const run = promisify(execFile);
const why = whyNoFuse() || (process.getuid?.() === 0 ? false : 'only root can mount so');
const stranger = 41001;

interface Effect {
  readonly options: string;
  /** The effective user id of root's set-user-id program when another user runs it. */
  readonly uid: number;
  readonly device: string;
}

/** Mounts with these options, and returns what another user gets from a program and a device node. */
async function effectOf(t: Test, scratch: string, mountOptions: readonly string[]): Promise<Effect> {
  const drive = new Drive({ scratch, withKeyFile: true, mountOptions: ['--allow-other', ...mountOptions] });
  t.teardown(() => drive.destroy());
  await drive.mount();
  const p = await Probe.start();
  await p.ok('chdir', drive.directory);
  const program = join(drive.directory, 'id');
  if ((await p.errno('stat', 'id')) !== 'OK') {
    await copyFile('/usr/bin/id', program);
    await p.ok('chmod', 'id', 0o4755);
    await p.ok('mknod', 'zero', 'S_IFCHR|0666', 1, 5);
    await p.ok('chmod', 'zero', 0o666);
    await p.ok('chmod', '.', 0o755);
  }
  // The other user must be able to reach the program, and the folders of a test are private.
  const bound = `mount --bind "$1" /mnt && exec setpriv --reuid=${stranger} --regid=${stranger} --clear-groups /mnt/id -u`;
  const { stdout } = await run('unshare', ['--mount', 'sh', '-c', bound, 'sh', drive.directory]);
  const device = await p.errno('open', 'zero', 'O_RDONLY');
  const options = (await readFile('/proc/self/mounts', 'utf8')).split('\n').find((line) => line.includes(` ${drive.directory} `)) ?? '';
  await p.close();
  await drive.unmount();
  return { options, uid: Number(stdout), device };
}

if (why !== false) t.plan(0, why);
else {
  await t.test('set-user-id and device nodes take effect only with their option', async (t) => {
    const scratch = await scratchDirectory(t);
    await new Drive({ scratch, withKeyFile: true }).init();
    const plain = await effectOf(t, scratch, []);
    t.match(plain, { uid: stranger, device: 'EACCES', options: /nosuid,nodev/ });
    const suid = await effectOf(t, scratch, ['--suid']);
    t.match(suid, { uid: 0, device: 'EACCES' });
    t.notMatch(suid.options, 'nosuid');
    const dev = await effectOf(t, scratch, ['--dev']);
    t.match(dev, { uid: stranger, device: 'OK' });
    t.notMatch(dev.options, 'nodev');
  });

  await t.test('the options are refused for anybody but root, and nothing is mounted', async (t) => {
    const scratch = await scratchDirectory(t);
    for (const option of ['--suid', '--dev']) {
      const command = [...driveCommands.program, ...driveCommands.mount(join(scratch, 'store'), scratch, []), option];
      // In a user namespace without a map the files still belong to root, but the process has no user id.
      const failed = await run('unshare', ['--user', '--', ...command], { cwd: '/', env: { ...process.env, XDG_STATE_HOME: scratch } }).then(
        () => undefined,
        (error: unknown) => error as { readonly code: number; readonly stderr: string },
      );
      t.match(failed, { code: 2, stderr: /--suid and --dev are for root/ });
    }
  });
}
