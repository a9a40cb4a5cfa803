/** Arguments of the command line, before any volume is involved. */
import { writeFileSync } from 'node:fs';
import t from 'tap';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { Workplace } from './command-line.js';

const place = new Workplace();
t.teardown(() => place.remove());

t.test('help and version go to stdout and exit with 0', async (t) => {
  for (const words of [['--help'], ['--version'], ['mount', '--help'], ['key', 'add', '--help'], ['completion']]) {
    const { code, stdout, stderr } = await place.run(words);
    t.equal(code, 0, words.join(' '));
    t.not(stdout, '', words.join(' '));
    t.equal(stderr, '', words.join(' '));
  }
});

t.test('the help names every exit code', async (t) => {
  const help = await place.succeed(['--help']);
  const numbers = help.slice(help.indexOf('Exit codes')).match(/\d+/g);
  t.strictSame(numbers?.map(Number), [0, ...Object.values(exitCodes)]);
});

t.test('an invalid command line is answered with one line and exit code 2', async (t) => {
  const lines: string[][] = [
    [],
    ['frobnicate'],
    ['init'],
    ['init', 'a', 'b'],
    ['mount', 'only-a-store'],
    ['mount', 'a', 'b', '--frobnicate'],
    ['mount', 'a', 'b', '--driver', 'none'],
    ['mount', 'a', 'b', '--cache-size', 'much'],
    ['flush', '--timeout', 'soon'],
    ['key'],
    ['key', 'add', 'store', '--type', 'key-file'],
    ['init', 'gopher://hole'],
  ];
  for (const words of lines) {
    const { code, stdout, stderr } = await place.run(words);
    t.equal(code, exitCodes.USAGE, words.join(' '));
    t.equal(stdout, '', words.join(' '));
    t.match(stderr, /^sealdrive: [^\n]+\n$/, words.join(' '));
  }
});

t.test('with --json a failure is an object on stdout', async (t) => {
  const { code, stdout, stderr } = await place.run(['mount', 'nowhere', 'nothing', '--json']);
  t.equal(code, exitCodes.NOT_A_VOLUME);
  t.equal(stderr, '');
  const { error } = JSON.parse(stdout) as { error: { code: string; message: string } };
  t.equal(error.code, 'NOT_A_VOLUME');
  t.match(error.message, /nowhere/);
});

t.test('without mounts, status says so and flush fails', async (t) => {
  t.match(await place.succeed(['status']), /Nothing is mounted/);
  t.strictSame(JSON.parse(await place.succeed(['status', '--json'])), { mounts: [] });
  t.equal((await place.run(['flush'])).code, exitCodes.MOUNT_POINT);
  t.equal((await place.run(['unmount', place.folder])).code, exitCodes.MOUNT_POINT);
});

t.test('records of dead daemons and foreign files in the registry are ignored', async (t) => {
  const folder = place.makeFolder('state', 'sealdrive', 'mounts');
  const record = { pid: 1, mountPoint: '/nowhere', stateDirectory: '/nowhere', socket: `${folder}/none.sock`, volumeId: '', store: '' };
  writeFileSync(`${folder}/1.json`, JSON.stringify(record));
  writeFileSync(`${folder}/2.json`, '{"pid":');
  writeFileSync(`${folder}/3.json`, '[]');
  writeFileSync(`${folder}/notes.txt`, 'hello');
  t.match(await place.succeed(['status']), /Nothing is mounted/);
});

t.test('a command that needs a secret fails when there is no terminal to ask at', async (t) => {
  const { code, stderr } = await place.run(['init', place.path('never')]);
  t.equal(code, exitCodes.USAGE);
  t.match(stderr, /--passphrase-fd/);
});

t.test('an empty passphrase, a closed descriptor and a short key file are refused, and nothing is created', async (t) => {
  writeFileSync(place.path('short.key'), 'short');
  t.equal((await place.run(['init', place.path('never'), '--passphrase-fd', '3'], { secret: '' })).code, exitCodes.USAGE);
  t.equal((await place.run(['init', place.path('never'), '--passphrase-fd', '77'])).code, exitCodes.USAGE);
  t.equal((await place.run(['init', place.path('never'), '--key-file', place.path('short.key')])).code, exitCodes.USAGE);
  t.equal((await place.run(['key', 'list', place.path('never')])).code, exitCodes.NOT_A_VOLUME);
});

t.test('doctor judges this machine in JSON, too', async (t) => {
  const { code, stdout } = await place.run(['doctor', '--json']);
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: { id: string; state: string }[] };
  t.equal(code, ok ? 0 : exitCodes.MACHINE);
  t.ok(findings.some(({ id, state }) => id === 'node' && state === 'ok'));
});
