/**
 * The policies for a log in synced folders over a share of the seeds of `npm run simulate`; and the oracle, which must
 * find planted faults.
 */
import t from 'tap';
import { testSeed } from '../model/seeded-random.js';
import { chosen, governance, lost, lostNumbers, type Policy, runOnce, siblings } from './policies.js';
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
  void t.test(`siblings converge, and nothing that anybody received is lost or withdrawn: ${conflicts} (TEST_SEED=${seed})`, async (t) => {
    const { tally, findings } = runMany(chosen, conflicts);
    t.same([...findings], []);
    for (const trouble of troubles) t.ok(tally.sum(trouble) > 0, trouble);
    t.equal(tally.sum('operations of others withdrawn'), 0);
    t.equal(tally.sum('operations before what they build on'), 0);
  });

  void t.test(`lost numbers converge when a person resolves the stops: ${conflicts} (TEST_SEED=${seed})`, async (t) => {
    const { tally, findings } = runMany(lost, conflicts);
    t.same([...findings], []);
    for (const trouble of [...troubles, 'lost numbers', 'sync conflicts', 'rejoins']) t.ok(tally.sum(trouble) > 0, trouble);
  });
}

void t.test(`a removed device that works together with the store changes nothing in siblings (TEST_SEED=${seed})`, async (t) => {
  const { tally, findings } = runMany(chosen, 'random', true);
  t.same([...findings], []);
  t.ok(tally.sum('forged branches') > 0);
});

void t.test('the same seed gives the same life', async (t) => {
  for (const isHostile of [false, true]) {
    const [first, second] = [runOnce(chosen, seed, 'random', isHostile), runOnce(chosen, seed, 'random', isHostile)];
    t.strictSame([...first.tally.sums], [...second.tally.sums]);
    t.ok(first.tally.sums.size > 0);
  }
});

/** Fixed seeds: what is asked is whether the oracle sees it, and some faults show only now and then. */
const faults: readonly (readonly [title: string, policy: Policy, finding: string, isHostile?: boolean])[] = [
  ['devices prefer what they saw first', siblings('', { choice: 'first-seen' }), 'devices have different heads'],
  [
    'a device does not put again what it had in a commit',
    siblings('', { carrying: 'no', fault: 'drops-its-own' }),
    'an acknowledged operation is lost',
  ],
  [
    'a device forgets what others have built on',
    siblings('', { carrying: 'no', fault: 'forgets-acknowledged' }),
    'an acknowledged operation is lost',
  ],
  ['a device repeats what the new branch has', siblings('', { carrying: 'no', fault: 'repeats' }), 'an operation was done twice'],
  ['nobody puts files again that disappear', siblings('', { fault: 'never-mends' }), 'devices have different heads'],
  [
    'an anchor counts when each member has written above it',
    siblings('', { carrying: 'no', anchoring: 'simple' }),
    'an anchor is not in the history',
  ],
  ['the records of admins decide', governance, 'a removal was undone', true],
  ['with lost numbers, a device forgets what others have built on', lostNumbers('', 'forgets-acknowledged'), 'an acknowledged operation is lost'],
  ['with lost numbers, any other history is followed', lostNumbers('', 'follows-blindly'), 'an acknowledged operation is lost'],
];

for (const [title, policy, finding, isHostile] of faults) {
  void t.test(`the oracle sees it when ${title}`, async (t) => {
    const { findings } = runMany(policy, 'random', isHostile, 1, seedsForFaults);
    t.ok(findings.has(finding), [...findings.keys()].join(', '));
  });
}
