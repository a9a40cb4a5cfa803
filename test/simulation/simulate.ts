/**
 * Compares the policies for a log in synced folders over many seeds, and prints what happened
 * (doc/decision/0031-whoever-leaves-a-history-carries-it.md). It ends with 1 when the chosen policy has failed.
 *
 *   npm run simulate -- [--seeds 10000] [--from 1] [--policy NAME] [--events]
 */
import { parseArgs } from 'node:util';
import { carried, own, type Policy, runOnce, stopping } from './policies.js';
import type { ConflictRule } from './synced-folders.js';
import { Tally } from './tally.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '10000' },
    from: { type: 'string', default: '1' },
    policy: { type: 'string', default: '' },
    events: { type: 'boolean', default: false },
  },
});
const [from, seeds] = [Number(values.from), Number(values.seeds)];

interface Series {
  readonly policy: Policy;
  readonly conflicts: ConflictRule;
  readonly isHostile: boolean;
}

interface Result {
  readonly failed: number;
  /** Seeds, by what was found. */
  readonly findings: ReadonlyMap<string, readonly number[]>;
  readonly total: Tally;
  /** In how many runs each of them happened. */
  readonly runs: Tally;
}

const series: readonly Series[] = [
  ...[own, carried].flatMap((policy) => (['newest', 'random', 'drop'] as const).map((conflicts) => ({ policy, conflicts, isHostile: false }))),
  { policy: stopping, conflicts: 'random', isHostile: false },
  ...[own, carried, stopping].map((policy) => ({ policy, conflicts: 'random', isHostile: true }) as const),
];

function simulate({ policy, conflicts, isHostile }: Series): Result {
  const [total, runs] = [new Tally(), new Tally()];
  const findings = new Map<string, number[]>();
  const failed = new Set<number>();
  for (let seed = from; seed < from + seeds; seed++) {
    const outcome = runOnce(policy, seed, conflicts, isHostile);
    total.merge(outcome.tally);
    for (const [name, amount] of outcome.tally.sums) if (amount > 0) runs.add(name);
    for (const finding of outcome.findings) {
      failed.add(seed);
      findings.set(finding, [...(findings.get(finding) ?? []), seed]);
    }
  }
  return { failed: failed.size, findings, total, runs };
}

type Column = readonly [title: string, value: (result: Result) => string];

const share = (part: number, whole: number): string => (whole === 0 ? '-' : (part / whole).toFixed(2));
const mean = ({ total, runs }: Result, name: string): string => `${share(total.sum(name), runs.sum(name))} / ${total.max(name)}`;

const columns: readonly Column[] = [
  ['failed', ({ failed }) => `${failed}`],
  ['rejoined', ({ runs }) => `${runs.sum('rejoins')}`],
  ['missing', ({ total }) => `${total.sum('received operations missing at the end')}`],
  ['forged', ({ total }) => `${total.sum('forged operations in the history')}`],
  ['flips', ({ total }) => share(total.sum('flips'), seeds)],
  ['over others', ({ total }) => share(total.sum('flips over commits of others'), seeds)],
  ['deepest', ({ total }) => `${total.max('commits dropped by flips')}`],
  ['withdrawn', ({ total }) => `${total.sum('operations of others withdrawn')}`],
  ['longest', ({ total }) => `${total.max('ticks until what was withdrawn is back')}`],
  ['too early', ({ total }) => `${total.sum('operations before what they build on')}`],
  ['again', ({ total }) => share(total.sum('operations put again'), total.sum('operations'))],
  ['worst', ({ total }) => `${total.max('times one operation was put again')}`],
  ['commits', ({ total }) => share(total.sum('commits'), total.sum('operations'))],
  ['    rounds', (result) => mean(result, 'rounds until all agree')],
];

const nameWidth = 44;
const say = (line: string): void => void process.stdout.write(`${line}\n`);
const row = (name: string, cells: readonly string[]): void =>
  say(name.padEnd(nameWidth) + cells.map((cell, index) => cell.padStart((columns[index]?.[0].length ?? 0) + 3)).join(''));

function report({ policy, conflicts, isHostile }: Series, result: Result): void {
  const name = `${policy.name}; ${conflicts}${isHostile ? '; hostile' : ''}`;
  row(
    name,
    columns.map(([, value]) => value(result)),
  );
  for (const [finding, list] of result.findings) say(`    ${finding}: ${list.length} seeds, such as ${list.slice(0, 3).join(', ')}`);
  if (!values.events) return;
  for (const [event, sum] of [...result.total.sums].toSorted(([a], [b]) => (a < b ? -1 : 1)))
    say(`    ${event}: ${sum} in ${result.runs.sum(event)} runs`);
}

row(
  `${seeds} seeds from ${from}`,
  columns.map(([title]) => title),
);
let hasFailed = false;
for (const one of series.filter(({ policy }) => values.policy === '' || policy.name === values.policy)) {
  const result = simulate(one);
  report(one, result);
  hasFailed ||= one.policy === carried && result.failed > 0;
}
process.exitCode = hasFailed ? 1 : 0;
