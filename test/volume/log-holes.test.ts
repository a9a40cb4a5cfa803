/**
 * Tests holes in the log: one commit is gone from the store while later ones are there. Every kind of device notices
 * before it shows or puts anything, whichever commit is missing, whatever the store lists, and also while the volume is
 * mounted (doc/security.md, "Holes in the log").
 */
import { cpSync } from 'node:fs';
import t from 'tap';
import { toHex } from '../../src/base/bytes.js';
import { systemClock } from '../../src/base/clock.js';
import { logKey, sequenceOfKey } from '../../src/commit/log-name.js';
import { hashBytes } from '../../src/crypto/hash.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { RootKeys } from '../../src/crypto/volume-keys.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { StoreError } from '../../src/store/object-store.js';
import { createVolume } from '../../src/volume/create-volume.js';
import type { Persona } from '../evil/evil-store.js';
import { EvilStore } from '../evil/evil-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import type { DeviceOptions } from '../suite/test-device.js';
import { TestDevice } from '../suite/test-device.js';
import { testProgram } from '../suite/test-program.js';

t.setTimeout(1_200_000);
const rootSecret = systemRandom.bytes(32);
const ownerSeed = systemRandom.bytes(32);
const root = new RootKeys(new Uint8Array(rootSecret), systemRandom);
const honest = new EvilStore(systemDisk);
const { volumeId } = await createVolume({ store: honest, rootSecret, ownerSeed, random: systemRandom, clock: systemClock, program: testProgram });
const newestWanted = 28;
const checkpointAfter = 14;

async function copyOf(state: string): Promise<string> {
  const copy = await scratchDirectory(t);
  cpSync(state, copy, { recursive: true });
  return copy;
}

async function open(store: EvilStore, state: string | undefined, options: Partial<DeviceOptions> = {}): Promise<TestDevice> {
  const stateDirectory = state === undefined ? await scratchDirectory(t) : await copyOf(state);
  return TestDevice.open({ store, volumeId, rootSecret, ownerSeed }, { disk: systemDisk, stateDirectory, ...options });
}

/** State directories of devices with a history, by the history they have seen. */
const states: Record<string, string> = {};
const newestOf = (store: EvilStore): number => Math.max(...[...store.objects.keys()].map((key) => sequenceOfKey(root, key) ?? 0));

{
  const [a, b, c, reader] = [await scratchDirectory(t), await scratchDirectory(t), await scratchDirectory(t), await scratchDirectory(t)];
  const volume = { store: honest, volumeId, rootSecret, ownerSeed };
  let hasFolded = false;
  for (let step = 0; newestOf(honest) < newestWanted; step++) {
    const folds: boolean = !hasFolded && newestOf(honest) >= checkpointAfter;
    hasFolded ||= folds;
    const foldBounds = folds ? { entries: 1, bytes: 1 } : { entries: 1e6, bytes: 1e9 };
    const device = await TestDevice.open(volume, { disk: systemDisk, stateDirectory: step % 2 === 0 ? a : b, foldBounds });
    await device.volume.refresh();
    await device.write(`file ${step}`, `text of step ${step}`);
    await device.volume.flush();
    await device.close();
    // A device that never writes more than its enrolment, and one that has only read.
    const watches = async (stateDirectory: string, readOnly: boolean): Promise<void> => {
      await (await TestDevice.open(volume, { disk: systemDisk, stateDirectory, readOnly })).close();
    };
    if (step === 3) {
      await watches(c, false);
      states['behind the checkpoint'] = await copyOf(c);
    }
    if (step === 6) await watches(reader, true);
    if (hasFolded && !states['behind'] && newestOf(honest) > checkpointAfter + 6) {
      await watches(c, true);
      states['behind'] = c;
    }
  }
  for (const stateDirectory of [a, b]) await (await TestDevice.open(volume, { disk: systemDisk, stateDirectory })).close();
  states['up to date'] = a;
  states['up to date too'] = b;
  states['has only read'] = reader;
}
const newest = newestOf(honest);
const whole = honest.copy();
const headCodeOf = (sequence: number) => ({
  sequence,
  hashStart: toHex(hashBytes(whole.objects.get(logKey(root, sequence)) ?? rootSecret)).slice(0, 16),
});

type Kind = readonly [name: string, state: string | undefined, options: Partial<DeviceOptions>];
const kinds: readonly Kind[] = [
  ['new', undefined, {}],
  ['new, with the newest head code', undefined, { headCode: headCodeOf(newest) }],
  ['new, with an old head code', undefined, { headCode: headCodeOf(4) }],
  ...Object.entries(states).map(([name, state]): Kind => [name, state, {}]),
];

const withHole = (missing: number): EvilStore => {
  const store = whole.copy();
  store.plant(logKey(root, missing), undefined);
  return store;
};

const listsAll: Persona = {
  name: 'lists objects that it does not deliver',
  list: (prefix) => [...whole.objects.keys()].filter((key) => key.startsWith(prefix)).map((key) => ({ key, size: 1 })),
};
const hidesAfter = (missing: number): Persona => ({
  name: 'lists nothing from the hole on',
  list: (_, honestList) => honestList.filter(({ key }) => (sequenceOfKey(root, key) ?? 0) < missing),
});

/** Requires an integrity error and that nothing was put. Returns what was wrong. */
async function refusal(store: EvilStore, state: string | undefined, options: Partial<DeviceOptions>): Promise<string | undefined> {
  const { writes } = store;
  try {
    const device = await open(store, state, options);
    await device.close();
    return 'was served';
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : error;
    if (!['MISSING', 'ROLLBACK', 'OWN_COMMIT_MISSING'].includes(String(code))) return `ended with ${String(code)}`;
  }
  return store.writes === writes ? undefined : `${store.writes - writes} puts`;
}

t.test('the volume under test has the intended history', async (t) => {
  t.ok(newest >= newestWanted);
  for (const [name, state, options] of kinds) {
    const device = await open(whole.copy(), state, { ...options, readOnly: true });
    await device.volume.refresh();
    t.ok(await device.exists('file 15'), name);
    await device.close();
  }
});

for (const readOnly of [false, true]) {
  for (const [name, state, options] of kinds) {
    t.test(`a device (${name}) refuses each hole, ${readOnly ? 'read-only' : 'read-write'}`, async (t) => {
      const wrong: string[] = [];
      for (let missing = 0; missing < newest; missing++) {
        const judge = async (what: string, persona: Persona | undefined): Promise<void> => {
          const store = withHole(missing);
          store.persona = persona;
          const found = await refusal(store, state, { ...options, readOnly });
          // A device that wrote the commit itself puts it again.
          const isFilled = !readOnly && store.objects.has(logKey(root, missing));
          if (found !== undefined && !isFilled) wrong.push(`without ${missing}, ${what}: ${found}`);
        };
        await judge('an honest list', undefined);
        if (readOnly) continue;
        await judge('a list that ends there', hidesAfter(missing));
        await judge('a list that shows it', listsAll);
      }
      t.strictSame(wrong, []);
    });
  }
}

const away: Persona = {
  name: 'away',
  get: () => {
    throw new StoreError('UNAVAILABLE', 'away');
  },
  put: () => {
    throw new StoreError('UNAVAILABLE', 'away');
  },
  list: () => {
    throw new StoreError('UNAVAILABLE', 'away');
  },
};

t.test('a device that started offline stops and puts nothing when the store returns with a hole', async (t) => {
  const commitsOf = (store: EvilStore): number => [...store.objects.keys()].filter((key) => key.startsWith('log/')).length;
  for (const name of ['up to date', 'up to date too', 'behind the checkpoint']) {
    for (let missing = 0; missing < newest; missing++) {
      const first = missing % 2 === 0 ? 'flush' : 'refresh';
      const store = withHole(missing);
      store.persona = away;
      const device = await open(store, states[name]);
      await device.write('written offline', 'x');
      store.persona = undefined;
      const { writes } = store;
      const outcome = await device.volume[first]().catch((error: unknown) => error);
      if (store.objects.has(logKey(root, missing))) {
        t.equal(outcome, undefined, `${name}, ${missing} is its own`);
        await device.close();
        continue;
      }
      t.match(outcome, { code: 'FENCED' }, `${name}, without ${missing}, ${first}`);
      await t.rejects(device.volume.flush(), { code: 'FENCED' });
      t.equal(commitsOf(store), commitsOf(whole) - 1, 'no commit was put');
      t.ok(store.writes - writes <= 1, 'at most the pack that was under way');
      await device.close();
    }
  }
});

t.test('a mounted device stops at its next poll and never puts into a hole', async (t) => {
  for (const first of ['flush', 'refresh'] as const) {
    const store = whole.copy();
    const [a, b] = [await open(store, states['up to date']), await open(store, states['up to date too'])];
    for (const device of [a, b]) await device.volume.refresh();
    for (const text of ['one', 'two', 'three']) {
      await b.write('of b', text);
      await b.volume.flush();
    }
    const end = newestOf(store);
    store.plant(logKey(root, end - 2), undefined);
    await a.write('of a', 'x');
    await t.rejects(a.volume[first](), { code: 'FENCED' }, first);
    t.notOk(store.objects.has(logKey(root, end - 2)), 'the hole is still one');
    t.match(a.volume.details()['store']?.['lastError'], new RegExp(`commit ${end - 2} is missing`), 'and the reason is reported');
    t.equal(await a.text('of a'), 'x', 'acknowledged changes are still there');
    for (const device of [a, b]) await device.close();
  }
});

t.test('a mounted device whose own head vanished puts it again before anything else', async (t) => {
  const store = whole.copy();
  const device = await open(store, states['up to date']);
  await device.write('first', 'x');
  await device.volume.flush();
  const head = newestOf(store);
  const sealed = store.objects.get(logKey(root, head));
  store.plant(logKey(root, head), undefined);
  await device.write('second', 'x');
  await device.volume.flush();
  t.same(store.objects.get(logKey(root, head)), sealed);
  t.equal(newestOf(store), head + 1);
  await device.close();
});

t.test('an idle mounted device notices a hole in older commits', async (t) => {
  const store = whole.copy();
  const device = await open(store, states['up to date'], { readOnly: true });
  store.plant(logKey(root, newest - 3), undefined);
  let stop: unknown;
  for (let poll = 0; poll < 20; poll++) await device.volume.refresh().catch((error: unknown) => (stop ??= error));
  t.match(stop, { code: 'FENCED' });
  await device.close();
});

t.test('commits that arrive between two requests are not taken for a hole', async (t) => {
  const store = whole.copy();
  const writer = await open(store, states['up to date too']);
  const slow = async (): Promise<void> => {
    await writer.write('race', String(newestOf(store)));
    await writer.volume.flush();
  };
  const get = store.get.bind(store);
  let turns = 0;
  // The other device commits after every third answer: an absent object is there a moment later.
  store.get = async (key, options) => {
    const answer = await get(key, options);
    if (turns > 0 && turns-- % 3 === 0) {
      const left = turns;
      turns = 0;
      await slow();
      turns = left;
    }
    return answer;
  };
  // Each identity is used once: two copies of one would be detected and stopped.
  const racing = kinds.filter(([name]) => !['up to date too', 'behind the checkpoint'].includes(name));
  for (const [name, state, options] of racing) {
    turns = 30;
    const device = await open(store, state, options);
    for (let poll = 0; poll < 5; poll++) {
      turns = 9;
      await device.volume.refresh();
    }
    turns = 0;
    await device.write(`by ${name}`, 'x');
    turns = 9;
    await device.volume.flush();
    turns = 0;
    await device.close();
  }
  await writer.volume.refresh();
  for (const [name] of racing) t.ok(await writer.exists(`by ${name}`), name);
  await writer.close();
});

t.test('late listings and foreign names are not taken for a hole', async (t) => {
  const late = whole.copy();
  late.persona = {
    name: 'late',
    list: (_, honestList) => honestList.filter(({ key }) => !key.startsWith('log/') || Number.parseInt(key.slice(4, 20), 16) % 2 === 0),
  };
  const squatted = whole.copy();
  for (let at = newest + 1; at < newest + 40; at++) squatted.plant(`log/${at.toString(16).padStart(16, '0')}-${'0'.repeat(12)}`, new Uint8Array(300));
  for (const store of [late, squatted]) {
    for (const [name, state, options] of kinds) {
      const device = await open(store.copy(), state, options);
      await device.write('new', 'x');
      await device.volume.flush();
      t.equal(await device.text('new'), 'x', name);
      await device.close();
    }
  }
});
