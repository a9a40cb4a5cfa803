/**
 * The device dies while its store is unreliable: requests and answers get lost, and a put of the dead process may arrive after all, when the
 * next one works already. What was promised is there, and nothing of what is found is taken for an attack.
 */
import t from 'tap';
import { CrashBase, type CrashSetting, type StoreFaults, actions, referenceOf, tryAllPoints, tryPoint } from '../suite/crash-workload.js';
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

t.test(`a store that loses requests and answers, and a crash at any point (TEST_SEED=${seed})`, async (t) => {
  t.setTimeout(0);
  const faults = (pointSeed: number): StoreFaults => ({ seed: pointSeed, lostRequests: 4, lostAnswers: 4 });
  for (const setting of settings) {
    const base = await CrashBase.make(setting);
    for (let round = 0; round < 2 * rounds; round++) {
      const sequence = [actions[random.below(actions.length)], named('flush'), actions[random.below(actions.length)], named('flush')];
      const { count, wrong } = await tryAllPoints(base, sequence, random.below(2 ** 30), { stride: 9, faults });
      t.strictSame(wrong.slice(0, 3), [], `${sequence.map(({ name }) => name).join(', ')}: ${count} points`);
    }
  }
});

t.test(`a put of the dead process arrives before, during or never after the next opening (TEST_SEED=${seed})`, async (t) => {
  t.setTimeout(0);
  for (const setting of settings) {
    const base = await CrashBase.make(setting);
    for (const action of [named('create'), named('overwrite much'), named('rename over')]) {
      const sequence = [action, named('flush'), named('append to a small file'), named('flush')];
      const reference = await referenceOf(base, sequence);
      let count = 0;
      const wrong: string[] = [];
      for (const kind of ['process', 'power'] as const) {
        for (let hangs = 0, done = false; !done; hangs++) {
          for (let late = 0; late < 3; late++) {
            const pointSeed = 15 * random.below(2 ** 20) + late;
            const faults = { seed: pointSeed, lostRequests: 0, lostAnswers: 0, hangs };
            const found = await tryPoint(base, sequence, reference, { kind, put: Number.POSITIVE_INFINITY, seed: pointSeed, whole: false, faults });
            done = found === undefined;
            if (found === undefined) break;
            count++;
            for (const text of found) wrong.push(`${kind}, put ${hangs}, ${late}: ${text}`);
          }
        }
      }
      t.strictSame(wrong.slice(0, 3), [], `${action.name}: ${count} times`);
    }
  }
});
