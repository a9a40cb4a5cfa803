/**
 * Every operation of the local disk and every put is a crash point: everything promised by then is there afterwards,
 * and nothing is half done. Single actions are tried in every way at every point; sequences of two and three are
 * sampled. TEST_ROUNDS multiplies the samples; all sequences of two are `npm run crash-points`.
 */
import t from 'tap';
import { actions, addTally, CrashBase, type CrashSetting, type CrashTally, emptyTally, tryAllPoints } from '../suite/crash-workload.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { crashSettings, settingName } from './crash-points.js';

const seed = testSeed();
const random = new SeededRandom(seed);
const rounds = Number(process.env['TEST_ROUNDS'] ?? 1);
t.setTimeout(0);

const bases = new Map<CrashSetting, CrashBase>();
async function baseOf(setting: CrashSetting): Promise<CrashBase> {
  const base = bases.get(setting) ?? (await CrashBase.make(setting));
  bases.set(setting, base);
  return base;
}

const any = <T>(list: readonly T[]): T => list[random.below(list.length)]!;
const counts = ({ points, outcomes, recoveries }: CrashTally): string => `${points} points, ${outcomes} outcomes, ${recoveries} recoveries`;

t.test(`a volume recovers from one action that was cut off at any point (TEST_SEED=${seed})`, async (t) => {
  t.setTimeout(0);
  const base = await baseOf(crashSettings[0]!);
  for (const action of actions) {
    const tally = await tryAllPoints(base, [action], { seed, settleEvery: 4 });
    t.strictSame(tally.wrong.slice(0, 3), [], `${action.name}: ${counts(tally)}`);
  }
});

t.test(`a volume recovers from an opening, a flush and a close that were cut off at any point (TEST_SEED=${seed})`, async (t) => {
  t.setTimeout(0);
  const flush = actions.filter(({ name }) => name === 'flush');
  for (const setting of crashSettings) {
    const tally = await tryAllPoints(await baseOf(setting), flush, { seed, whole: true, stride: 5, settleEvery: 4 });
    t.strictSame(tally.wrong.slice(0, 3), [], `${settingName(setting)}: ${counts(tally)}`);
  }
});

t.test(`a volume recovers when the recovery is cut off too (TEST_SEED=${seed})`, async (t) => {
  t.setTimeout(0);
  const [first, second] = [any(actions), any(actions)];
  const tally = await tryAllPoints(await baseOf(any(crashSettings)), [first, second], {
    seed,
    nested: true,
    stride: 8,
    settleEvery: 8,
    lossesMax: 0,
  });
  t.strictSame(tally.wrong.slice(0, 3), [], `${first.name}, ${second.name}: ${counts(tally)}`);
});

for (const [length, count] of [
  [2, 10],
  [3, 8],
] as const) {
  t.test(`${length} actions (TEST_SEED=${seed})`, async (t) => {
    t.setTimeout(0);
    const total = emptyTally();
    for (let round = 0; round < count * rounds; round++) {
      const sequence = Array.from({ length }, () => any(actions));
      const setting = any(crashSettings);
      const options = { seed: random.below(2 ** 30), stride: 5, settleEvery: 8, lossesMax: 8 };
      addTally(total, await tryAllPoints(await baseOf(setting), sequence, options));
    }
    t.strictSame(total.wrong.slice(0, 3), [], counts(total));
  });
}
