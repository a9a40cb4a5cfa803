/**
 * The test command behind `npm test`: lint, types, formatting, and every compiled test under tap. It prints what failed
 * and, as its last line, `N passed, N failed`. Each check counts as one, and so does each assertion of the tests. Words
 * on the command line choose the test files whose path contains one of them (`npm test -- test/cli`); the checks are
 * then left out.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { Parser } from 'tap-parser';

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
  /** The names of failures, repeated at the end, where the reader of a long log looks first. */
  readonly failures: string[];
}

const root = resolve(import.meta.dirname, '..', '..');
const testRoot = join(root, 'dist', 'test');
/** These mount, crash or measure: run beside others they would wait for each other. */
const serialFolders = ['mount', 'crash', 'fuse', 'cli'];
/** Seconds; a hung test is a failure, a long one is not. */
const fileTimeout = 1800;
const parallelJobs = 2;

const checks: readonly (readonly [name: string, program: string, ...parameters: string[]])[] = [
  ['lint', 'oxlint', '--type-aware'],
  ['types', 'tsc', '-p', '.'],
  ['formatting', 'biome', 'check'],
];

const say = (line: string): void => void process.stdout.write(`${line}\n`);

const program = (name: string): string => join(root, 'node_modules', '.bin', name);

/** Runs a tool, and shows its output only when it fails. */
function runCheck(name: string, command: string, parameters: readonly string[], totals: Totals): Promise<void> {
  return new Promise((done) => {
    const child = spawn(program(command), parameters, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    const collect = (data: Buffer): void => {
      output += data.toString('utf8');
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    child.on('error', (error) => {
      output += error.message;
    });
    child.on('close', (code) => {
      if (code === 0) {
        totals.passed++;
      } else {
        totals.failed++;
        totals.failures.push(name);
      }
      say(`${code === 0 ? 'ok    ' : 'FAILED'} ${name}`);
      if (code !== 0) say(output.trimEnd());
      done();
    });
  });
}

/** A line with a warning of Node.js: of something deprecated or experimental, of too many listeners ... */
const nodeWarning = /\(node:\d+\) .*/;

/** Runs test files under tap, reading its TAP as it comes. A warning of Node.js in a test process is a failure. */
function runTests(files: readonly string[], jobs: number, totals: Totals): Promise<void> {
  if (files.length === 0) return Promise.resolve();
  return new Promise((done) => {
    const parameters = ['run', '--reporter=tap', `--jobs=${jobs}`, `--timeout=${fileTimeout}`, '--allow-empty-coverage', ...files];
    const child = spawn(program('tap'), parameters, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    const parser = new Parser();
    createInterface(child.stderr).on('line', (line) => {
      process.stderr.write(`${line}\n`);
      const [warning] = nodeWarning.exec(line) ?? [];
      if (warning === undefined) return;
      failedHere++;
      totals.failures.push(warning);
    });
    const failures: { readonly fullname: string; readonly diag: unknown }[] = [];
    let failedHere = 0;
    parser.on('pass', () => totals.passed++);
    parser.on('fail', (result) => {
      failedHere++;
      failures.push(result);
      totals.failures.push(result.fullname);
    });
    parser.on('skip', (result) => {
      totals.skipped++;
      say(`skip   ${result.fullname}: ${String(result.skip)}`);
    });
    parser.on('assert', (result) => {
      say(`${result.ok ? 'ok    ' : 'FAILED'} ${result.name}${result.time === null ? '' : ` (${(result.time / 1000).toFixed(1)} s)`}`);
      for (const { fullname, diag } of failures.splice(0)) {
        say(`       not ok: ${fullname}`);
        if (diag) say(JSON.stringify(diag, undefined, 2).replaceAll(/^/gm, '         '));
      }
    });
    child.stdout.pipe(parser);
    child.on('error', (error) => say(`FAILED tap cannot be run: ${error.message}`));
    child.on('close', (code) => {
      // tap may fail without a failing assertion: a file that printed nothing, a crash of its own.
      if (code !== 0 && failedHere === 0) {
        failedHere++;
        totals.failures.push(`tap ended with ${code}`);
      }
      totals.failed += failedHere;
      done();
    });
  });
}

const wanted = process.argv.slice(2);
const totals: Totals = { passed: 0, failed: 0, skipped: 0, failures: [] };
if (wanted.length === 0) {
  for (const [name, command, ...parameters] of checks) await runCheck(name, command, parameters, totals);
}
const files = readdirSync(testRoot, { recursive: true, encoding: 'utf8' })
  // The output of a test that was removed may still be in `dist`.
  .filter((file) => file.endsWith('.test.js') && existsSync(join(root, 'test', file.replace(/\.js$/, '.ts'))))
  .filter((file) => wanted.length === 0 || wanted.some((word) => `test/${file}`.includes(word)))
  .map((file) => join('dist', 'test', file))
  .toSorted();
const isSerial = (file: string): boolean => serialFolders.some((folder) => file.startsWith(join('dist', 'test', folder)));
await runTests(
  files.filter((file) => !isSerial(file)),
  parallelJobs,
  totals,
);
await runTests(files.filter(isSerial), 1, totals);
if (files.length === 0) {
  say('FAILED there are no such tests');
  totals.failed++;
}
for (const failure of totals.failures) say(`FAILED ${failure}`);
if (totals.skipped > 0) say(`${totals.skipped} skipped`);
say(`${totals.passed} passed, ${totals.failed} failed`);
process.exitCode = totals.failed === 0 ? 0 : 1;
