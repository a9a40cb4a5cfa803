/**
 * The independent reader and the drive decide alike which commits count (doc/format.md, "The chain"), from the genesis
 * on and from the newest checkpoint on, whatever somebody with the keys has put into the log.
 */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { noFeatures, workFeatures } from '../../src/commit/features.js';
import type { LogRecord } from '../../src/commit/record.js';
import type { Sequence } from '../../src/commit/sequence.js';
import type { PackId } from '../../src/pack/pack-id.js';
import { SeededRandom, testSeed } from '../model/seeded-random.js';
import { type Author, newAuthor, ownerOf } from '../suite/commit-author.js';
import { exportStore } from '../suite/export-store.js';
import { admission, type Cast, forgeries, makeCast, stateRecord, workOf } from '../suite/forgeries.js';
import type { Deviation } from '../suite/log-script.js';
import { scratchDirectory } from '../suite/scratch.js';
import { addKeyFile } from './fresh-volume.js';
import { runReader } from './independent-reader.js';

t.setTimeout(0);
const seed = testSeed();
const random = new SeededRandom(seed);

/** Checks that the reader skips just the commits that the drive skips. */
async function expectAgreement(t: Test, { script }: Cast): Promise<void> {
  const scratch = await scratchDirectory(t);
  const [store, keyFile] = [join(scratch, 'store'), join(scratch, 'key')];
  const { rootSecret, ownerSeed, keys } = script;
  await addKeyFile({ store: script.store, rootSecret, ownerSeed, volumeId: keys.volumeId }, keyFile);
  await exportStore(script.store, store);
  const head = script.state.head.sequence;
  const skipped = Array.from({ length: head }, (_, index) => index + 1).filter((sequence) => !script.counting.includes(sequence));
  const begins = script.checkpoints.at(-1);
  for (const from of [0, ...(begins === undefined ? [] : [begins])]) {
    const options = from === 0 ? [] : ['--from-checkpoint'];
    const { stdout, stderr } = await runReader('verify', store, '--key-file', keyFile, '--json', ...options);
    t.notMatch(stderr, /Traceback/);
    const found = JSON.parse(stdout || '{"void": {}}') as { readonly head?: number; readonly void: Record<string, string> };
    t.equal(found.head, head, stderr);
    t.strictSame(
      Object.keys(found.void).map(Number),
      skipped.filter((sequence) => sequence > from),
      `what is skipped behind ${from} (TEST_SEED=${seed})`,
    );
  }
}

t.test('the reader skips what the drive skips, and nothing else', async (t) => {
  const cast = await makeCast();
  for (const forge of Object.values(forgeries)) {
    await forge(cast);
    if (random.chance(0.3)) await cast.script.write(cast.writer);
  }
  await cast.script.checkpoint(cast.writer);
  for (const forge of Object.values(forgeries)) await forge(cast);
  await cast.script.write(cast.writer);
  await expectAgreement(t, cast);
});

t.test('the reader and the drive decide alike whatever the order of records is', async (t) => {
  const cast = await makeCast();
  const { script, admin, owner = script.owner } = cast as Cast & { owner?: Author };
  const next = (offset = 0): Author => newAuthor(script.state.log.members.length + 1 + offset);
  const removal = (author: Author): LogRecord => ({ type: 'removal', deviceIndex: author.index });
  for (const isReversed of [false, true]) {
    const write = (author: Author, records: readonly LogRecord[]) => script.write(author, { records: isReversed ? records.toReversed() : records });
    const first = admission(cast, admin, next());
    await write(first.author, [first.record, { type: 'lapse', deviceIndex: admin.index }]);
    const itself = admission(cast, owner, next());
    await write(itself.author, [itself.record, removal(itself.author)]);
    const own = admission(cast, admin, next(isReversed ? 1 : 0));
    const other = admission(cast, owner, next(isReversed ? 0 : 1));
    await write(own.author, [own.record, other.record]);
    const child = admission(cast, admin, next(1));
    await write(child.author, [admission(cast, owner, next()).record, child.record]);
    const heir = admission(cast, admin, next());
    await write(heir.author, [heir.record, removal(admin)]);
  }
  await expectAgreement(t, cast);
});

t.test('the reader and the drive decide alike about work', async (t) => {
  const cast = await makeCast();
  const { script, admin, writer } = cast;
  let [ofAdmin, ofWriter] = [1_000_000, 1_000_000];
  for (let round = 0; round < 40; round++) {
    const isAdmin = random.chance(0.5);
    const [author, other, ownSerial, otherSerial] = isAdmin ? [admin, writer, ofAdmin, ofWriter] : [writer, admin, ofWriter, ofAdmin];
    const [own, carried] = [ownSerial + random.below(3), otherSerial + random.below(3)];
    const records = random.pick([[workOf(author, own, false)], [workOf(other, carried)], [workOf(other, carried), workOf(author, own, false)]]);
    const extension = await script.write(author, {
      records,
      draft: { operationSerial: Math.max(own, script.state.log.members[author.index - 1]!.operationSerial) },
    });
    if (extension.void) continue;
    ofAdmin = script.state.log.members[admin.index - 1]!.operationSerial;
    ofWriter = script.state.log.members[writer.index - 1]!.operationSerial;
  }
  await script.checkpoint(admin);
  for (const features of [noFeatures, workFeatures]) {
    await script.write(admin, { records: [{ type: 'features', features }] });
    const extension = await script.write(writer, { records: [workOf(admin, ++ofAdmin)] });
    t.equal(extension.void === undefined, features === workFeatures);
  }
  await expectAgreement(t, cast);
});

t.test('a checkpoint that lies about who was removed does not mislead the reader once somebody has gone on', async (t) => {
  const goOn: readonly ((cast: Cast) => Promise<unknown>)[] = [
    ({ script, writer }) => script.write(writer),
    ({ script }) => script.write(script.owner),
    async ({ script, admin }) => script.write(await script.admit(admin, 'writer')),
  ];
  for (const write of goOn) {
    const cast = await makeCast();
    const { script, admin, removed } = cast;
    await script.checkpoint(admin);
    const members = script.state.log.members.map((member) => ({ ...member, status: 'active' as const }));
    await script.checkpoint(removed, undefined, { change: (fields) => ({ ...fields, records: [stateRecord(cast, { members })] }) });
    await write(cast);
    await script.write(newAuthor(9));
    await expectAgreement(t, cast);
  }
});

/** Some author's commit, which may break any rule, or none. */
class RandomCommits {
  readonly #cast: Cast;
  readonly #authors: Author[];

  constructor(cast: Cast) {
    this.#cast = cast;
    const { script, admin, writer, reader, removed } = cast;
    this.#authors = [ownerOf(script.ownerSeed), admin, writer, reader, removed];
  }

  async write(): Promise<void> {
    const { script } = this.#cast;
    const records = Array.from({ length: random.pick([0, 0, 1, 1, 2, 3]) }, () => this.#record());
    const enrols = random.chance(0.3) ? this.#admission(script.state.log.members.length + 1) : undefined;
    if (enrols) records.splice(random.below(records.length + 1), 0, enrols.record);
    const author = enrols && random.chance(0.7) ? enrols.author : random.pick(this.#authors);
    const deviation: Deviation = { records, ...this.#deviation() };
    const isCheckpoint = random.chance(0.15);
    const covers = Math.max(0, script.state.head.sequence - random.below(3) + random.pick([0, 0, 0, 1, 2])) as Sequence;
    const { commit } = isCheckpoint ? await script.checkpoint(author, covers, deviation) : await script.write(author, deviation);
    if (commit && enrols) this.#authors.push(enrols.author);
  }

  #admission(index: number): { readonly author: Author; readonly record: LogRecord } {
    const author = newAuthor(index + (random.chance(0.15) ? random.below(3) - 1 : 0));
    return admission(this.#cast, random.chance(0.1) ? author : random.pick(this.#authors), author, {}, random.pick(['admin', 'writer', 'reader']));
  }

  #record(): LogRecord {
    const { script } = this.#cast;
    const { members, keyring } = script.state.log;
    const deviceIndex = random.below(members.length + 2);
    switch (random.below(7)) {
      case 0:
        return { type: 'removal', deviceIndex };
      case 1:
      case 2:
        return { type: 'lapse', deviceIndex };
      case 3:
        return {
          type: 'keyslots',
          keyslots: [{ slotId: '0123456789abcdef', type: 'key-file', keyHash: new Uint8Array(32), label: random.pick(['', 'ü', '\ufeffx']) }],
        };
      case 4:
        return { type: 'features', features: { compatible: random.pick([[], ['a'], ['b', 'c']]), toWrite: [], toRead: [] } };
      case 5:
        return this.#admission(members.length + 1 + random.below(2)).record;
      default:
        return random.chance(0.5)
          ? stateRecord(this.#cast)
          : { type: 'keyring', keyring: { generation: keyring.generation + random.below(2), epochs: [] } };
    }
  }

  #deviation(): Deviation {
    const draft = {
      ...(random.chance(0.3) ? { nextInoCounter: random.below(10) } : {}),
      ...(random.chance(0.3) ? { operationSerial: random.below(10) } : {}),
      ...(random.chance(0.3)
        ? { mutations: [[`${random.pick(['I', 'D', 'N', 'E', 'X', 'O', 'P', 'C', 'd', '\0'])}k`, new Uint8Array(1)] as const] }
        : {}),
      ...(random.chance(0.1)
        ? { packs: [{ id: 'ab'.repeat(16) as PackId, size: random.below(1000), epoch: random.below(3), indexHash: new Uint8Array(32) }] }
        : {}),
    };
    if (random.chance(0.9)) return { draft };
    const signer = random.pick(this.#authors).signer;
    return {
      draft,
      signer,
      change: (fields) => ({
        ...fields,
        counter: fields.counter + random.below(2),
        lastCheckpoint: (fields.lastCheckpoint + random.below(2)) as Sequence,
      }),
    };
  }
}

t.test(`the reader and the drive decide alike about whatever is written (TEST_SEED=${seed})`, async (t) => {
  for (let round = 0; round < 3; round++) {
    const cast = await makeCast();
    const commits = new RandomCommits(cast);
    for (let step = 0; step < 150; step++) await commits.write();
    await expectAgreement(t, cast);
  }
});
