/**
 * The policies for a log in synced folders over a share of the seeds of `npm run simulate`; and the oracle, which must
 * find planted faults.
 */
import t from 'tap';
import { testSeed } from '../model/seeded-random.js';
import { carried, own, type Policy, policy, runOnce, stopping } from './policies.js';
import type { ConflictRule } from './synced-folders.js';
import { Tally } from './tally.js';

const seed = testSeed();
const seedsEach = 120;
const seedsForFaults = 250;

interface Summary {
  readonly tally: Tally;
  /** What was found, with a seed that shows it. */
  readonly findings: ReadonlyMap<string, number>;
}

function runMany(policy: Policy, conflicts: ConflictRule, isHostile = false, from = seed, seeds = seedsEach): Summary {
  const tally = new Tally();
  const findings = new Map<string, number>();
  for (let at = from; at < from + seeds; at++) {
    const outcome = runOnce(policy, at, conflicts, isHostile);
    tally.merge(outcome.tally);
    for (const finding of outcome.findings) findings.set(finding, at);
  }
  return { tally, findings };
}

const troubles = [
  'half deliveries',
  'deletions delivered',
  'files damaged',
  'folders that went back',
  'crashes',
  'removals',
  'flips over commits of others',
];

for (const conflicts of ['newest', 'random', 'drop'] as const) {
  void t.test(`devices that carry what they leave agree, and nothing that anybody received is lost: ${conflicts} (TEST_SEED=${seed})`, async (t) => {
    const { tally, findings } = runMany(carried, conflicts);
    t.same([...findings], []);
    for (const trouble of troubles) t.ok(tally.sum(trouble) > 0, trouble);
    for (const harm of ['stops', 'rejoins', 'operations of others withdrawn', 'operations before what they build on'])
      t.equal(tally.sum(harm), 0, harm);
  });

  void t.test(`devices that do only their own work again agree when a person resolves the stops: ${conflicts} (TEST_SEED=${seed})`, async (t) => {
    const { tally, findings } = runMany(own, conflicts);
    t.same([...findings], []);
    for (const trouble of [...troubles, 'lost numbers', 'sync conflicts', 'rejoins']) t.ok(tally.sum(trouble) > 0, trouble);
  });
}

void t.test(`a removed device that works together with the store gets nothing into the history (TEST_SEED=${seed})`, async (t) => {
  const { tally, findings } = runMany(carried, 'random', true);
  t.same([...findings], []);
  for (const trouble of ['forged branches', 'histories put back']) t.ok(tally.sum(trouble) > 0, trouble);
  for (const harm of ['stops', 'forged operations in the history']) t.equal(tally.sum(harm), 0, harm);
});

void t.test(`where a removal is not put back, devices stop (TEST_SEED=${seed})`, async (t) => {
  const { tally, findings } = runMany(stopping, 'random', true);
  t.same([...findings], []);
  t.ok(tally.sum('stops') > 0);
});

void t.test('the same seed gives the same life', async (t) => {
  for (const isHostile of [false, true]) {
    const [first, second] = [runOnce(carried, seed, 'random', isHostile), runOnce(carried, seed, 'random', isHostile)];
    t.strictSame([...first.tally.sums], [...second.tally.sums]);
    t.ok(first.tally.sums.size > 0);
  }
});

/** Fixed seeds: what is asked is whether the oracle sees it, and some faults show only now and then. */
const faults: readonly (readonly [title: string, policy: Policy, finding: string, isHostile?: boolean])[] = [
  ['a device follows without carrying what it leaves', policy('', { fault: 'follows-blindly' }), 'an operation that others had received is lost'],
  ['a device repeats what the new history has', policy('', { fault: 'repeats' }), 'an operation was done twice'],
  ['a device carries operations in another order', policy('', { fault: 'reverses' }), 'operations of one device are out of order'],
  ['nobody puts files again that disappear', policy('', { fault: 'never-mends' }), 'devices have different heads'],
  ['a history without a removal is followed', policy('', { fault: 'forgets-removals' }), 'a forged operation is in the history', true],
  [
    'a device forgets what others have built on, and others do not carry it',
    policy('', { carries: 'own', fault: 'forgets-acknowledged' }),
    'an acknowledged operation is lost',
  ],
];

for (const [title, broken, finding, isHostile] of faults) {
  void t.test(`the oracle sees it when ${title}`, async (t) => {
    const { findings } = runMany(broken, 'random', isHostile, 1, seedsForFaults);
    t.ok(findings.has(finding), [...findings.keys()].join(', '));
  });
}
