/**
 * The environment of a command: options of Node.js, signals, a missing working directory, a user without a home
 * (doc/cli.md, "Surroundings").
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { exitCodes } from '../../src/terminal/exit-code.js';
import type { Outcome } from './command-line.js';
import { programPath, Workplace } from './command-line.js';

/** Starting processes takes time. */
t.setTimeout(600_000);
const place = new Workplace();
t.teardown(() => place.remove());
const noFuse = existsSync('/dev/fuse') ? false : 'needs /dev/fuse';
const isRoot = process.getuid?.() === 0;

/** Runs a shell script in which `$SEALDRIVE` is the program as it is installed. */
function runShell(script: string, env: Readonly<Record<string, string>> = {}): Promise<Outcome> {
  return new Promise((settle, reject) => {
    const child = spawn('env', ['-u', 'NODE_OPTIONS', 'sh', '-c', script], {
      cwd: place.folder,
      env: {
        PATH: process.env['PATH'],
        HOME: place.folder,
        XDG_STATE_HOME: place.path('state'),
        SEALDRIVE: programPath,
        NODE: process.execPath,
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const said = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) child[name].setEncoding('utf8').on('data', (text: string) => (said[name] += text));
    child.on('error', reject);
    child.on('close', (code) => settle({ code, ...said }));
  });
}

/** Whether a process listens on the default debugger port of Node.js, or says so in `stderr`. */
const isDebugged = (pid: number): boolean => {
  const sockets = readFileSync(`/proc/${pid}/net/tcp`, 'latin1') + readFileSync(`/proc/${pid}/net/tcp6`, 'latin1');
  return /:240D \S+ 0A/.test(sockets);
};

t.test('options of Node.js in the environment have no effect on the program as it is installed', async (t) => {
  const hook = place.path('hook.cjs');
  writeFileSync(hook, `require('node:fs').writeFileSync(${JSON.stringify(place.path('loaded'))}, '');`);
  for (const options of [
    '--inspect=127.0.0.1:0',
    '--inspect-brk=127.0.0.1:0',
    `--require ${hook}`,
    `--import ${hook}`,
    '--cpu-prof',
    '--trace-exit',
  ]) {
    const { code, stdout, stderr } = await runShell(`NODE_OPTIONS="${options}" "$SEALDRIVE" status`);
    t.equal(code, 0, options);
    t.equal(stderr, '', options);
    t.match(stdout, /Nothing is mounted/);
  }
  const { stderr } = await runShell('NODE_DEBUG=http,net,tls,module "$SEALDRIVE" status');
  t.equal(stderr, '');
  t.notOk(existsSync(place.path('loaded')));
});

t.test('options that reach Node.js another way are refused unless they are harmless', async (t) => {
  const hook = place.path('hook.cjs');
  writeFileSync(hook, '');
  for (const options of [
    '--inspect=127.0.0.1:0',
    `--require=${hook}`,
    `-r ${hook}`,
    '--heapsnapshot-signal=SIGUSR2',
    '--report-on-signal',
    '--cpu-prof',
  ]) {
    for (const command of [`"$NODE" ${options} "$SEALDRIVE" init new`, `NODE_OPTIONS="${options}" "$NODE" "$SEALDRIVE" init new`]) {
      if (options === '--cpu-prof' && command.startsWith('NODE_OPTIONS')) continue;
      const { code, stderr } = await runShell(command);
      t.equal(code, exitCodes.USAGE, command);
      t.match(stderr, /sealdrive: Node\.js was started with -[^\n]*leave it out\n$/, command);
    }
  }
  t.equal((await runShell('NODE_DEBUG=http "$NODE" "$SEALDRIVE" status')).code, exitCodes.USAGE);
  t.match((await runShell('"$NODE" --inspect=127.0.0.1:0 "$SEALDRIVE" status --json')).stdout, /"USAGE"/);
  for (const options of ['--max-old-space-size=500', '--enable-source-maps --no-warnings']) {
    t.equal((await runShell(`NODE_OPTIONS="${options}" "$NODE" "$SEALDRIVE" status`)).code, 0, options);
  }
});

t.test('SIGUSR1 opens no debugger, before there is a secret or after', { skip: noFuse }, async (t) => {
  const { store, keyFile } = await place.makeVolume();
  const mountPoint = place.makeFolder('drive');
  const options = { env: { NODE_OPTIONS: '--inspect' } };
  const { pid } = JSON.parse(await place.succeed(['mount', store, mountPoint, '--key-file', keyFile, '--json'], options)) as { pid: number };
  for (let count = 0; count < 3; count++) process.kill(pid, 'SIGUSR1');
  writeFileSync(join(mountPoint, 'file'), 'goes on');
  await place.succeed(['flush', mountPoint]);
  t.notOk(isDebugged(pid));
  t.equal(readFileSync(join(mountPoint, 'file'), 'utf8'), 'goes on');
  await place.succeed(['unmount', mountPoint]);

  // A command that waits for its passphrase.
  const waiting = spawn('env', ['-u', 'NODE_OPTIONS', programPath, 'key', 'list', store, '--passphrase-fd', '0'], {
    env: { PATH: process.env['PATH'], HOME: place.folder },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  const ended = new Promise<number | null>((resolve) => waiting.once('close', (code) => resolve(code)));
  let said = '';
  waiting.stderr.setEncoding('utf8').on('data', (text: string) => (said += text));
  // Also while it starts: a signal that reaches the shell instead ends it, which is allowed.
  await place.succeed(['--version']);
  waiting.kill('SIGUSR1');
  waiting.stdin.end('wrong passphrase\n');
  await ended;
  t.notMatch(said, /Debugger listening/);
});

t.test('the program works in a directory that was removed or is too deep to be named', async (t) => {
  const gone = 'mkdir gone && cd gone && rmdir ../gone && ';
  // A shell cannot change into it.
  const name = 'd'.repeat(250);
  const descend = `const { mkdirSync } = require('node:fs'); for (let i = 0; i < 20; i++) { try { mkdirSync('${name}'); } catch {} process.chdir('${name}'); }`;
  const run = "process.exit(require('node:child_process').spawnSync(process.execPath, process.argv.slice(1), { stdio: 'inherit' }).status)";
  writeFileSync(place.path('deep.cjs'), `process.argv.splice(1, 1); ${descend} ${run}`);
  const { store, keyFile } = await place.makeVolume('absolute');
  for (const start of [`${gone}"$NODE" `, '"$NODE" deep.cjs ']) {
    for (const command of ['--version', '--help', 'status', 'status --json', 'volume list', `check ${store} --key-file ${keyFile}`]) {
      const { code, stdout, stderr } = await runShell(`${start}"$SEALDRIVE" ${command}`);
      t.equal(code, 0, `${command}: ${stderr}`);
      t.not(stdout, '');
    }
    for (const command of [
      'init rel --no-recovery --key-file /nowhere/key',
      'status ./file',
      'mount rel drive',
      `mount ${store} drive --key-file ${keyFile}`,
    ]) {
      const { code, stderr } = await runShell(`${start}"$SEALDRIVE" ${command}`);
      t.equal(code, exitCodes.USAGE, command);
      t.match(stderr, /working directory is gone or cannot be named: [^\n]*\n$/, command);
    }
  }
  t.equal((await runShell(`${gone}"$SEALDRIVE" --version`)).code, 0, 'as it is installed');
  // Too deep for Node.js.
  t.equal((await runShell(`rm -rf ${name}`)).code, 0);
});

t.test('a user without an entry in the system is told what to set', { skip: isRoot ? false : 'needs root' }, async (t) => {
  const as = 'setpriv --reuid 54321 --regid 54321 --clear-groups ';
  const own = place.makeFolder('own');
  mkdirSync(own, { recursive: true });
  const shared = `chmod 711 . && chown 54321 own && cd / && `;
  for (const [what, home] of [
    ['no HOME', '-u HOME'],
    ['an empty HOME', 'HOME='],
    ['a relative HOME', 'HOME=home'],
  ] as const) {
    const { code, stderr } = await runShell(`${shared}env -u XDG_STATE_HOME ${home} ${as}"$NODE" "$SEALDRIVE" status`);
    t.equal(code, exitCodes.USAGE, what);
    t.match(stderr, /^sealdrive: [^\n]*HOME[^\n]*\n$/, what);
    t.equal((await runShell(`${shared}env -u XDG_STATE_HOME ${home} ${as}"$NODE" "$SEALDRIVE" --version`)).code, 0, what);
    t.equal((await runShell(`${shared}env -u XDG_STATE_HOME ${home} ${as}"$NODE" "$SEALDRIVE" drive --help`)).code, 0, what);
    const set = `env ${home} XDG_STATE_HOME=${own} XDG_CONFIG_HOME=${own} ${as}"$NODE" "$SEALDRIVE"`;
    t.equal((await runShell(`${shared}${set} status`)).code, 0, `${what}, and the folders named`);
  }
  const { code, stderr } = await runShell(`${shared}env HOME=${own} XDG_STATE_HOME=relative ${as}"$NODE" "$SEALDRIVE" status`);
  t.equal(code, 0, `a relative XDG_STATE_HOME is taken no notice of: ${stderr}`);
});
