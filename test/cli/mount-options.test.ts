/**
 * Every option of `mount` is read, refused, documented, completed, kept in the config file and passed on, since all of
 * it comes from one table.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { deserialize, serialize } from 'node:v8';
import t from 'tap';
import type { MountOption } from '../../src/access/mount-options.js';
import { mountOptionRows, readMountOptions } from '../../src/access/mount-options.js';
import { parseVolumes, volumeSettings } from '../../src/access/volume-config.js';
import { exitCodes, Failure } from '../../src/terminal/exit-code.js';
import type { OptionWord } from '../../src/terminal/option-kind.js';
import { optionOf } from '../../src/terminal/option-kind.js';
import { sourcePath } from '../mount/posix-probe.js';
import { Workplace } from './command-line.js';

const place = new Workplace();
t.teardown(() => place.remove());

interface Sample {
  /** Accepted words, and their values. */
  readonly good: readonly (readonly [OptionWord, unknown])[];
  readonly bad: readonly OptionWord[];
}

/** Examples of each kind of value, by its `takes`, which the table does not contain. */
const samples: readonly (readonly [RegExp, Sample])[] = [
  [/^a text$/, { good: [['a word', 'a word']], bad: [] }],
  [
    /^a size /,
    {
      good: [
        ['1G', 2 ** 30],
        ['64 MiB', 2 ** 26],
      ],
      bad: ['much', '-1', '1X', ''],
    },
  ],
  [
    /^a time /,
    {
      good: [
        ['90s', 90_000],
        ['2h', 7_200_000],
      ],
      bad: ['soon', '5 bananas', ''],
    },
  ],
  [
    /^bytes a second /,
    {
      good: [
        ['5M', 5 * 2 ** 20],
        ['2K/s', 2048],
        ['off', null],
      ],
      bad: ['12', 'fast', ''],
    },
  ],
  [
    /^a name without a slash/,
    {
      good: [
        ['~past', '~past'],
        [false, ''],
      ],
      bad: ['a/b', '..', ''],
    },
  ],
  [/^a path$/, { good: [['/var/log/x.log', '/var/log/x.log']], bad: [] }],
  [
    /^true or false$/,
    {
      good: [
        [true, true],
        [false, false],
      ],
      bad: [],
    },
  ],
  [/^a number /, { good: [[3, 3]], bad: [0, 257, 1.5, NaN] }],
  [/^one of "lazy"/, { good: [['noatime', 'noatime']], bad: ['never'] }],
  [/^one of "native"/, { good: [['fuse-native', 'fuse-native']], bad: ['none'] }],
  [/headCode/, { good: [[`17-${'ab'.repeat(8)}`, { sequence: 17, hashStart: 'ab'.repeat(8) }]], bad: ['17', `0-${'ab'.repeat(8)}`] }],
];
/** Values of the right kind that an option refuses. */
const refused: Readonly<Record<string, OptionWord>> = { timeout: '10ms', queueSize: '1M', memory: '32M', pollInterval: '1ms', heartbeat: '1s' };

function sampleOf({ kind }: MountOption): Sample {
  const found = samples.find(([takes]) => takes.test(kind.takes));
  if (!found) throw new Error(`this test has no example of a value that takes ${kind.takes}`);
  return found[1];
}

const valueName = (name: string, row: MountOption): string => `${name}${row.kind.unit}`;

/** The message with which a word is refused. */
function refusal(name: string, word: OptionWord): string {
  try {
    readMountOptions({ [name]: word });
  } catch (error) {
    if (error instanceof Failure && error.code === 'USAGE') return error.message;
    throw error;
  }
  return '';
}

t.test('a given option reaches the daemon, and an omitted one has its default', async (t) => {
  const usual = readMountOptions({});
  for (const [name, row] of mountOptionRows) {
    const { good } = sampleOf(row);
    for (const [word, value] of good) {
      const options = readMountOptions({ [name]: word });
      // The request crosses a pipe between two processes.
      t.strictSame(deserialize(serialize(options)), { ...usual, [valueName(name, row)]: value }, name);
    }
    const standard = row.default === undefined ? undefined : row.kind.parse(row.default);
    t.equal(new Map(Object.entries(usual)).get(valueName(name, row)), standard, `${name} by default`);
    t.equal(row.default === undefined || standard !== undefined, true, `the default of ${name} is of its kind`);
  }
});

t.test('a bad value is refused, and the message names the option', async (t) => {
  for (const [name, row] of mountOptionRows) {
    const begins = new RegExp(`^--${optionOf(name)} `);
    for (const word of sampleOf(row).bad) t.match(refusal(name, word), begins, `${name}: ${word}`);
    if (row.kind.flaw) t.match(refusal(name, refused[name] ?? ''), begins, `${name}: ${refused[name]}`);
  }
  for (const name of ['cacheSize', 'timeout', 'uploadLimit', 'readsAtOnce', 'driver', 'headCode', 'queueSize']) {
    const row = mountOptionRows.find(([other]) => other === name)?.[1];
    const word = refused[name] ?? (row && sampleOf(row).bad[0]) ?? '';
    const { code, stderr } = await place.run(['mount', 'a', 'b', `--${optionOf(name)}`, String(word)]);
    t.equal(code, exitCodes.USAGE, name);
    t.match(stderr, new RegExp(`^sealdrive: .*${optionOf(name)}.*\n$`), name);
  }
});

t.test('the config file accepts the allowed options, and its errors say what they take', async (t) => {
  const says = (settings: object): string => {
    try {
      parseVolumes(JSON.stringify({ volumes: { a: { store: '/x', ...settings } } }), 'FILE');
      return '';
    } catch (error) {
      return (error as Error).message;
    }
  };
  for (const [name, row] of mountOptionRows) {
    t.equal(volumeSettings.has(name), row.isSetting === true, name);
    const { good, bad } = sampleOf(row);
    for (const [word] of good) t.equal(says({ [name]: word }) === '', row.isSetting === true, `${name}: ${word}`);
    // JSON has no NaN.
    for (const word of [...bad.filter((one) => one === one), {}]) {
      t.match(says({ [name]: word }), row.isSetting ? `"${name}" takes ${row.kind.takes}` : `there is no setting "${name}"`);
    }
  }
});

t.test('"volume add" writes options into the config file, and "mount" uses them unless given others', async (t) => {
  const { store, keyFile } = await place.makeVolume();
  place.makeFolder('mnt');
  const words = mountOptionRows.filter(([, row]) => row.isSetting).map(([name, row]) => [name, sampleOf(row).good[0]?.[0]] as const);
  await place.succeed(['volume', 'add', 'all', store, '--key-file', keyFile, ...words.map(([name, word]) => `--${optionOf(name)}=${word}`)]);
  t.match(JSON.parse(readFileSync(place.path('.config', 'sealdrive', 'config.json'), 'utf8')), { volumes: { all: Object.fromEntries(words) } });
  const settings = { store, keyFile, readOnly: true, deviceName: 'named' };
  writeFileSync(place.path('.config', 'sealdrive', 'config.json'), JSON.stringify({ volumes: { all: settings } }));
  await place.succeed(['mount', 'all', place.path('mnt')]);
  t.throws(() => writeFileSync(place.path('mnt', 'a'), 'a'), { code: 'EROFS' });
  await place.succeed(['unmount', 'all']);
  await place.succeed(['mount', 'all', place.path('mnt'), '--no-read-only']);
  writeFileSync(place.path('mnt', 'a'), 'a');
  await place.succeed(['unmount', 'all']);
});

t.test('shell completion and the help know every option', async (t) => {
  const completions = (await place.succeed(['--get-yargs-completions', 'sealdrive', 'mount', '--'])).split('\n');
  const help = await place.succeed(['mount', '--help']);
  const forSettings = await place.succeed(['volume', 'add', '--help']);
  for (const [name, row] of mountOptionRows) {
    t.ok(
      completions.some((one) => one.startsWith(`--${optionOf(name)}`) || one === `--no-${optionOf(name)}`),
      name,
    );
    t.match(help, ` --${optionOf(name)} `, name);
    t.equal(forSettings.includes(` --${optionOf(name)} `), row.isSetting === true, name);
  }
});

t.test('doc/cli.md has the same table', async (t) => {
  const lines = new Set(readFileSync(sourcePath('doc', 'cli.md'), 'utf8').split('\n'));
  const shown = (word: OptionWord | undefined): string => (typeof word === 'boolean' ? (word ? 'yes' : 'no') : String(word ?? ''));
  for (const [name, row] of mountOptionRows) {
    const line = `| \`--${optionOf(name)}\` | ${row.usual ?? shown(row.default)} | ${row.isSetting ? `\`${name}\`` : ''} | ${row.describe} |`;
    t.ok(lines.has(line), line);
  }
});
