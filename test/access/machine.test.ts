/** The findings of `doctor` on simulated machines. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import type { MachineProbe } from '../../src/access/machine.js';
import { examineMachine } from '../../src/access/machine.js';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { parseBytes, parseDurationMs } from '../../src/terminal/option-kind.js';
import { formatBytes, plural } from '../../src/terminal/terminal.js';

/** A machine that has everything. */
const wellProbe: MachineProbe = {
  platform: 'linux',
  nodeVersion: '22.1.0',
  kernelRelease: '6.1.0-13-amd64',
  uid: 1000,
  file: () => ({ exists: true, usable: true }),
  findProgram: (name) => `/usr/bin/${name}`,
  readText: () => 'user_allow_other\n',
  loadAddon: () => {},
  freeBytes: () => 2 ** 40,
};

/** The findings that are not `ok`, as `id: state`. */
const found = (change: Partial<MachineProbe>): string[] =>
  examineMachine({ ...wellProbe, ...change }, '/state')
    .filter(({ state }) => state !== 'ok')
    .map(({ id, state }) => `${id}: ${state}`);

t.test('a machine that has everything lacks nothing', async (t) => {
  t.strictSame(found({}), []);
});

t.test('each missing requirement is reported alone and has a remedy', async (t) => {
  const addonFails = (): void => {
    throw new Error('there is no addon');
  };
  const lacks: [Partial<MachineProbe>, string[]][] = [
    [{ nodeVersion: '18.20.4' }, ['node: missing']],
    [{ nodeVersion: '20.18.3' }, ['node: missing']],
    [{ nodeVersion: '20.19.0' }, []],
    [{ kernelRelease: '5.3.18' }, ['kernel: missing']],
    [{ kernelRelease: '5.4.0' }, []],
    [{ platform: 'darwin', kernelRelease: '23.0.0' }, ['kernel: advice']],
    [{ loadAddon: addonFails }, ['addon: missing']],
    [{ file: () => ({ exists: false, usable: false }) }, ['device: missing']],
    [{ file: () => ({ exists: true, usable: false }) }, ['device: missing']],
    [{ findProgram: () => undefined }, ['fusermount3: missing']],
    [{ findProgram: () => undefined, uid: 0 }, ['fusermount3: advice']],
    [{ freeBytes: () => 1000 }, ['space: advice']],
    [{ freeBytes: () => undefined }, []],
    [{ readText: (path) => (path === '/proc/swaps' ? 'Filename Type\n/dev/sda2 partition 1 0\n/dev/zram0 partition 1 0\n' : '') }, ['swap: advice']],
  ];
  for (const [change, expected] of lacks) {
    t.strictSame(found(change), expected, Object.keys(change).join(', '));
    for (const finding of examineMachine({ ...wellProbe, ...change }, '/state')) {
      t.ok(finding.state === 'ok' || finding.remedy, finding.id);
    }
  }
});

t.test('sizes and durations are parsed strictly and printed briefly', async (t) => {
  t.strictSame(['4096', '1k', '1K', '10G', '1.5 MiB', '2tb'].map(parseBytes), [4096, 1024, 1024, 10 * 2 ** 30, 1.5 * 2 ** 20, 2 * 2 ** 40]);
  t.strictSame(['', 'G', '-1', '1e9', '5 bananas', '99999999P'].map(parseBytes), Array(6).fill(undefined));
  t.strictSame(['30', '30s', '5m', '1h', '20ms', '0'].map(parseDurationMs), [30_000, 30_000, 300_000, 3_600_000, 20, 0]);
  t.strictSame(['', 's', '5 minutes', '-1'].map(parseDurationMs), Array(4).fill(undefined));
  t.strictSame([0, 1, 1023, 1536, 10 * 2 ** 20].map(formatBytes), ['0 bytes', '1 byte', '1023 bytes', '1.5 KiB', '10 MiB']);
  t.equal(plural(1, 'file'), '1 file');
  t.equal(plural(1234, 'file'), '1,234 files');
});

t.test('the table of exit codes in doc/cli.md is the one in the program', async (t) => {
  const text = readFileSync(join(resolve(import.meta.dirname, '..', '..', '..'), 'doc', 'cli.md'), 'utf8');
  const rows = [...text.matchAll(/^\| (\d+) \| `(\w+)` \|/gm)].map((match) => [match[2], Number(match[1])]);
  t.strictSame(rows, Object.entries(exitCodes));
});
