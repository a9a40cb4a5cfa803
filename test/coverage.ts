/**
 * The command behind `npm run coverage`: runs the tests that its words choose (test/run.ts), and prints which part of
 * each layer they reach. V8 counts in every process that the tests start, commands and daemons included, unless it is
 * killed. `coverage/index.html` shows every line. It judges nothing: a low figure is a hint where tests are missing.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';

interface Counted {
  readonly total: number;
  readonly covered: number;
}
type Summary = Readonly<Record<string, { readonly lines: Counted; readonly branches: Counted }>>;

const root = resolve(import.meta.dirname, '..', '..');
const folder = join(root, 'coverage');
const raw = join(folder, 'raw');

const say = (line: string): void => void process.stdout.write(`${line}\n`);

const run = (program: string, parameters: readonly string[], env: NodeJS.ProcessEnv = process.env): number =>
  spawnSync(program, parameters, { cwd: root, env, stdio: 'inherit' }).status ?? 1;

const percent = ({ total, covered }: Counted): string => (total === 0 ? '-' : `${((100 * covered) / total).toFixed(1)} %`);
const row = (name: string, lines: Counted, branches: Counted): string =>
  `${name.padEnd(40)} ${percent(lines).padStart(8)} ${percent(branches).padStart(8)}`;
const sum = (counts: readonly Counted[]): Counted => ({
  total: counts.reduce((total, count) => total + count.total, 0),
  covered: counts.reduce((total, count) => total + count.covered, 0),
});

rmSync(folder, { recursive: true, force: true });
// V8's counts for a bundle cannot be mapped back to the lines of its sources, so the program runs unbundled.
const command = join(root, 'dist', 'command', 'main.js');
writeFileSync(command, "export { main } from '../src/cli/main.js';\n");
const tests = join(root, 'dist', 'test', 'run.js');
const status = run(process.execPath, ['--enable-source-maps', tests, ...process.argv.slice(2)], { ...process.env, NODE_V8_COVERAGE: raw });
run('npm', ['run', '-s', 'build:command']);

const reporters = ['html', 'json-summary'].map((name) => `--reporter=${name}`);
const c8 = [
  'report',
  `--temp-directory=${raw}`,
  `--reports-dir=${folder}`,
  ...reporters,
  '--merge-async',
  '--exclude-after-remap',
  '--include=src/**',
];
const reported = run(join(root, 'node_modules', '.bin', 'c8'), c8);
if (reported === 0) {
  const { total: _, ...files } = JSON.parse(readFileSync(join(folder, 'coverage-summary.json'), 'utf8')) as Summary;
  const entries = Object.entries(files).map(([path, counted]) => ({ path: relative(join(root, 'src'), path).split(sep), ...counted }));
  say(`\n${'file'.padEnd(40)} ${'lines'.padStart(8)} ${'branches'.padStart(8)}`);
  for (const layer of new Set(entries.map(({ path }) => path[0]))) {
    const ofLayer = entries.filter(({ path }) => path[0] === layer);
    say(row(`src/${layer}`, sum(ofLayer.map(({ lines }) => lines)), sum(ofLayer.map(({ branches }) => branches))));
    for (const { path, lines, branches } of ofLayer) say(row(`  ${path.slice(1).join('/')}`, lines, branches));
  }
}
process.exitCode = status || reported;
