/**
 * The device dies while its store is unreliable: requests and answers are lost, and a put of the dead process may still
 * arrive while the next one is at work. Everything promised is there, and nothing that is found is taken for an attack.
 * Every put of every workload is also tried as one that arrives after the next opening (`crash-workload.ts`); all
 * settings with a directory store exercise that store's own discipline.
 */
import t from 'tap';
import { actions, CrashBase, type CrashSetting, tryAllPoints } from '../suite/crash-workload.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';

const seed = testSeed();
const random = new SeededRandom(seed);
const rounds = Number(process.env['TEST_ROUNDS'] ?? 1);
t.setTimeout(0);

const settings: readonly CrashSetting[] = [
  { store: 'memory', folds: false, foreign: false },
  { store: 'memory', folds: true, foreign: true },
];

const named = (name: string): (typeof actions)[number] => {
  const found = actions.find((action) => action.name === name);
  if (!found) throw new Error(`no action is called ${name}`);
  return found;
};

t.test(`a crash at any point is recovered from, also with a store that loses requests and answers (TEST_SEED=${seed})`, async (t) => {
  t.setTimeout(0);
  for (const setting of settings) {
    const base = await CrashBase.make(setting);
    for (let round = 0; round < 3 * rounds; round++) {
      const sequence = [actions[random.below(actions.length)]!, named('flush'), actions[random.below(actions.length)]!, named('flush')];
      const faults = { seed: random.below(2 ** 30), lostRequests: 4, lostAnswers: 4 };
      const { points, recoveries, wrong } = await tryAllPoints(base, sequence, { seed, stride: 7, faults, lossesMax: 8, settleEvery: 4 });
      t.strictSame(wrong.slice(0, 3), [], `${sequence.map(({ name }) => name).join(', ')}: ${points} points, ${recoveries} recoveries`);
    }
  }
});

t.test(`a put by the killed process may arrive after the next opening (TEST_SEED=${seed})`, async (t) => {
  t.setTimeout(0);
  for (const setting of settings) {
    const base = await CrashBase.make(setting);
    for (const action of [named('create'), named('overwrite much'), named('rename over')]) {
      const sequence = [action, named('flush'), named('append to a small file'), named('flush')];
      const { points, recoveries, wrong } = await tryAllPoints(base, sequence, { seed, putsOnly: true, lossesMax: 1, settleEvery: 1 });
      t.strictSame(wrong.slice(0, 3), [], `${action.name}: ${points} points, ${recoveries} recoveries`);
    }
  }
});
