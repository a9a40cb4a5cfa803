/**
 * Commits that break a rule of the chain (doc/format.md, "The chain"): everybody skips them, decides so alike wherever
 * reading began, and goes on. Their author has all the keys of the volume, as a device that was removed has.
 */
import t, { type Test } from 'tap';
import type { Plaintext } from '../../src/base/brand.js';
import { toHex } from '../../src/base/bytes.js';
import { type ChainState, chainBeforeCheckpoint, chainFromGenesis } from '../../src/commit/chain.js';
import { encodeCommit, padCommit } from '../../src/commit/commit-codec.js';
import { KnownCommits } from '../../src/commit/known-commits.js';
import { LocalLog } from '../../src/commit/local-log.js';
import { commitPlace } from '../../src/commit/log-name.js';
import { encodeLogState, newestOfAuthors } from '../../src/commit/log-state.js';
import { findNewest, stateBeforeNewestCheckpoint } from '../../src/commit/newest-checkpoint.js';
import { openCommit } from '../../src/commit/open-commit.js';
import type { LogRecord } from '../../src/commit/record.js';
import type { Sequence } from '../../src/commit/sequence.js';
import { type Author, newAuthor } from '../suite/commit-author.js';
import { admission, type Cast, forgeries, makeCast, mutations, stateRecord } from '../suite/forgeries.js';
import type { LogScript } from '../suite/log-script.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';

t.setTimeout(600_000);

const commitPlaceOf = ({ state }: LogScript): Uint8Array => commitPlace(state.head.sequence + 1, state.head.hash);

const pictureOf = ({ log, checkpoint, head }: ChainState): string =>
  JSON.stringify([head.sequence, toHex(head.hash), checkpoint?.sequence, toHex(encodeLogState(log))]);

/** Checks that every way to read the log comes to what its whole history comes to. */
async function expectAgreement(t: Test, { script }: Cast): Promise<void> {
  const whole = pictureOf(script.state);
  for (const sequence of script.checkpoints) {
    const [before, sealed] = [await script.stored.fetch(sequence - 1), await script.stored.fetch(sequence)];
    if (!before || !sealed) throw new Error('both are there');
    const { hash } = openCommit(script.keys, before, sequence - 1, await hashBefore(script, sequence - 1));
    const state = chainBeforeCheckpoint(openCommit(script.keys, sealed, sequence, hash), script.genesis.ownerKey);
    if (!state) return void t.fail(`checkpoint ${sequence} is a beginning`);
    t.equal(pictureOf(await script.follow(state)), whole, `from checkpoint ${sequence}`);
  }
  const { keys, genesis, stored } = script;
  const beginning = await stateBeforeNewestCheckpoint(stored, keys, genesis.ownerKey, await findNewest(stored));
  t.equal(pictureOf(await script.follow(beginning ?? chainFromGenesis(keys.volumeId, genesis))), whole, 'a device without history');
  const known = new KnownCommits(keys, stored, new LocalLog(new SimulatedDisk(), '/'));
  const read: number[] = [];
  for await (const commit of known.readUpTo(script.state.head, 0, newestOfAuthors(script.state.log))) read.push(commit.sequence);
  t.strictSame(read, script.counting, 'what is read again is what counts');
}

async function hashBefore(script: LogScript, sequence: number): Promise<Uint8Array> {
  const known = new KnownCommits(script.keys, script.stored, new LocalLog(new SimulatedDisk(), '/'));
  let at = script.state.head;
  while (at.sequence >= sequence) at = await known.before(at);
  return at.hash;
}

for (const [name, forge] of Object.entries(forgeries)) {
  t.test(`a commit ${name} is skipped, and everybody goes on`, async (t) => {
    const cast = await makeCast();
    const { script, writer, admin } = cast;
    for (const isAfterCheckpoint of [false, true]) {
      if (isAfterCheckpoint) await script.checkpoint(writer);
      const before = script.state;
      const count = script.counting.length;
      await forge(cast);
      t.equal(script.counting.length, count, 'it does not count');
      t.equal(script.state.head.sequence, before.head.sequence + 1, 'its number is used up');
      t.strictSame(encodeLogState(script.state.log), encodeLogState(before.log), 'nothing else comes of it');
      t.equal(script.state.checkpoint, before.checkpoint);
      await expectAgreement(t, cast);
      const next = await script.write(writer, { draft: { mutations: [['Dnext', new Uint8Array(1)]] } });
      t.ok(next.commit, 'the next honest commit counts');
      await script.checkpoint(admin);
      await expectAgreement(t, cast);
    }
  });
}

const seed = testSeed();
const rounds = Number(process.env['TEST_ROUNDS'] ?? 6);

t.test(`whoever begins anywhere decides alike, whatever is mixed into the log (TEST_SEED=${seed})`, async (t) => {
  const random = new SeededRandom(seed);
  for (let round = 0; round < rounds; round++) {
    const cast = await makeCast();
    const { script, admin, writer } = cast;
    const kinds = Object.values(forgeries);
    for (let step = 0; step < 40; step++) {
      const at = random.below(10);
      if (at < 4) await kinds[random.below(kinds.length)]?.(cast);
      else if (at < 7) await script.write(at === 6 ? admin : writer, { draft: { mutations: [[`D${step}`, new Uint8Array(1)]] } });
      else if (at === 7) await script.checkpoint(writer, Math.max(1, script.state.head.sequence - random.below(5)) as Sequence);
      else if (at === 8) await script.admit(random.below(2) === 0 ? admin : script.owner, 'reader');
      else await script.write(admin, { records: [{ type: 'lapse', deviceIndex: 1 + random.below(3) }] });
      if (random.below(4) === 0) await expectAgreement(t, cast);
    }
    await expectAgreement(t, cast);
  }
});

t.test('a void commit at the end, or many of them, do not mislead a device without history', async (t) => {
  const cast = await makeCast();
  const { script, writer } = cast;
  const { keys, genesis, stored } = script;
  for (let count = 0; count < 40; count++) await script.write(writer, { draft: { mutations } });
  const expectBeginning = async (number: number, message: string): Promise<void> => {
    const beginning = await stateBeforeNewestCheckpoint(stored, keys, genesis.ownerKey, await findNewest(stored));
    t.equal((beginning?.head.sequence ?? -1) + 1, number, message);
  };
  await expectBeginning(0, 'without a checkpoint at the genesis');
  const old = (await script.checkpoint(writer)).state.head.sequence;
  await expectBeginning(old, 'at the head');
  await script.write(writer);
  const newest = (await script.checkpoint(writer)).state.head.sequence;
  const lies = [0, 2, old, newest - 1, newest + 20, 2 ** 40];
  for (const lie of lies) {
    await script.write(newAuthor(9), { change: (fields) => ({ ...fields, lastCheckpoint: lie as Sequence }) });
    await expectBeginning(newest, `with an unknown device that names ${lie}`);
  }
  for (const name of ['with a checkpoint by somebody who has only the keys', 'with a checkpoint that names another owner', 'with nothing inside']) {
    await forgeries[name]?.(cast);
    await expectBeginning(newest, name);
  }
  for (let count = 0; count < 20; count++) await script.write(newAuthor(9));
  await expectBeginning(newest, 'many');
  await script.write(writer);
  await expectBeginning(newest, 'and an honest one');
  await expectAgreement(t, cast);
});

t.test('a checkpoint in which a device tells another state is skipped, and misleads nobody once another has gone on', async (t) => {
  const cast = await makeCast();
  const { script, admin, writer } = cast;
  const honest = (await script.checkpoint(writer)).state.head.sequence;
  const members = script.state.log.members.map((member) => ({ ...member, status: 'active' as const }));
  const lie = await script.checkpoint(admin, undefined, { change: (fields) => ({ ...fields, records: [stateRecord(cast, { members })] }) });
  t.match(lie.void?.reason, /another state/);
  await script.write(writer);
  t.equal(script.state.checkpoint?.sequence, honest);
  await expectAgreement(t, cast);
});

t.test('a device without history is not misled once the owner or a writer has gone on behind a lying checkpoint', async (t) => {
  const goOn: Readonly<Record<string, (cast: Cast) => Promise<unknown>>> = {
    'the owner': ({ script }) => script.write(script.owner, { records: [{ type: 'keyslots', keyslots: [] }] }),
    'a writer': ({ script, writer }) => script.write(writer),
    'a device that was admitted since': async ({ script, admin }) => {
      await script.write(await script.admit(admin, 'writer'));
    },
    'a writer who had lapsed': async ({ script, admin, writer }) => {
      await script.write(admin, { records: [{ type: 'lapse', deviceIndex: writer.index }] });
      await script.write(writer);
    },
  };
  for (const [who, write] of Object.entries(goOn)) {
    const cast = await makeCast();
    const { script, admin, removed } = cast;
    const { keys, genesis, stored } = script;
    await script.checkpoint(admin);
    const members = script.state.log.members.map((member) => ({ ...member, status: 'active' as const }));
    const lie = await script.checkpoint(removed, undefined, { change: (fields) => ({ ...fields, records: [stateRecord(cast, { members })] }) });
    t.ok(lie.void, 'it is skipped');
    await write(cast);
    for (let strangers = 0; strangers < 3; strangers++) {
      const beginning = await stateBeforeNewestCheckpoint(stored, keys, genesis.ownerKey, await findNewest(stored));
      const found = beginning && (await script.follow(beginning));
      t.equal(found && pictureOf(found), pictureOf(script.state), `${who} has gone on, and then ${strangers} strangers`);
      await script.write(newAuthor(9), { draft: { mutations } });
    }
  }
});

t.test('nothing but its author is looked at in a commit of somebody who may not write', async (t) => {
  const cast = await makeCast();
  const { script, writer, removed } = cast;
  const reserved = [['Pforged', new Uint8Array(1)] as const];
  for (const author of [newAuthor(9), removed]) {
    const extension = await script.write(author, { draft: { mutations: reserved } });
    t.match(extension.void?.reason, /no device of the volume/);
  }
  t.match((await script.write(writer, { draft: { mutations: reserved }, signer: removed.signer })).void?.reason, /has not signed it/);
  t.match((await script.write(writer, { draft: { mutations: reserved } })).void?.reason, /does not decode/);
});

t.test('nothing begins at a checkpoint that its author has not signed, and the rest of it is not looked at', async (t) => {
  const cast = await makeCast();
  const { script, admin, removed } = cast;
  const { keys, genesis } = script;
  const covers = script.state.head.sequence;
  for (const signer of [removed.signer, admin.signer]) {
    const before = script.state.head;
    const checkpoint = { root: undefined, covers, files: 1, bytes: 0 };
    await script.write(admin, { draft: { checkpoint, mutations: [['Pforged', new Uint8Array(1)]] }, signer });
    const sealed = await script.stored.fetch(before.sequence + 1);
    if (!sealed) throw new Error('it was put');
    const opened = openCommit(keys, sealed, before.sequence + 1, before.hash);
    const reads = t.capture(opened, 'isSignedBy', opened.isSignedBy);
    t.equal(chainBeforeCheckpoint(opened, genesis.ownerKey), undefined);
    t.equal(reads().length, 1, 'its signature was looked at, although it does not decode');
  }
});

t.test('a compressed commit does not count, whatever a decompressor makes of it', async (t) => {
  const { script, writer } = await makeCast();
  const encoded = encodeCommit(script.fieldsOf(writer), script.keys.volumeId, (message) => writer.signer.sign(message));
  const padded = Buffer.concat(padCommit(encoded));
  padded[0] = 1;
  t.match(
    (await script.append(script.keys.current.commit.seal(commitPlaceOf(script), padded as Uint8Array as Plaintext))).void?.reason,
    /does not decode/,
  );
});

t.test('a device that lapsed is back with its next commit, and one that was removed is not', async (t) => {
  const { script, admin, writer, removed } = await makeCast();
  const statusOf = ({ index }: Author) => script.state.log.members[index - 1]?.status;
  await script.write(writer, { records: [{ type: 'lapse', deviceIndex: admin.index }] });
  t.equal(statusOf(admin), 'lapsed');
  t.ok((await script.write(admin)).commit);
  t.equal(statusOf(admin), 'active');
  await script.write(admin, { records: [{ type: 'lapse', deviceIndex: removed.index }] });
  t.equal(statusOf(removed), 'removed');
});

t.test('records of every kind count for those who may write them, and a checkpoint keeps what they say', async (t) => {
  const cast = await makeCast();
  const { script, admin, writer } = cast;
  const keyslots = [{ slotId: '0123456789abcdef', type: 'key-file' as const, keyHash: new Uint8Array(32).fill(3), label: 'ü' }];
  const features = { compatible: ['a', 'b'], toWrite: ['c'], toRead: ['d'] };
  const keyring = { generation: 2, epochs: [{ number: 1, key: new Uint8Array(32).fill(4) }] };
  const { record } = admission(cast, admin);
  const written: LogRecord[] = [{ type: 'keyslots', keyslots }, { type: 'features', features }, { type: 'keyring', keyring }, record];
  for (const [index, one] of written.entries())
    t.ok((await script.write(index % 2 === 0 ? admin : script.owner, { records: [one] })).commit, one.type);
  t.strictSame(script.state.log.keyslots, keyslots);
  t.strictSame(script.state.log.features, features);
  t.strictSame(script.state.log.keyring, keyring);
  t.equal(script.state.log.members.length, 5);
  await script.checkpoint(writer);
  await expectAgreement(t, cast);
});
