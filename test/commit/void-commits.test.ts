/**
 * Commits that break a rule of the chain (doc/format.md, "The chain"): everybody skips them, decides so alike wherever
 * reading began, and goes on. Their author has all the keys of the volume, as a device that was removed has.
 */
import t, { type Test } from 'tap';
import { ByteWriter, toHex } from '../../src/base/bytes.js';
import { type ChainState, chainBeforeCheckpoint, chainFromGenesis } from '../../src/commit/chain.js';
import type { CommitFields } from '../../src/commit/commit-codec.js';
import { encodeCommit } from '../../src/commit/commit-codec.js';
import type { Enrolment } from '../../src/commit/enrolment.js';
import { noFeatures } from '../../src/commit/features.js';
import { KnownCommits } from '../../src/commit/known-commits.js';
import { LocalLog } from '../../src/commit/local-log.js';
import { encodeLogState, newestOfAuthors } from '../../src/commit/log-state.js';
import { findNewest, stateBeforeNewestCheckpoint } from '../../src/commit/newest-checkpoint.js';
import { openCommit } from '../../src/commit/open-commit.js';
import type { LogRecord } from '../../src/commit/record.js';
import type { Sequence } from '../../src/commit/sequence.js';
import type { PackId } from '../../src/pack/pack-id.js';
import { type Author, enrolmentOf, newAuthor, sealPayload } from '../suite/commit-author.js';
import { type Deviation, LogScript } from '../suite/log-script.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';

t.setTimeout(600_000);

/** A log with devices of every kind. */
interface Cast {
  readonly script: LogScript;
  readonly admin: Author;
  readonly writer: Author;
  readonly reader: Author;
  readonly removed: Author;
}

async function makeCast(): Promise<Cast> {
  const script = await LogScript.begin();
  const admin = await script.admit(script.owner, 'admin');
  const writer = await script.admit(admin, 'writer');
  const reader = await script.admit(script.owner, 'reader');
  const removed = await script.admit(script.owner, 'admin');
  await script.write(admin, { records: [{ type: 'removal', deviceIndex: removed.index }] });
  await script.write(writer, { draft: { nextInoCounter: 7, operationSerial: 9, mutations: [['Da', new Uint8Array(1)]] } });
  return { script, admin, writer, reader, removed };
}

const mutations: CommitFields['mutations'] = [['Dforged', new Uint8Array(3)]];
const pack = { id: 'ab'.repeat(16) as PackId, size: 100, epoch: 1, indexHash: new Uint8Array(32) };

/** The next to be admitted, with a certificate of `admitter`, and with `change` of what it does not cover. */
function admission({ script }: Cast, admitter: Author, author = newAuthor(script.state.log.members.length + 1), change: Partial<Enrolment> = {}) {
  const record: LogRecord = { type: 'admission', enrolment: { ...enrolmentOf(author, admitter, script.keys.volumeId), ...change } };
  return { author, record };
}

const stateRecord = ({ script }: Cast, change: Partial<ChainState['log']> = {}): LogRecord => ({
  type: 'state',
  state: { ...script.state.log, ...change },
});

/** Each writes a commit that must not count. */
const forgeries: Readonly<Record<string, (cast: Cast) => Promise<unknown>>> = {
  'by an unknown device': ({ script }) => script.write(newAuthor(9), { draft: { mutations } }),
  'by a removed device': ({ script, removed }) => script.write(removed, { draft: { mutations } }),
  'by a removed device, empty': ({ script, removed }) => script.write(removed),
  'by a reader, with changes': ({ script, reader }) => script.write(reader, { draft: { mutations } }),
  'by a reader, with a pack': ({ script, reader }) => script.write(reader, { draft: { packs: [pack] } }),
  'by a reader, with a checkpoint': ({ script, reader }) => script.checkpoint(reader),
  'signed by another device': ({ script, writer, admin }) => script.write(writer, { draft: { mutations }, signer: admin.signer }),
  "in the owner's name": ({ script, admin }) => script.write(script.owner, { draft: { mutations }, signer: admin.signer }),
  'with a counter that was used': ({ script, writer }) => script.write(writer, { change: (fields) => ({ ...fields, counter: fields.counter - 1 }) }),
  'with a counter that skips one': ({ script, writer }) => script.write(writer, { change: (fields) => ({ ...fields, counter: fields.counter + 1 }) }),
  'with another previous commit': ({ script, writer }) =>
    script.write(writer, { change: (fields) => ({ ...fields, previousOwn: (fields.previousOwn - 1) as Sequence }) }),
  'with inode numbers that go back': ({ script, writer }) => script.write(writer, { draft: { nextInoCounter: 6 } }),
  'with operations that go back': ({ script, writer }) => script.write(writer, { draft: { operationSerial: 8 } }),
  'by the owner, with inode numbers': ({ script, owner = script.owner }: Cast & { owner?: Author }) =>
    script.write(owner, { draft: { nextInoCounter: 1 } }),
  'that names another checkpoint': ({ script, writer }) =>
    script.write(writer, { change: (fields) => ({ ...fields, lastCheckpoint: 2 as Sequence }) }),
  'by a device that admits itself': (cast) => {
    const author = newAuthor(cast.script.state.log.members.length + 1);
    return cast.script.write(author, { records: [admission(cast, author, author).record], draft: { mutations } });
  },
  'by a device that a writer admits': (cast) => {
    const { author, record } = admission(cast, cast.writer);
    return cast.script.write(author, { records: [record] });
  },
  'by a device that a removed admin admits': (cast) => {
    const { author, record } = admission(cast, cast.removed);
    return cast.script.write(author, { records: [record] });
  },
  'by a reader that makes itself an admin': (cast) => {
    const author = newAuthor(cast.script.state.log.members.length + 1);
    const enrolment = { ...enrolmentOf(author, cast.script.owner, cast.script.keys.volumeId, 'reader'), role: 'admin' as const };
    return cast.script.write(author, { records: [{ type: 'admission', enrolment }] });
  },
  'that admits under an index in use': (cast) => {
    const { author, record } = admission(cast, cast.script.owner, newAuthor(2));
    return cast.script.write(author, { records: [record] });
  },
  'that admits under an index to come': (cast) => {
    const { author, record } = admission(cast, cast.script.owner, newAuthor(cast.script.state.log.members.length + 2));
    return cast.script.write(author, { records: [record] });
  },
  'that admits a device again': (cast) => {
    const again = { ...cast.reader, index: cast.script.state.log.members.length + 1 };
    return cast.script.write(cast.admin, { records: [admission(cast, cast.admin, again).record] });
  },
  "that admits two, the second on nobody's word": (cast) => {
    const first = admission(cast, cast.admin);
    const second = newAuthor(first.author.index + 1);
    return cast.script.write(cast.admin, { records: [first.record, admission(cast, second, second).record] });
  },
  'by a writer who admits': (cast) => cast.script.write(cast.writer, { records: [admission(cast, cast.admin).record] }),
  'by a writer who removes': ({ script, writer }) => script.write(writer, { records: [{ type: 'removal', deviceIndex: 1 }] }),
  'by a writer who replaces the keyslots': ({ script, writer }) => script.write(writer, { records: [{ type: 'keyslots', keyslots: [] }] }),
  'by a writer who switches a feature on': ({ script, writer }) =>
    script.write(writer, { records: [{ type: 'features', features: { ...noFeatures, toRead: ['x'] } }] }),
  'by a reader who lets a device lapse': ({ script, reader }) => script.write(reader, { records: [{ type: 'lapse', deviceIndex: 1 }] }),
  'that removes a device that there is not': ({ script, admin }) => script.write(admin, { records: [{ type: 'removal', deviceIndex: 99 }] }),
  'that skips a generation': ({ script, admin }) => script.write(admin, { records: [{ type: 'keyring', keyring: { generation: 3, epochs: [] } }] }),
  'with a checkpoint without the state': ({ script, admin }) =>
    script.checkpoint(admin, undefined, { change: (fields) => ({ ...fields, records: [] }) }),
  'with a checkpoint of what is to come': ({ script, admin }) => script.checkpoint(admin, (script.state.head.sequence + 1) as Sequence),
  'with the state and no checkpoint': (cast) => cast.script.write(cast.admin, { records: [stateRecord(cast)] }),
  'with a checkpoint by somebody who has only the keys': (cast) => {
    const author = newAuthor(1);
    const enrolment = enrolmentOf(author, author, cast.script.keys.volumeId);
    const members = [
      { enrolment, enrolledMs: 0, status: 'active' as const, counter: 0, newest: 0 as Sequence, nextInoCounter: 0, operationSerial: 0 },
    ];
    return cast.script.checkpoint(author, undefined, { change: (fields) => ({ ...fields, records: [stateRecord(cast, { members })] }) });
  },
  'with a checkpoint that names another owner': (cast) => {
    const author = newAuthor(1);
    const enrolment = enrolmentOf(author, { ...author, index: 0 }, cast.script.keys.volumeId);
    const members = [
      { enrolment, enrolledMs: 0, status: 'active' as const, counter: 0, newest: 0 as Sequence, nextInoCounter: 0, operationSerial: 0 },
    ];
    const record = stateRecord(cast, { members, ownerKey: author.signer.publicKey });
    return cast.script.checkpoint(author, undefined, { change: (fields) => ({ ...fields, records: [record] }) });
  },
  'with random bytes inside': ({ script }) => script.append(sealPayload(script.keys, script.fieldsOf(script.owner), Buffer.alloc(500, 7))),
  'with nothing inside': ({ script }) => script.append(sealPayload(script.keys, script.fieldsOf(script.owner), new Uint8Array(0))),
  'with a byte too many': ({ script, writer }) => appendEncoded(script, writer, (bytes) => Buffer.concat([bytes, new Uint8Array(1)])),
  'that is cut short': ({ script, writer }) => appendEncoded(script, writer, (bytes) => bytes.subarray(0, -1)),
  'of another version': ({ script, writer }) =>
    appendEncoded(script, writer, (bytes) => Buffer.concat([[2], bytes.subarray(1)].map((part) => Buffer.from(part)))),
  'for another number than that of its place': ({ script, writer }) =>
    appendEncoded(script, writer, undefined, { change: (fields) => ({ ...fields, sequence: (fields.sequence + 1) as Sequence }) }),
  'with a change of a reserved kind': ({ script, writer }) =>
    appendEncoded(script, writer, undefined, { draft: { mutations: [['Pforged', new Uint8Array(1)]] } }),
  ...Object.fromEntries(
    [0, 8, 9, 10, 11, 12, 255].map((type) => [`with a record of type ${type}`, ({ script, admin }: Cast) => appendRecord(script, admin, type)]),
  ),
};

/** Appends a commit that `author` has signed and `change` has changed, without looking at it. */
function appendEncoded(script: LogScript, author: Author, change = (bytes: Uint8Array) => bytes, deviation: Deviation = {}) {
  const place = script.fieldsOf(author);
  const encoded = encodeCommit(script.fieldsOf(author, deviation), script.keys.volumeId, (message) => author.signer.sign(message));
  return script.append(sealPayload(script.keys, place, change(encoded)));
}

/** Appends a commit whose one record, a lapse, has another type instead; the author has signed it so. */
function appendRecord(script: LogScript, author: Author, type: number) {
  const { volumeId } = script.keys;
  const fields = script.fieldsOf(author, { records: [{ type: 'lapse', deviceIndex: 1 }] });
  const unsigned = new Uint8Array(encodeCommit(fields, volumeId, () => new Uint8Array(0)));
  const at = unsigned.lastIndexOf(3, unsigned.byteLength - 4);
  unsigned[at] = type;
  const label = Buffer.from('sealdrive v1 commit', 'latin1');
  const signature = author.signer.sign(Buffer.concat([label, volumeId, unsigned]));
  return script.append(sealPayload(script.keys, fields, new ByteWriter().bytes(unsigned).bytes(signature).finish()));
}

const pictureOf = ({ log, checkpoint, head }: ChainState): string =>
  JSON.stringify([head.sequence, toHex(head.hash), checkpoint?.sequence, toHex(encodeLogState(log))]);

/** Checks that every way to read the log comes to what its whole history comes to. */
async function expectAgreement(t: Test, { script }: Cast): Promise<void> {
  const whole = pictureOf(script.state);
  for (const sequence of script.checkpoints) {
    const [before, sealed] = [await script.stored.fetch(sequence - 1), await script.stored.fetch(sequence)];
    if (!before || !sealed) throw new Error('both are there');
    const { hash } = await openCommit(script.keys, before, sequence - 1, await hashBefore(script, sequence - 1));
    const state = chainBeforeCheckpoint(await openCommit(script.keys, sealed, sequence, hash), script.genesis.ownerKey);
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
