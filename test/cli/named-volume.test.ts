/** Names of volumes: the config file, the commands that edit it, and how a name is resolved. */
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import t from 'tap';
import { parseVolumes, volumeSettings } from '../../src/access/volume-config.js';
import { volumeNamesFor } from '../../src/cli/completion.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { quoteForShell } from '../../src/terminal/terminal.js';
import { sourcePath } from '../mount/posix-probe.js';
import { Workplace } from './command-line.js';

const place = new Workplace();
t.teardown(() => place.remove());
const configFile = place.path('.config', 'sealdrive', 'config.json');

function writeConfig(text: string): void {
  mkdirSync(dirname(configFile), { recursive: true });
  writeFileSync(configFile, text);
  chmodSync(configFile, 0o600);
}

const message = (text: string): string => {
  try {
    parseVolumes(text, 'FILE');
  } catch (error) {
    return (error as Error).message;
  }
  return 'nothing is wrong';
};

t.test('errors in the config file are reported with their position and a correction', async (t) => {
  const one = (settings: string): string => message(`{"volumes": {"a": ${settings}}}`);
  t.equal(message('{}'), 'nothing is wrong');
  t.equal(one('{"store": "/x", "uploadLimit": "off", "readsAtOnce": 4}'), 'nothing is wrong');
  t.match(message('{"volumes":\n  {"a" 1}}'), /^FILE: this is not JSON: .*line 2/);
  t.match(message('[]'), /must be an object/);
  t.match(message('{"volume": {}}'), /there is no setting "volume": did you mean "volumes"\?/);
  t.match(message('{"volumes": {"../a": {"store": "/x"}}}'), /"\.\.\/a" cannot be a name/);
  t.match(one('{"stroe": "/x"}'), /^FILE: volume a: there is no setting "stroe": did you mean "store"\?$/);
  t.match(one('{"store": "/x", "cache-size": "1G"}'), /did you mean "cacheSize"\?/);
  t.match(one('{"store": "/x", "cachSiz": "1G"}'), /did you mean "cacheSize"\?/);
  t.match(one('{"store": "/x", "mountPoint": "relative"}'), /"mountPoint" takes an absolute path/);
  t.match(one('{"store": "/x", "readsAtOnce": 0}'), /takes a number from 1 to 256/);
  t.match(one('{"store": "/x", "readOnly": "yes"}'), /takes true or false/);
  t.match(one('{"store": "relative"}'), /"store" takes a URL, an absolute path/);
  t.match(one('{}'), /needs a "store"/);
  t.match(one('[]'), /must be an object/);
  for (const name of volumeSettings.keys()) t.match(one(`{"store": "/x", "${name}": {}}`), new RegExp(`"${name}" takes `), name);
});

t.test('a secret in the config file is refused, and the message does not repeat it', async (t) => {
  for (const settings of [
    '{"store": "/x", "passphrase": "hunter2"}',
    '{"store": "/x", "recoveryWords": "hunter2"}',
    '{"store": "/x", "token": "hunter2"}',
    '{"store": "s3://key:hunter2@bucket"}',
    '{"store": "webdav+https://me:hunter2@host/path"}',
    '{"store": "/x", "cacheSize": "hunter2"}',
  ]) {
    const said = message(`{"volumes": {"a": ${settings}}}`);
    t.match(said, /FILE: volume a: /);
    t.notMatch(said, /hunter2/);
  }
});

t.test('volume names are added, listed and removed', async (t) => {
  await place.succeed(['volume', 'add', 'one', 'some/store', '--mount-point', 'one', '--cache-size', '2G', '--upload-limit', 'off']);
  await place.succeed(['volume', 'add', 'two', 's3://bucket/a?endpoint=https://h&style=path', '--read-only', '--reads-at-once', '4']);
  t.same(JSON.parse(await place.succeed(['volume', 'list', '--json'])), {
    path: configFile,
    volumes: [
      { name: 'one', store: place.path('some', 'store'), mountPoint: place.path('one'), cacheSize: '2G', uploadLimit: 'off', mountedAt: [] },
      { name: 'two', store: 's3://bucket/a?endpoint=https://h&style=path', readOnly: true, readsAtOnce: 4, mountedAt: [] },
    ],
  });
  t.equal(statSync(configFile).mode & 0o777, 0o600);
  t.match(await place.succeed(['volume', 'list']), /^one {2}.*some\/store \(for .*one\)\ntwo {2}s3:/);
  const before = readFileSync(configFile, 'utf8');
  // Each run takes a while, so the other errors are in the tests of the file itself.
  for (const words of [
    ['volume', 'add', 'one', 'other'],
    ['volume', 'add', 'three', 'other', '--mount-point', 'one'],
    ['volume', 'add', 'three', 's3://key:hunter2@bucket'],
    ['volume', 'remove', 'thre'],
  ]) {
    const { code, stderr } = await place.run(words);
    t.equal(code, exitCodes.USAGE, words.join(' '));
    t.match(stderr, /^sealdrive: [^\n]+\n$/);
    t.notMatch(stderr, /hunter2/);
  }
  t.equal(readFileSync(configFile, 'utf8'), before, 'what was refused changed nothing');
  await place.succeed(['volume', 'add', 'two', 'elsewhere', '--replace']);
  await place.succeed(['volume', 'remove', 'one']);
  t.match(JSON.parse(await place.succeed(['volume', 'list', '--json'])), { volumes: [{ name: 'two', store: place.path('elsewhere') }] });
  await place.succeed(['volume', 'remove', 'two']);
  t.match(await place.succeed(['volume', 'list']), /No volume has a name/);
});

t.test('a volume is created, mounted, inspected and unmounted by its name', async (t) => {
  const keyFile = place.path('drive.key');
  place.makeFolder('mnt');
  await place.succeed(['volume', 'add', 'drive', 'store', '--key-file', keyFile, '--mount-point', 'mnt', '--device-name', 'named']);
  t.match(await place.succeed(['init', 'drive', '--no-recovery']), /sealdrive mount drive\n/);
  t.ok(existsSync(keyFile), 'with the key file that the config names');
  await place.succeed(['check', 'drive']);
  t.match(await place.succeed(['key', 'list', 'drive']), /key-file/);
  const idle = await place.run(['status', 'drive']);
  t.equal(idle.code, exitCodes.MOUNT_POINT);
  t.match(idle.stderr, /drive is not mounted/);
  await place.succeed(['mount', 'drive']);
  writeFileSync(place.path('mnt', 'a'), 'a');
  t.match(JSON.parse(await place.succeed(['status', 'drive', '--json'])), { mounts: [{ mountPoint: place.path('mnt') }] });
  await place.succeed(['flush', 'drive']);
  t.match(JSON.parse(await place.succeed(['volume', 'list', '--json'])), { volumes: [{ mountedAt: [place.path('mnt')] }] });
  await place.succeed(['unmount', 'drive']);
  // A name that is also a folder means the name, in every working directory; a path means the folder.
  const folder = place.makeFolder('work', 'drive');
  const { stderr } = await place.run(['doctor', 'drive'], { cwd: place.path('work') });
  t.match(stderr, /note: drive is the volume of that name.*\.\/drive/);
  t.match((await place.run(['doctor', './drive'], { cwd: place.path('work') })).stdout, new RegExp(`MISSING .*${folder}`));
  // The command line wins over the file.
  place.makeFolder('elsewhere');
  await place.succeed(['mount', 'drive', place.path('elsewhere')]);
  await place.succeed(['unmount', 'drive']);
});

t.test('a new volume gets its name when it is made', async (t) => {
  t.match(await place.succeed(['init', 'fresh', '--name', 'fresh-one', '--key-file', 'fresh.key', '--no-recovery']), /mount fresh-one DIRECTORY/);
  t.match(JSON.parse(readFileSync(configFile, 'utf8')), {
    volumes: { 'fresh-one': { store: place.path('fresh'), keyFile: place.path('fresh.key') } },
  });
  const again = await place.run(['init', 'more', '--name', 'fresh-one', '--key-file', 'fresh.key', '--no-recovery']);
  t.equal(again.code, exitCodes.USAGE);
  t.notOk(existsSync(place.path('more')), 'found out before anything is made');
});

t.test('a malformed config file, or one that others can change, disables only names', async (t) => {
  writeConfig('{"volumes": {"x": {"store": "/x", "stor": 1}}}');
  t.match((await place.run(['mount', 'x'])).stderr, /config\.json: volume x: there is no setting "stor"/);
  t.notMatch((await place.run(['doctor', './x'])).stderr, /config\.json/);
  chmodSync(configFile, 0o666);
  t.match((await place.run(['mount', 'x'])).stderr, /other users can change/);
  t.equal((await place.run(['volume', 'list'])).code, exitCodes.USAGE);
});

t.test('shell completion offers volume names where they are allowed', async (t) => {
  writeConfig('{"volumes": {"photos": {"store": "/x"}}}');
  const complete = async (...words: string[]): Promise<string[]> =>
    (await place.succeed(['--get-yargs-completions', 'sealdrive', ...words])).split('\n');
  t.ok((await complete('mount', 'ph')).includes('photos'));
  t.ok((await complete('key', 'list', '')).includes('photos'));
  t.notOk((await complete('mount', 'x', '')).includes('photos'));
  t.notOk((await complete('mount', '--d')).includes('photos'));
  t.same(volumeNamesFor(['volume', 'add', ''], ['photos']), []);
});

t.test('a word in a hint is quoted where the shell needs it', async (t) => {
  t.equal(quoteForShell('/plain/path-1.2'), '/plain/path-1.2');
  t.equal(quoteForShell('s3://b/p?endpoint=https://h&style=path'), "'s3://b/p?endpoint=https://h&style=path'");
  t.equal(quoteForShell("it's"), String.raw`'it'\''s'`);
  t.equal(quoteForShell(''), "''");
});

t.test('doc/cli.md names every setting of the config file', async (t) => {
  const text = readFileSync(sourcePath('doc', 'cli.md'), 'utf8');
  for (const name of volumeSettings.keys()) t.ok(text.includes(`\`${name}\``), name);
});
