/**
 * Every operation of the local disk and every put is a place to die: what was promised by then is there afterwards, and nothing is half done.
 * One action at every point; sequences of two and three are sampled. TEST_ROUNDS multiplies the samples; TEST_EXHAUSTIVE=1 tries all of two.
 */
import t from 'tap';
import { CrashBase, type CrashSetting, actions, tryAllPoints } from '../suite/crash-workload.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const seed = testSeed();
const random = new SeededRandom(seed);
const rounds = Number(process.env['TEST_ROUNDS'] ?? 1);
const isExhaustive = process.env['TEST_EXHAUSTIVE'] === '1';
t.setTimeout(0);

const elsewhere = { store: 'memory', folds: false, foreign: false } as const;
const folding = { store: 'memory', folds: true, foreign: false } as const;
const sameDisk = { store: 'directory', folds: false, foreign: false } as const;
const shared = { store: 'memory', folds: false, foreign: true } as const;
const sharedFolding = { store: 'directory', folds: true, foreign: true } as const;
const settings: readonly CrashSetting[] = [elsewhere, folding, sameDisk, shared, sharedFolding];

const describe = ({ store, folds, foreign }: CrashSetting): string =>
  `${store === 'memory' ? 'a store elsewhere' : 'a store on the same disk'}${folds ? ', checkpoints' : ''}${foreign ? ', another device' : ''}`;

const bases = new Map<CrashSetting, CrashBase>();
async function baseOf(setting: CrashSetting): Promise<CrashBase> {
  const base = bases.get(setting) ?? (await CrashBase.make(setting));
  bases.set(setting, base);
  return base;
}

const any = <T>(list: readonly T[]): T => list[random.below(list.length)];

t.test(`one action, cut off at every point (TEST_SEED=${seed})`, async (t) => {
  t.setTimeout(0);
  const base = await baseOf(elsewhere);
  for (const action of actions) {
    const { count, wrong } = await tryAllPoints(base, [action], seed);
    t.strictSame(wrong.slice(0, 3), [], `${action.name}: ${count} points`);
  }
});

t.test(`opening, a flush and closing, cut off at every point (TEST_SEED=${seed})`, async (t) => {
  t.setTimeout(0);
  const flush = actions.filter(({ name }) => name === 'flush');
  for (const setting of settings) {
    const { count, wrong } = await tryAllPoints(await baseOf(setting), flush, seed, { whole: true, stride: isExhaustive ? 1 : 2 });
    t.strictSame(wrong.slice(0, 3), [], `${describe(setting)}: ${count} points`);
  }
});

async function sample(
  t: { setTimeout(ms: number): void; pass(name: string): unknown; strictSame(found: unknown, wanted: unknown, name: string): unknown },
  length: number,
  count: number,
): Promise<void> {
  t.setTimeout(0);
  let points = 0;
  for (let round = 0; round < count; round++) {
    const sequence = Array.from({ length }, () => any(actions));
    const setting = any(settings);
    const tried = await tryAllPoints(await baseOf(setting), sequence, random.below(2 ** 30), { stride: 3 });
    points += tried.count;
    if (tried.wrong.length > 0) t.strictSame(tried.wrong.slice(0, 3), [], `${sequence.map(({ name }) => name).join(', ')}: ${describe(setting)}`);
  }
  t.pass(`${points} points`);
}

t.test(`two actions (TEST_SEED=${seed})`, async (t) => {
  if (!isExhaustive) return sample(t, 2, 10 * rounds);
  t.setTimeout(0);
  for (const setting of settings) {
    for (const first of actions) {
      const wrong: string[] = [];
      let points = 0;
      for (const second of actions) {
        const tried = await tryAllPoints(await baseOf(setting), [first, second], seed);
        wrong.push(...tried.wrong);
        points += tried.count;
      }
      t.strictSame(wrong.slice(0, 3), [], `${first.name}, then any: ${describe(setting)}: ${points} points`);
    }
  }
});

t.test(`three actions (TEST_SEED=${seed})`, (t) => sample(t, 3, 8 * rounds));
