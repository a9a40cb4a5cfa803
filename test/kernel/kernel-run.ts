/**
 * Runs tests of the compiled project under another Linux kernel than this machine's: a small Debian with that kernel in
 * qemu, the project on a second disk, and the output of the serial line as the report. The results per kernel are in
 * doc/semantics.md, "Kernels". It needs root, debootstrap, qemu-system-x86 and e2fsprogs, and is not part of the test
 * command. Emulation is software (TCG): the POSIX suite takes about a quarter of an hour. Packages come from the same
 * archive as this machine's own.
 *
 *   npm run kernel -- 6.1 [--scratch DIRECTORY] [--pjdfstest DIRECTORY] [--shell 'COMMANDS'] [FILE..]
 *
 * A FILE is a compiled test below dist/test (default: the POSIX suite on a plain directory and on the mounted drive).
 * `--pjdfstest` names the folder of a built pjdfstest and runs it on a mounted drive. `--shell` runs commands in the
 * folder of the project instead. The system's disk stays in the scratch directory for the next run.
 */
import { execFile, spawn } from 'node:child_process';
import { createWriteStream, existsSync } from 'node:fs';
import { chmod, copyFile, cp, mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { sourcePath } from '../mount/posix-probe.js';

const execute = promisify(execFile);

/** The release of Debian for each kernel. */
const releases: Readonly<Record<string, string>> = { '5.10': 'bullseye', '6.1': 'bookworm', '6.12': 'trixie' };
const defaultFiles = ['mount/plain-directory.test.js', 'mount/mount.test.js'];
/** The packages that the tests need. perl-modules contains prove(1), which runs pjdfstest. */
const packages = 'fuse3,libfuse2,gcc,libc6-dev,attr,acl,procps,kmod,initramfs-tools,perl,openssl,sqlite3,git,rsync,python3-minimal';
/** No test needs the compiler, linters and formatters, which are most of node_modules. */
const leftOut = ['@biomejs', '@esbuild', '@oxlint', '@oxlint-tsgolint', '@typescript', 'esbuild', 'oxlint', 'oxlint-tsgolint', '.cache'];
const marker = 'kernel-run ended with';
const memory = '3G';
const processors = '2';

const say = (line: string): void => void process.stderr.write(`kernel-run: ${line}\n`);

/** Runs a program whose output is shown when it fails. */
async function run(program: string, ...parameters: string[]): Promise<string> {
  const { stdout } = await execute(program, parameters, { maxBuffer: 1 << 28 });
  return stdout;
}

/** The programs that this one runs, and their packages. */
const programs: Readonly<Record<string, string>> = { debootstrap: 'debootstrap', 'qemu-system-x86_64': 'qemu-system-x86', mke2fs: 'e2fsprogs' };

async function missingPackages(): Promise<string[]> {
  const missing: string[] = [];
  for (const [program, owner] of Object.entries(programs)) await run('sh', '-c', `command -v ${program}`).catch(() => missing.push(owner));
  return missing;
}

/** The mirror of Debian's main archive on this machine; `undefined` leaves the choice to debootstrap. */
async function archiveOf(): Promise<string | undefined> {
  const targets = await run('apt-get', 'indextargets', '--format', '$(SITE)', 'Created-By: Packages', 'Component: main', 'Origin: Debian').catch(
    () => '',
  );
  return targets.split('\n').find((site) => site !== '' && !site.includes('security'));
}

/** The name of this machine's release: its C library is the one that Node.js and the addon were built for. */
async function ownRelease(): Promise<string> {
  return (await run('sh', '-c', '. /etc/os-release; printf %s "$VERSION_CODENAME"')) || 'bookworm';
}

/** Makes the disk of the system, and puts its kernel and initial RAM disk beside it. */
async function buildSystem(folder: string, kernelRelease: string): Promise<void> {
  const making = `${folder}.making`;
  const root = join(making, 'root');
  await rm(making, { recursive: true, force: true });
  await mkdir(making, { recursive: true });
  const [archive, release] = [await archiveOf(), await ownRelease()];
  say(`installing a small Debian (${release}) with the kernel of ${kernelRelease}; this happens once`);
  const place = archive === undefined ? [] : [archive];
  await run('debootstrap', '--variant=minbase', `--include=${packages}`, release, root, ...place);
  if (kernelRelease !== release) {
    const source = archive ?? 'http://deb.debian.org/debian';
    await writeFile(join(root, 'etc/apt/sources.list.d/kernel.list'), `deb ${source} ${kernelRelease} main\n`);
  }
  const inRoot = (...command: string[]): Promise<string> => run('chroot', root, 'env', 'DEBIAN_FRONTEND=noninteractive', ...command);
  await inRoot('apt-get', 'update', '-qq');
  await inRoot('apt-get', 'install', '-qq', '--no-install-recommends', '-t', kernelRelease, 'linux-image-amd64');
  await inRoot('apt-get', 'clean');
  await writeFile(join(root, 'kernel-run'), start, { mode: 0o755 });
  const boot = await readdir(join(root, 'boot'));
  for (const [kind, name] of [
    ['vmlinuz', 'vmlinuz'],
    ['initrd.img', 'initrd'],
  ] as const) {
    const found = boot.filter((entry) => entry.startsWith(`${kind}-`)).toSorted()[0];
    if (found === undefined) throw new Error(`the package of the kernel has no ${kind}`);
    await copyFile(join(root, 'boot', found), join(making, name));
  }
  await run('mke2fs', '-q', '-t', 'ext4', '-d', root, join(making, 'system.img'), '6G');
  await rm(root, { recursive: true });
  await rename(making, folder);
}

/** The first process of the machine. */
const start = `#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM=dumb
mountpoint -q /proc || mount -t proc proc /proc; mountpoint -q /sys || mount -t sysfs sys /sys
mountpoint -q /dev || mount -t devtmpfs dev /dev
mkdir -p /dev/shm /dev/pts /work; mount -t tmpfs shm /dev/shm; mount -t devpts pts /dev/pts
hostname kernel-run; ip link set lo up 2>/dev/null || ifconfig lo up 2>/dev/null
modprobe fuse; modprobe ext4; mount -t ext4 /dev/vdb /work
dmesg -n 1
sh /work/run
echo "${marker} $?"
sync; echo o >/proc/sysrq-trigger; sleep 60
`;

/** The script that the machine runs: every file by itself, so that the report is plain TAP. */
function runScript(files: readonly string[], shell: string | undefined, hasPjdfstest: boolean): string {
  const head = `cd /work || exit 1
uname -a
export PATH="/work/bin-node:$PATH" TEST_REQUIRE=fuse TAP_TIMEOUT=14400 SEALDRIVE_KERNEL_RUN=1
${hasPjdfstest ? 'export PJDFSTEST=/work/pjdfstest' : ''}
`;
  if (shell !== undefined) return `${head}${shell}\n`;
  // The command as users run it, to show which protocol it negotiates with the kernel.
  const command = `mkdir /tmp/drive
node bin/sealdrive init /tmp/store --key-file /tmp/key --no-recovery && node bin/sealdrive mount /tmp/store /tmp/drive --key-file /tmp/key || exit 1
echo x >/tmp/drive/x && node bin/sealdrive unmount /tmp/drive && grep -ho '"protocol":"[0-9.]*"' /root/.local/state/sealdrive/*/daemon.log`;
  const each = files.map((file) => `echo "## ${file}"; node --enable-source-maps dist/test/${file} || failed=1`);
  return `${head}${command}\nfailed=0\n${each.join('\n')}\nexit $failed\n`;
}

async function buildProject(image: string, script: string, pjdfstest: string | undefined): Promise<void> {
  const staging = `${image}.staging`;
  await rm(staging, { recursive: true, force: true });
  const root = sourcePath();
  for (const part of ['bin', 'dist', 'native/build/Release/sealdrive.node', 'native/binding.gyp', 'package.json', 'test']) {
    await cp(join(root, part), join(staging, part), { recursive: true });
  }
  await cp(join(root, 'node_modules'), join(staging, 'node_modules'), {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !leftOut.some((name) => path === join(root, 'node_modules', name)),
  });
  await mkdir(join(staging, 'bin-node'));
  await copyFile(process.execPath, join(staging, 'bin-node/node'));
  await chmod(join(staging, 'bin-node/node'), 0o755);
  if (pjdfstest !== undefined) await cp(pjdfstest, join(staging, 'pjdfstest'), { recursive: true });
  await writeFile(join(staging, 'run'), script);
  await rm(image, { force: true });
  await run('mke2fs', '-q', '-t', 'ext4', '-d', staging, image, '1500M');
  await rm(staging, { recursive: true });
}

/** Boots, shows the serial line, and resolves with the exit code of the script. */
async function boot(system: string, project: string, log: string): Promise<number> {
  const machine = spawn(
    'qemu-system-x86_64',
    [
      ['-accel', 'tcg,thread=multi', '-cpu', 'max', '-smp', processors, '-m', memory, '-nographic', '-no-reboot', '-nic', 'none'],
      ['-kernel', join(system, 'vmlinuz'), '-initrd', join(system, 'initrd')],
      // An emulated timer may be late on a busy machine, which is no fault of the board.
      ['-append', 'root=/dev/vda rw console=ttyS0 quiet init=/kernel-run mitigations=off no_timer_check panic=-1'],
      // The machine's writes are discarded.
      ['-drive', `file=${join(system, 'system.img')},if=virtio,format=raw,snapshot=on,cache=unsafe`],
      ['-drive', `file=${project},if=virtio,format=raw,snapshot=on,cache=unsafe`],
    ].flat(),
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  const file = createWriteStream(log);
  let tail = '';
  machine.stdout.on('data', (part: Buffer) => {
    file.write(part);
    process.stdout.write(part);
    tail = (tail + part.toString('latin1')).slice(-4096);
  });
  await new Promise<void>((settle, reject) => {
    machine.on('error', reject);
    machine.on('close', () => settle());
  });
  file.end();
  const end = new RegExp(`${marker} (\\d+)`).exec(tail)?.[1];
  if (end === undefined) throw new Error('the machine stopped before the tests ended');
  return Number(end);
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { scratch: { type: 'string' }, pjdfstest: { type: 'string' }, shell: { type: 'string' } },
  });
  const [version = '', ...files] = positionals;
  const release = Object.hasOwn(releases, version) ? releases[version] : undefined;
  if (release === undefined) {
    say(`name a kernel: ${Object.keys(releases).join(', ')}`);
    return 2;
  }
  const missing = await missingPackages();
  if (missing.length > 0 || process.getuid?.() !== 0) {
    say(`this needs root${missing.length > 0 ? `, and packages: apt-get install ${missing.join(' ')}` : ''}`);
    return 10;
  }
  const scratch = resolve(values.scratch ?? join(tmpdir(), 'sealdrive-kernel'));
  await mkdir(scratch, { recursive: true });
  const system = join(scratch, version);
  if (!existsSync(system)) await buildSystem(system, release);
  const project = join(scratch, `project-${version}.img`);
  const chosen = files.length > 0 ? files : values.pjdfstest === undefined ? defaultFiles : ['mount/pjdfstest.test.js'];
  await buildProject(project, runScript(chosen, values.shell, values.pjdfstest !== undefined), values.pjdfstest);
  const log = join(scratch, `${version}.log`);
  say(`starting Linux ${version}; what it says is in ${log} (${basename(system)})`);
  return boot(system, project, log);
}

process.exitCode = await main();
