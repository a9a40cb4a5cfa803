/**
 * `salvage` on commits that were forged by somebody who has the keys of the volume and the store, but is not one of its
 * devices: files written by devices are never replaced, and files found only in forgeries are kept apart.
 */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import type { Plaintext, Sealed } from '../../src/base/brand.js';
import type { CommitCopies } from '../../src/check/commit-copies.js';
import { noCopies, openCommitCopies } from '../../src/check/commit-copies.js';
import { readLocalTrust } from '../../src/check/local-anchor.js';
import { LocalTree } from '../../src/check/local-tree.js';
import type { SalvageOptions, SalvageReport } from '../../src/check/salvage-volume.js';
import { isComplete, salvageVolume } from '../../src/check/salvage-volume.js';
import type { ChainState } from '../../src/commit/chain.js';
import { chainFromGenesis, extendChain } from '../../src/commit/chain.js';
import type { Mutation } from '../../src/commit/commit.js';
import type { CommitFields } from '../../src/commit/commit-codec.js';
import type { DeviceId } from '../../src/commit/enrolment.js';
import { openCommit } from '../../src/commit/open-commit.js';
import type { LogRecord } from '../../src/commit/record.js';
import type { Sequence } from '../../src/commit/sequence.js';
import { hashBytes } from '../../src/crypto/hash.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { Inode } from '../../src/meta/inode.js';
import { encodeInode, S_IFREG } from '../../src/meta/inode.js';
import { direntKey, inodeKey, makeIno, rootIno } from '../../src/meta/key.js';
import { type Author, enrolmentOf, newAuthor, ownerOf, sealCommit } from '../suite/commit-author.js';
import { scratchDirectory } from '../suite/scratch.js';
import { DamagedVolume, entry } from './damaged-volume.js';

t.setTimeout(600_000);

async function salvage(volume: DamagedVolume, options: Partial<SalvageOptions> = {}): Promise<{ report: SalvageReport; folder: string }> {
  const folder = await scratchDirectory(volume.t);
  const report = await LocalTree.use(folder, (target) =>
    salvageVolume({ ...volume.volume, random: systemRandom, copies: noCopies, target, ...options }),
  );
  return { report, folder };
}

/** An attacker who can seal commits, and signs them with its own key. */
class Forger {
  readonly #volume: DamagedVolume;
  readonly #self: Author;

  constructor(volume: DamagedVolume, index = 9) {
    this.#volume = volume;
    this.#self = newAuthor(index);
  }

  get id(): DeviceId {
    return this.#self.id;
  }

  /** How it enrols on its own word, or on that of `admitter`. */
  admission(admitter = this.#self): LogRecord {
    return { type: 'admission', enrolment: enrolmentOf(this.#self, admitter, this.#volume.volume.volumeId) };
  }

  async sealed(sequence: number): Promise<Uint8Array> {
    const bytes = await this.#volume.store.get(this.#volume.commitKey(sequence));
    if (!bytes) throw new Error(`there is no commit ${sequence}`);
    return bytes;
  }

  async previousHash(sequence: number): Promise<Uint8Array> {
    return sequence === 1 ? this.#volume.volume.volumeId : hashBytes(await this.sealed(sequence - 1));
  }

  async read(sequence: number): Promise<CommitFields> {
    const opened = openCommit(this.#volume.keys, await this.sealed(sequence), sequence, await this.previousHash(sequence));
    if (!opened.decoded) throw new Error(`commit ${sequence} is malformed`);
    return opened.decoded;
  }

  /**
   * Puts a commit at number `sequence`, replacing any other. Without an author in `fields` it seems to come from that
   * of its predecessor.
   */
  async put(sequence: number, mutations: readonly Mutation[], fields: Partial<CommitFields> = {}): Promise<void> {
    const { keys, store } = this.#volume;
    const previousHash = await this.previousHash(sequence);
    const like = fields.author ? undefined : await this.read(sequence - 1).catch(() => undefined);
    const commit: CommitFields = {
      sequence: sequence as Sequence,
      previousHash,
      author: like?.author ?? this.#self.id,
      counter: (like?.counter ?? 0) + 1,
      previousOwn: (like ? sequence - 1 : 0) as Sequence,
      wallTimeMs: 0,
      program: [0, 0, 0],
      lastCheckpoint: like?.lastCheckpoint ?? (0 as Sequence),
      nextInoCounter: like?.nextInoCounter ?? 0,
      operationSerial: like?.operationSerial ?? 0,
      filesDelta: 0,
      bytesDelta: 0,
      records: [],
      packs: [],
      checkpoint: undefined,
      mutations: mutations.toSorted(([a], [b]) => (a < b ? -1 : 1)),
      ...fields,
    };
    const key = this.#volume.commitKey(sequence);
    await store.delete([key]);
    await store.put(key, sealCommit(keys, commit, this.#self.signer));
  }
}

const planted = makeIno(77, 5);

/** Mutations that empty `later`, and add a file. */
async function mischief(volume: DamagedVolume): Promise<Mutation[]> {
  const { ino, inode } = await volume.inode('later');
  const forged: Inode = { ...inode, size: 6, inline: Buffer.from('forged') as Uint8Array as Plaintext };
  return [[inodeKey(ino), encodeInode(forged)], ...entry(rootIno, 'planted', planted, S_IFREG), [inodeKey(planted), encodeInode(forged)]];
}

/** `tree/` has what the devices wrote, and only `unproven/` has the forger's files. */
function expectApart(t: Test, folder: string, report: SalvageReport, genuine: Buffer): void {
  t.ok(readFileSync(join(folder, 'tree/later')).equals(genuine), 'the file that a device wrote is itself');
  t.notOk(existsSync(join(folder, 'tree/planted')), 'nothing is added to it');
  t.equal(readFileSync(join(folder, 'unproven/tree/planted'), 'utf8'), 'forged');
  t.notOk(isComplete(report), 'and it is said');
}

t.test('a commit that no device of the volume signed replaces nothing', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const genuine = await contentOf(volume, 'later');
  const changes = await mischief(volume);
  const forged = volume.newest + 1;
  await new Forger(volume).put(forged, [...changes, [direntKey(rootIno, 'many'), null]]);
  const { report, folder } = await salvage(volume);
  expectApart(t, folder, report, genuine);
  t.strictSame(report.unprovenCommits, [forged]);
  t.equal(report.sequence, volume.newest);
  t.notOk(report.mayBeStale, 'nothing is lost where it stands');
  t.strictSame(readdirSync(join(folder, 'unproven/tree')).toSorted(), ['later', 'planted'], 'only what is not in tree/ already');
  t.equal(statSync(join(folder, 'unproven/tree/later')).size, 6);
  t.equal(readdirSync(join(folder, 'tree/many')).length, 12, 'what it removed is there');
});

t.test('a device that enrols on top of such a forgery replaces nothing', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const genuine = await contentOf(volume, 'later');
  const changes = await mischief(volume);
  const forger = new Forger(volume);
  await forger.put(volume.newest + 1, []);
  const author = forger.id;
  await forger.put(volume.newest + 2, changes, { author, records: [forger.admission()] });
  await forger.put(volume.newest + 3, [], { author, counter: 2, previousOwn: (volume.newest + 2) as Sequence });
  const { report, folder } = await salvage(volume);
  expectApart(t, folder, report, genuine);
  t.strictSame(
    report.unprovenCommits,
    [1, 2, 3].map((more) => volume.newest + more),
  );
});

t.test('a forged checkpoint behind a gap that names only the forger replaces nothing', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const genuine = await contentOf(volume, 'later');
  const changes = await mischief(volume);
  const forger = new Forger(volume);
  const { newest } = volume;
  // Anybody can put two commits that nobody can open.
  for (const more of [1, 2]) await volume.store.put(volume.commitKey(newest + more), Buffer.from(`nothing ${more}`) as Uint8Array as Sealed);
  const { log } = await chainAt(volume, forger, newest);
  const admission = forger.admission();
  if (admission.type !== 'admission') throw new Error('an admission');
  const own = { enrolment: { ...admission.enrolment, deviceIndex: 1 }, enrolledMs: 0, status: 'active' as const, counter: 4, newest: 1 as Sequence };
  const state = { ...log, members: [{ ...own, nextInoCounter: 0, operationSerial: 0 }] };
  const checkpoint = { root: undefined, covers: (newest + 2) as Sequence, files: 0, bytes: 0 };
  const records: LogRecord[] = [{ type: 'state', state }];
  await forger.put(newest + 3, changes, { author: forger.id, counter: 5, previousOwn: 1 as Sequence, records, checkpoint });
  const { report, folder } = await salvage(volume);
  expectApart(t, folder, report, genuine);
  t.strictSame(report.lostCommits, [newest + 1, newest + 2]);
  t.ok(report.mayBeStale);
});

t.test('a forgery in the place of a commit does not win over later commits', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const device = await volume.device();
  for (const name of ['one', 'two', 'three']) {
    await device.write(name, name);
    await device.volume.flush();
  }
  await device.close();
  const newest = await volume.newestSequence();
  const changes = await mischief(volume);
  const genuine = await contentOf(volume, 'later');
  await new Forger(volume).put(newest - 2, changes);
  const { report, folder } = await salvage(volume);
  expectApart(t, folder, report, genuine);
  t.strictSame(report.unprovenCommits, [newest - 2]);
  t.strictSame(report.lostCommits, [newest - 1]);
  t.equal(readFileSync(join(folder, 'tree/three'), 'utf8'), 'three', 'signed by a device that was known before');
});

t.test('devices that enrolled in a gap are known by a later checkpoint of a device that was known before', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const old = await volume.device({ foldBounds: { entries: 5, bytes: 1 << 30 } });
  const enrolledAt = await volume.newestSequence();
  const fresh = await volume.device();
  const gap = enrolledAt + 1;
  await fresh.write('by the new device', 'text');
  await fresh.volume.flush();
  await fresh.write('by the new device, too', 'text');
  await fresh.volume.flush();
  await fresh.close();
  await old.volume.refresh();
  for (let index = 0; index < 20; index++) await old.write(`old-${index}`, 'old');
  await old.volume.flush();
  await old.volume.flush();
  await old.close();
  await volume.remove(volume.commitKey(gap));
  const { report, folder } = await salvage(volume);
  t.strictSame(report.unprovenCommits, []);
  t.equal(readFileSync(join(folder, 'tree/old-3'), 'utf8'), 'old');
  t.equal(readFileSync(join(folder, 'tree/by the new device, too'), 'utf8'), 'text');
});

t.test('a device that nobody has admitted cannot take the place of one', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const old = await volume.device({ foldBounds: { entries: 5, bytes: 1 << 30 } });
  for (let index = 0; index < 30; index++) {
    await old.write(`old-${index}`, 'old');
    if (index % 10 === 0) await old.volume.flush();
  }
  await old.volume.flush();
  await old.close();
  const newest = await volume.newestSequence();
  const replaced = newest - 3;
  const { lastCheckpoint, index } = await placeOf(volume, replaced);
  const forger = new Forger(volume, index);
  const changes = await mischief(volume);
  const genuine = await contentOf(volume, 'later');
  await forger.put(replaced, changes, { author: forger.id, lastCheckpoint, records: [forger.admission()] });
  const { report, folder } = await salvage(volume);
  expectApart(t, folder, report, genuine);
  t.strictSame(report.unprovenCommits, [replaced]);
});

t.test('the history that this device has verified wins over another valid one', async (t) => {
  const volume = await DamagedVolume.make(t, { files: 12 });
  const stateDirectory = await scratchDirectory(t);
  const device = await volume.device({ stateDirectory });
  await device.write('mine', 'mine');
  await device.volume.flush();
  await device.close();
  const newest = await volume.newestSequence();
  const changes = await mischief(volume);
  const genuine = await contentOf(volume, 'later');
  const { lastCheckpoint, index } = await placeOf(volume, newest - 1);
  // Somebody who has had the seed of the owner.
  const forger = new Forger(volume, index);
  const admission = forger.admission(ownerOf(volume.volume.ownerSeed));
  await forger.put(newest - 1, changes, { author: forger.id, lastCheckpoint, records: [admission] });
  const without = await salvage(volume);
  t.ok(existsSync(join(without.folder, 'tree/planted')), 'without knowledge it is a history like any other');
  const trust = await readLocalTrust({ ...volume.volume, disk: systemDisk, stateDirectory, random: systemRandom });
  t.ok(trust);
  const copies: CommitCopies = await openCommitCopies(systemDisk, stateDirectory);
  const { report, folder } = await salvage(volume, { copies, trust });
  expectApart(t, folder, report, genuine);
  t.equal(readFileSync(join(folder, 'tree/mine'), 'utf8'), 'mine');
});

/** The state of the log after commit `sequence`. */
async function chainAt(volume: DamagedVolume, forger: Forger, sequence: number): Promise<ChainState> {
  let state = chainFromGenesis(volume.volume.volumeId, volume.genesis);
  for (let at = 1; at <= sequence; at++) {
    ({ state } = extendChain(state, openCommit(volume.keys, await forger.sealed(at), at, state.head.hash)));
  }
  return state;
}

/** What a device that enrols at `sequence` must say. */
async function placeOf(volume: DamagedVolume, sequence: number): Promise<{ lastCheckpoint: Sequence; index: number }> {
  const { checkpoint, log } = await chainAt(volume, new Forger(volume), sequence - 1);
  return { lastCheckpoint: checkpoint?.sequence ?? (0 as Sequence), index: log.members.length + 1 };
}

async function contentOf(volume: DamagedVolume, path: string): Promise<Buffer> {
  const device = await volume.device({ readOnly: true });
  try {
    return Buffer.from(await device.read(path));
  } finally {
    await device.close();
  }
}
