/**
 * The attacks of doc/security.md by their numbers, one test each. Random personas are in personas.test.ts, and local
 * attackers in local.test.ts. TEST_ROUNDS=N makes the sampled ones N times as thorough.
 */
import t, { type Test } from 'tap';
import { claimedVolumeId, listSlots, unlock } from '../../src/access/keyslots.js';
import { equalBytes, toHex } from '../../src/base/bytes.js';
import { systemClock } from '../../src/base/clock.js';
import { type ChainState, chainFromGenesis, extendChain, nextCommit } from '../../src/commit/chain.js';
import type { CommitDraft, Mutation } from '../../src/commit/commit.js';
import type { CommitFields } from '../../src/commit/commit-codec.js';
import { CommitError } from '../../src/commit/commit-error.js';
import { type DeviceId, ownerId } from '../../src/commit/enrolment.js';
import { openGenesis } from '../../src/commit/genesis.js';
import { commitPlace, logKey } from '../../src/commit/log-name.js';
import { memberOf } from '../../src/commit/log-state.js';
import { openCommit } from '../../src/commit/open-commit.js';
import type { Sequence } from '../../src/commit/sequence.js';
import { inlineCipher } from '../../src/crypto/bulk-cipher.js';
import { CryptoError } from '../../src/crypto/crypto-error.js';
import { hashBytes } from '../../src/crypto/hash.js';
import type { SlotSecret } from '../../src/crypto/keyslot.js';
import { createSlot, openSlot, readSlotHeader } from '../../src/crypto/keyslot.js';
import { SealKey } from '../../src/crypto/seal-key.js';
import { hashesLength } from '../../src/crypto/stream-format.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { Ino, TreeKey } from '../../src/meta/key.js';
import { decodeKey, direntKey, rootIno } from '../../src/meta/key.js';
import { contentOf, decodeChunk, decodePage, itemPlace, openStored } from '../../src/pack/item.js';
import { PackError } from '../../src/pack/pack-error.js';
import type { PackId } from '../../src/pack/pack-id.js';
import { packKey } from '../../src/pack/pack-id.js';
import { type ChunkItem, footerLength, type PageItem, readPackIndex, sealPackEnd } from '../../src/pack/pack-index.js';
import { createVolume } from '../../src/volume/create-volume.js';
import { enrolmentOf, newAuthor, sealCommit } from '../suite/commit-author.js';
import { collideGcm } from '../suite/gcm-collision.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import type { TestVolume } from '../suite/test-device.js';
import { TestDevice } from '../suite/test-device.js';
import { testProgram } from '../suite/test-program.js';
import type { Persona } from './evil-store.js';
import { EvilStore, flipBit, rolledBack } from './evil-store.js';
import type { Picture } from './oracle.js';
import { isRefusal, judge } from './oracle.js';
import type { World } from './world.js';
import { makeWorld } from './world.js';

t.setTimeout(1_800_000);
const rounds = Number(process.env['TEST_ROUNDS'] ?? 1);
const seed = testSeed();
const random = new SeededRandom(seed);
const world: World = await makeWorld(seed);
t.teardown(() => world.remove());
const { store: honestStore, volumeId } = world.volume;
const { keys, moments, now } = world;
const secret: SlotSecret = { type: 'key-file', bytes: systemRandom.bytes(64) };
t.comment(`TEST_SEED=${seed}`);

/** A cheap slot, for the volume or another one. */
const slotFor = async ({ volumeId: id, rootSecret, ownerSeed }: Omit<TestVolume, 'store'>, of: SlotSecret = secret) => {
  const grant = { generation: 1, since: 0, rootSecret, ownerSeed, rights: 'owner' } as const;
  const { header, bytes } = await createSlot({ secret: of, volumeId: id, ...grant, created: 1_700_000_000, label: '' }, systemRandom);
  return { slotId: header.slotId, bytes };
};

const logObjects = [...now.objects.keys()]
  .filter((key) => key.startsWith('log/'))
  .toSorted()
  .map((key, sequence) => ({ key, sequence, bytes: now.objects.get(key) ?? new Uint8Array(0) }));
const newest = logObjects.length - 1;
const hashOf = (sequence: number): Uint8Array => hashBytes(logObjects[sequence]!.bytes);

type Item = (ChunkItem | PageItem) & { readonly pack: PackId };

/** All items in the packs. */
async function itemsOf(objects: ReadonlyMap<string, Uint8Array>): Promise<Item[]> {
  const items: Item[] = [];
  for (const [key, bytes] of objects) {
    if (!key.startsWith('packs/')) continue;
    const pack = key.slice(-32) as PackId;
    const found = await readPackIndex(keys.current, pack, bytes.byteLength, (offset, length) =>
      Promise.resolve(bytes.slice(offset, offset + length)),
    );
    for (const item of found) if (item.kind !== 'gap') items.push({ ...item, pack });
  }
  return items;
}
const items = await itemsOf(now.objects);

const sealedOf = ({ pack, offset, sealedLength }: Item): Uint8Array =>
  (now.objects.get(packKey(pack)) ?? new Uint8Array(0)).slice(offset, offset + sealedLength);

/** Whether these bytes are accepted as the item; any error other than that of a seal or an item fails the test. */
async function opens(sealed: Uint8Array, item: Item): Promise<boolean> {
  try {
    if (item.kind === 'chunk') await decodeChunk(item, openStored(keys.current, item, item.hash, sealed));
    else await decodePage(keys.current.page.openBy(inlineCipher.decryptInto, itemPlace(item.pack, item.offset), sealed, false));
    return true;
  } catch (error) {
    if (error instanceof CryptoError || error instanceof PackError) return false;
    throw error;
  }
}

function refusesCrypto(action: () => unknown): boolean {
  try {
    action();
    return false;
  } catch (error) {
    if (error instanceof CryptoError || error instanceof CommitError) return true;
    throw error;
  }
}

/** Opens, reads and judges; a refused mount is lawful, unless `mustOpen`. Returns the violations. */
async function attack(store: EvilStore, state: string | undefined, acceptable: readonly Picture[]): Promise<{ wrong: string[]; mounted: boolean }> {
  let device: TestDevice;
  try {
    device = await world.open(store, state, { readOnly: true });
  } catch (error) {
    return { wrong: isRefusal(error) ? [] : [error instanceof Error ? (error.stack ?? '') : String(error)], mounted: false };
  }
  try {
    return { wrong: [...(await judge(device, acceptable)).violations], mounted: true };
  } finally {
    await device.close();
  }
}

async function expectRefusal(t: Test, store: EvilStore, state: string | undefined, code: string | RegExp, message: string): Promise<void> {
  const writes = store.writes;
  await t.rejects(world.open(store, state), { code }, message);
  t.equal(store.writes, writes, `${message}: nothing was written`);
}

/**
 * Refused; or, if all that is missing was written by this device and it has seen nobody build on that, put again byte
 * for byte.
 */
async function expectRefusalOrRepair(t: Test, store: EvilStore, state: string | undefined, message: string): Promise<'refused' | 'repaired'> {
  const before = new Map(store.objects);
  try {
    await (await world.open(store, state)).close();
  } catch (error) {
    t.match(error, { code: /ROLLBACK|OWN_COMMIT_MISSING/ }, message);
    t.same(store.objects, before, `${message}: nothing was written`);
    return 'refused';
  }
  t.ok(store.objects.size > before.size, `${message}: something was put again`);
  for (const [key, bytes] of store.objects) t.same(bytes, now.objects.get(key), `${message}: as it was`);
  return 'repaired';
}

/** What the whole log comes to. */
async function chainOf(store: EvilStore): Promise<ChainState> {
  let state = chainFromGenesis(volumeId, openGenesis(keys.root, logObjects[0]!.bytes, volumeId));
  for (;;) {
    const sequence = state.head.sequence + 1;
    const sealed = store.objects.get(logKey(keys.root, sequence));
    if (!sealed) return state;
    ({ state } = extendChain(state, openCommit(keys, sealed, sequence, state.head.hash)));
  }
}

/** The commit that `author` may write next, with changes. */
function forgery(state: ChainState, author: DeviceId, draft: Partial<CommitDraft>, change: Partial<CommitFields> = {}): CommitFields {
  const own = memberOf(state.log, author) ?? { nextInoCounter: 0, operationSerial: 0 };
  const counters = { nextInoCounter: own.nextInoCounter, operationSerial: own.operationSerial };
  const nothing = { wallTimeMs: 0, filesDelta: 0, bytesDelta: 0, packs: [], checkpoint: undefined, mutations: [] };
  return { ...nextCommit(state, author, testProgram, { ...nothing, ...counters, ...draft }, []), ...change };
}

t.test('1: a keyslot, genesis or commit of the attacker is not accepted', async (t) => {
  const attacker = await makeWorld(seed + 1, { steps: 1 });
  t.teardown(() => attacker.remove());
  const store = honestStore.copy();
  const foreign = await slotFor(attacker.volume, { type: 'key-file', bytes: systemRandom.bytes(64) });
  store.plant(`keys/${foreign.slotId}`, foreign.bytes);
  await t.rejects(
    listSlots(store).then((list) => unlock(list, secret, { random: systemRandom })),
    { code: 'LOCKED' },
    "the attacker's slot alone",
  );
  const own = await slotFor(world.volume);
  store.plant(`keys/${own.slotId}`, own.bytes);
  t.throws(() => claimedVolumeId({ slots: [own, foreign].map(({ bytes }) => ({ header: readSlotHeader(bytes), bytes })), unreadable: [] }), {
    code: 'INTEGRITY',
  });
  t.ok(equalBytes((await unlock(await listSlots(store), secret, { random: systemRandom })).volumeId, volumeId), 'beside it the real one is found');
  // The slot's header names another volume, which is bound.
  const renamed = new Uint8Array(own.bytes);
  renamed.set(attacker.volume.volumeId, 8 + 4 + 12 + 16 + 8);
  await t.rejects(openSlot(renamed, secret, systemRandom), { code: 'WRONG_SECRET' });

  const other = honestStore.copy();
  other.plant(logKey(keys.root, 0), attacker.volume.store.objects.get(logKey(attacker.keys.root, 0)));
  await expectRefusal(t, other, undefined, 'FORK', 'a foreign genesis');
});

t.test('1: commits and checkpoints of somebody who has all symmetric keys and no certificate are skipped', async (t) => {
  const state = await chainOf(honestStore);
  const stranger = newAuthor(1);
  const [member] = state.log.members;
  if (!member) throw new Error('the world has devices');
  const emptied: Mutation[] = [[direntKey(rootIno, 'always'), null]];
  /** A tree of an older moment, or an empty one, that claims to be the newest. */
  const { sequence: folded, previousHash } = state.checkpoint!;
  const oldRoot = openCommit(keys, logObjects[folded]!.bytes, folded, previousHash).decoded!.checkpoint!.root;
  const covers = state.head.sequence;
  const rollback = { root: oldRoot, covers, files: 1, bytes: 0 };
  const members = [{ ...member, enrolment: enrolmentOf(stranger, stranger, volumeId), newest: 1 as Sequence }];
  const asOwner = { ...state.log, members, ownerKey: stranger.signer.publicKey };
  const forgeries: Record<string, CommitFields> = {
    'a deletion by an unknown device': forgery(state, stranger.id, { mutations: emptied }),
    'a deletion in the name of a device': forgery(state, member.enrolment.deviceId, { mutations: emptied }),
    'a deletion in the name of the owner': forgery(state, ownerId, { mutations: emptied }),
    'a checkpoint by an unknown device': forgery(state, stranger.id, { checkpoint: rollback }),
    'a checkpoint in the name of a device': forgery(state, member.enrolment.deviceId, { checkpoint: rollback }),
    'a checkpoint with a roster of its own': forgery(
      state,
      stranger.id,
      { checkpoint: rollback },
      { records: [{ type: 'state', state: { ...state.log, members } }] },
    ),
    'a checkpoint with an owner of its own': forgery(state, stranger.id, { checkpoint: rollback }, { records: [{ type: 'state', state: asOwner }] }),
    'an empty tree with a roster of its own': forgery(
      state,
      stranger.id,
      { checkpoint: { ...rollback, root: undefined } },
      { records: [{ type: 'state', state: { ...state.log, members } }] },
    ),
  };
  for (const [name, fields] of Object.entries(forgeries)) {
    const forged = honestStore.copy();
    forged.plant(logKey(keys.root, newest + 1), sealCommit(keys, fields, stranger.signer));
    for (const from of [undefined, now.states['a'], now.states['b']]) {
      const store = forged.copy();
      const device = await world.open(store, from);
      await device.volume.refresh();
      const verdict = await judge(device, [now.picture]);
      t.same(verdict.violations, [], `${name}: ${from ? 'a device with history' : 'a new device'} shows what devices wrote`);
      t.equal(verdict.refused, 0);
      await device.write('after', 'the forgery');
      await device.volume.flush();
      t.equal(device.volume.pending().operations, 0);
      await device.close();
      const fresh = await world.open(store);
      t.equal(await fresh.text('after'), 'the forgery', `${name}: and goes on behind it`);
      await fresh.close();
    }
  }
});

t.test('2: a change of any single bit is detected', async (t) => {
  const genesis = logObjects[0]!.bytes;
  let undetected = 0;
  let tried = 0;
  for (let bit = 0; bit < genesis.byteLength * 8; bit++, tried++) {
    if (!refusesCrypto(() => openGenesis(keys.root, flipBit(genesis, bit), volumeId))) undetected++;
    // The seal alone, as if the attacker could choose the id.
    if (!refusesCrypto(() => keys.root.genesis().open(new Uint8Array(0), flipBit(genesis, bit)))) undetected++;
  }
  for (const { sequence, bytes } of logObjects.slice(1)) {
    const place = commitPlace(sequence, hashOf(sequence - 1));
    for (let bit = 0; bit < bytes.byteLength * 8; bit++, tried++) {
      if (!refusesCrypto(() => keys.current.commit.open(place, flipBit(bytes, bit)))) undetected++;
    }
  }
  const { bytes: slot } = await slotFor(world.volume);
  for (let bit = 0; bit < slot.byteLength * 8; bit++, tried++) {
    const opened = await openSlot(flipBit(slot, bit), secret, systemRandom).catch((error: unknown) => {
      if (!(error instanceof CryptoError)) throw error;
      return undefined;
    });
    if (opened) undetected++;
  }
  t.equal(undetected, 0, `${tried} bits of metadata: all of them`);
  let flipped = 0;
  const samples = 100_000 * rounds;
  for (let sample = 0; sample < samples; sample++) {
    const item = items[random.below(items.length)]!;
    const sealed = flipBit(sealedOf(item), random.below(item.sealedLength * 8));
    if (await opens(sealed, item)) flipped++;
  }
  t.equal(flipped, 0, `${samples} bits of content and pages`);
  t.ok(items.some(({ kind }) => kind === 'page') && items.some(({ kind }) => kind === 'chunk'), 'both kinds were there');
});

t.test('3: no object opens in another place, kind or volume', async (t) => {
  const other = await makeWorld(seed + 2, { steps: 2 });
  t.teardown(() => other.remove());
  const place = commitPlace(1, volumeId);
  const openers = (
    [
      ['a', keys],
      ['b', other.keys],
    ] as const
  ).flatMap(([of, { current, root, trust, device, journal }]) =>
    [current.commit, current.page, current.packIndex, current.packFooter, root.genesis(), trust, device, journal].map((key) => ({
      of,
      key,
    })),
  );
  let wrong = 0;
  let pairs = 0;
  for (const sealer of openers) {
    const sealed = sealer.key.seal(place, Buffer.from('content') as never);
    for (const opener of openers) {
      pairs++;
      if (refusesCrypto(() => opener.key.open(place, sealed)) === (opener === sealer)) wrong++;
      if (!refusesCrypto(() => opener.key.open(commitPlace(2, volumeId), sealed))) wrong++;
    }
  }
  // One secret for all kinds, as if a subkey had leaked into another use: the kind is bound as well.
  const kinds = ['keyslot', 'genesis', 'commit', 'chunk', 'page', 'pack-index', 'pack-footer', 'trust', 'device', 'journal', 'wrapped-root'] as const;
  const same = kinds.map((kind) => new SealKey({ kind, subkey: Buffer.alloc(32, 7), suite: 1, volumeId, epoch: 1, random: systemRandom }));
  for (const a of same) {
    const sealed = a.seal(place, Buffer.from('content') as never);
    for (const b of same) {
      pairs++;
      if (refusesCrypto(() => b.open(place, sealed)) === (a === b)) wrong++;
    }
  }
  t.equal(wrong, 0, `${pairs} pairs`);
  // The same secret opens slots of both volumes: the volume that a slot gives is the one that it was made for.
  const slotB = await slotFor(other.volume);
  const list = { slots: [{ header: readSlotHeader(slotB.bytes), bytes: slotB.bytes }], unreadable: [] };
  t.ok(equalBytes((await unlock(list, secret, { random: systemRandom })).volumeId, other.volume.volumeId));
});

t.test('4: weak, absurd and unknown parameters are refused before any key derivation', async (t) => {
  const passphrase: SlotSecret = { type: 'passphrase', passphrase: 'correct horse' };
  const cost = { memoryKiB: 64 * 1024, passes: 2, lanes: 1 };
  const { bytes } = await createSlot(
    { secret: passphrase, ...world.volume, generation: 1, since: 0, rights: 'owner', created: 0, label: '', cost },
    systemRandom,
  );
  const setU32 = (at: number, value: number): Uint8Array => {
    const changed = Buffer.from(bytes);
    changed.writeUInt32LE(value, at);
    return changed;
  };
  const began = process.cpuUsage();
  for (const changed of [
    ...[0, 1, 64 * 1024 - 1, 1024 * 1024 + 1, 2 ** 32 - 1].map((memory) => setU32(12, memory)),
    ...[0, 1, 17, 2 ** 32 - 1].map((passes) => setU32(16, passes)),
    ...[0, 2, 2 ** 32 - 1].map((lanes) => setU32(20, lanes)),
    ...Array.from({ length: 256 }, (_, type) => type)
      .filter((type) => type !== 1)
      .map((type) => setU32(8, type)),
    ...['SDSLOT00', 'SDSLOT02', 'sdslot01', '\0\0\0\0\0\0\0\0'].map((magic) => Buffer.concat([Buffer.from(magic, 'latin1'), bytes.subarray(8)])),
  ]) {
    await t.rejects(openSlot(changed, passphrase, systemRandom), CryptoError);
  }
  const { user } = process.cpuUsage(began);
  t.ok(user < 30_000_000, 'hundreds of key derivations would have taken minutes');
  // All possible versions and suites of framed objects.
  const commit = logObjects[1]!.bytes;
  const place = commitPlace(1, volumeId);
  let accepted = 0;
  for (const at of [4, 5, 6, 7]) {
    for (let value = 0; value < 256; value++) {
      if (value === commit[at]) continue;
      const changed = new Uint8Array(commit);
      changed[at] = value;
      if (!refusesCrypto(() => keys.current.commit.open(place, changed))) accepted++;
    }
  }
  t.equal(accepted, 0, 'no other version, suite or kind opens');
});

t.test('5: a ciphertext that AES-GCM accepts under two keys opens under one at most', async (t) => {
  for (let pair = 0; pair < 20; pair++) {
    const both = [0, 1].map(
      () => new SealKey({ kind: 'keyslot', subkey: systemRandom.bytes(32), suite: 1, volumeId: new Uint8Array(32), epoch: 0, random: systemRandom }),
    );
    const salt = systemRandom.bytes(24);
    const place = systemRandom.bytes(90);
    const okms = both.map((key) => key.derive(place, salt));
    const header = Buffer.from([0x53, 0x45, 0x41, 0x4c, 1, 1, 1, 0]);
    for (const commitment of [okms[0]!.subarray(32), okms[1]!.subarray(32), systemRandom.bytes(32)]) {
      const aad = Buffer.concat([header, salt, commitment]);
      const body = collideGcm(okms[0]!.subarray(0, 32), okms[1]!.subarray(0, 32), aad);
      const opened = both.filter((key) => !refusesCrypto(() => key.open(place, Buffer.concat([aad, body]))));
      t.ok(opened.length <= 1);
    }
  }
});

t.test('8: objects of any other length are refused', async (t) => {
  let undetected = 0;
  for (const { sequence, bytes } of logObjects) {
    const open = (changed: Uint8Array): unknown =>
      sequence === 0 ? openGenesis(keys.root, changed, volumeId) : keys.current.commit.open(commitPlace(sequence, hashOf(sequence - 1)), changed);
    for (let length = 0; length < bytes.byteLength; length++) if (!refusesCrypto(() => open(bytes.subarray(0, length)))) undetected++;
    for (const more of [1, 16, 1000]) if (!refusesCrypto(() => open(Buffer.concat([bytes, new Uint8Array(more)])))) undetected++;
  }
  t.equal(undetected, 0, 'every prefix of every commit');
  const { bytes: slot } = await slotFor(world.volume);
  for (let length = 0; length < slot.byteLength; length++) await t.rejects(openSlot(slot.subarray(0, length), secret, systemRandom), CryptoError);
  for (const item of items) {
    const sealed = sealedOf(item);
    for (const length of [0, 1, 24, 56, 72, sealed.byteLength - 16, sealed.byteLength - 1].filter((one) => one >= 0 && one < sealed.byteLength)) {
      if (await opens(sealed.subarray(0, length), item)) undetected++;
    }
  }
  t.equal(undetected, 0, 'chunks and pages');
  for (const key of now.objects.keys()) {
    if (!key.startsWith('packs/')) continue;
    const store = honestStore.copy();
    const whole = now.objects.get(key) ?? new Uint8Array(0);
    store.plant(key, whole.subarray(0, Math.floor(whole.byteLength / 2)));
    t.same((await attack(store, undefined, [now.picture])).wrong, [], `half of ${key}`);
  }
});

t.test('9: swapped objects are refused', async (t) => {
  let undetected = 0;
  let pairs = 0;
  for (const a of logObjects) {
    for (const b of logObjects) {
      if (a === b) continue;
      pairs++;
      if (b.sequence === 0) undetected += refusesCrypto(() => openGenesis(keys.root, a.bytes, volumeId)) ? 0 : 1;
      else undetected += refusesCrypto(() => keys.current.commit.open(commitPlace(b.sequence, hashOf(b.sequence - 1)), a.bytes)) ? 0 : 1;
    }
  }
  for (const a of items) {
    const sealed = sealedOf(a);
    for (const b of items) {
      if (a === b) continue;
      pairs++;
      const length = b.sealedLength;
      const cut = sealed.byteLength >= length ? sealed.subarray(0, length) : Buffer.concat([sealed, new Uint8Array(length - sealed.byteLength)]);
      if (await opens(cut, b)) undetected++;
    }
  }
  t.equal(undetected, 0, `${pairs} ordered pairs`);
});

t.test('10: there is never a second version of an object to serve', (t) => {
  let differing = 0;
  for (const version of honestStore.history) {
    for (const [key, bytes] of version) {
      const last = now.objects.get(key);
      if (last && !equalBytes(last, bytes)) differing++;
    }
  }
  t.equal(differing, 0, `${honestStore.history.length} versions of the store: objects are only added`);
  t.end();
});

t.test('11: a rolled-back store is refused by every device that has seen a newer state', async (t) => {
  const outcomes: string[] = [];
  for (const [index, old] of moments.entries()) {
    if (index === moments.length - 1) break;
    // The author of the newest commit, and the other device, which has seen less than that but more than this store.
    const writer = now.states[moments.length % 2 === 0 ? 'b' : 'a'];
    outcomes.push(await expectRefusalOrRepair(t, honestStore.copy(old.objects), writer, `moment ${index}, newest writer`));
    const other = now.states[moments.length % 2 === 0 ? 'a' : 'b'];
    if (index < moments.length - 2)
      outcomes.push(await expectRefusalOrRepair(t, honestStore.copy(old.objects), other, `moment ${index}, other device`));
    const store = honestStore.copy(old.objects);
    // A new device needs the head code of another one.
    const headCode = { sequence: newest, hashStart: toHex(hashOf(newest)).slice(0, 16) };
    await t.rejects(world.open(store, undefined, { headCode }), { code: 'ROLLBACK' }, `moment ${index}, first mount with a head code`);
    const fresh = await world.open(store, undefined, { readOnly: true });
    t.equal(fresh.volume.details()['freshness']?.['history'], 'unproven', 'without one, it says what it cannot know');
    await fresh.close();
  }
  t.ok(outcomes.indexOf('repaired') >= outcomes.length - 2, 'only the last commits, on which nobody has built, are put again');
  const checked = await world.open(honestStore.copy(), undefined, { headCode: { sequence: newest, hashStart: toHex(hashOf(newest)).slice(0, 16) } });
  t.equal(checked.volume.details()['freshness']?.['history'], 'proven', 'the right one proves it');
  await checked.close();
  const early = await world.open(honestStore.copy(), undefined, { headCode: { sequence: 2, hashStart: toHex(hashOf(2)).slice(0, 16) } });
  await early.close();
  await t.rejects(world.open(honestStore.copy(), undefined, { headCode: { sequence: newest, hashStart: 'ab'.repeat(8) } }), { code: 'FORK' });
  // While mounted, the volume notices after some polls without a result at the latest.
  const store = honestStore.copy();
  const device = await world.open(store, now.states['a']);
  await device.volume.refresh();
  store.persona = rolledBack(moments[1]!.objects);
  let stop: unknown;
  for (let poll = 0; poll < 10; poll++) await device.volume.refresh().catch((error: unknown) => (stop ??= error));
  t.match(stop, { code: 'FENCED' });
  const { writes } = store;
  await t.rejects(device.write('x', 'y'), { code: 'CORRUPT' }, 'whether there is such a name is not known');
  await t.rejects(device.mkdir('z'), { code: 'FENCED' });
  await device.volume.flush().catch(() => {});
  t.equal(store.writes, writes, 'no write after the stop');
  t.same((await judge(device, [now.picture])).violations, [], 'what it knows it still reads');
  t.equal(device.volume.details()['commit']?.['stopped'], true);
  await device.close();
});

t.test('12: a fork is detected by the first commit that crosses it, and the evidence is kept', async (t) => {
  const left = honestStore.copy();
  const right = honestStore.copy();
  const stateA = world.stateDirectory(now.states['a']);
  const stateB = world.stateDirectory(now.states['b']);
  const open = (store: EvilStore, stateDirectory: string): Promise<TestDevice> => world.open(store, undefined, { stateDirectory });
  const a = await open(left, stateA);
  const b = await open(right, stateB);
  await a.write('fork', 'left');
  await a.volume.flush();
  await b.volume.refresh();
  await b.write('fork', 'right');
  await b.volume.flush();
  await a.volume.refresh();
  t.same([await a.text('fork'), await b.text('fork')], ['left', 'right'], 'each sees a history of its own');
  // The first commit of b that reaches a is at the next number, since the one before is a's own.
  for (const [key, bytes] of right.objects) if (!left.objects.has(key)) left.plant(key, bytes);
  await b.write('more', 'of the right');
  await b.volume.flush();
  for (const [key, bytes] of right.objects) if (!left.objects.has(key)) left.plant(key, bytes);
  await t.rejects(a.volume.refresh(), { code: 'FENCED' });
  await t.rejects(a.mkdir('x'), { code: 'FENCED' });
  const names = (await systemDisk.readDirectory(`${stateA}/evidence`)).map(({ name }) => name);
  t.equal(names.length, 1, 'the commit that does not fit is kept');
  const sequence = Number.parseInt(names[0]!.slice(0, 16), 16);
  const file = await systemDisk.open(`${stateA}/evidence/${names[0]}`, 'read');
  const evidence = new Uint8Array((await file.stat()).size);
  await file.read(evidence, 0);
  await file.close();
  // It opens on top of the other history, and not on ours, so its author was shown another history.
  t.ok(
    refusesCrypto(() =>
      keys.current.commit.open(commitPlace(sequence, hashBytes(left.objects.get(logKey(keys.root, sequence - 1)) ?? evidence)), evidence),
    ),
  );
  const rightBefore = right.objects.get(logKey(keys.root, sequence - 1)) ?? evidence;
  t.doesNotThrow(() => keys.current.commit.open(commitPlace(sequence, hashBytes(rightBefore)), evidence), 'it is authentic in the other history');
  await a.close();
  await b.close();
});

t.test('13: withheld commits show as a growing age of the newest commit', async (t) => {
  const store = honestStore.copy();
  const base = Date.now();
  const hidden = new Set([logKey(keys.root, newest)]);
  const freezer: Persona = {
    name: 'freezer',
    get: (key, honest) => (hidden.has(key) ? undefined : honest),
    list: (_, honest) => honest.filter(({ key }) => !hidden.has(key)),
  };
  store.persona = freezer;
  const device = await world.open(store, moments[moments.length - 2]!.states[moments.length % 2 === 0 ? 'a' : 'b'], {
    readOnly: true,
    clock: {
      now: () => ({ sec: Math.floor(base / 1000) + 7200, nsec: 0 }),
      monotonicMs: () => 0,
      sleep: (_ms, signal) => new Promise((_, reject) => signal?.addEventListener('abort', () => reject(new Error('ended')))),
    },
  });
  await device.volume.refresh();
  const facts = device.volume.details()['freshness'] ?? {};
  const ages = Object.entries(facts).filter(([name]) => name.startsWith('device'));
  t.ok(ages.length > 0, 'other devices are named');
  for (const [, age] of ages)
    t.ok(age === 'not since the last checkpoint' || Number.parseInt(String(age), 10) >= 7000, `two hours later: ${String(age)}`);
  t.ok('storeAnswered' in facts, 'and when the store answered last');
  t.same(
    (
      await judge(
        device,
        moments.slice(-2).map(({ picture }) => picture),
      )
    ).violations,
    [],
  );
  await device.close();
});

t.test('14: a missing object is never shown as a missing file', async (t) => {
  let mounted = 0;
  for (const key of now.objects.keys()) {
    for (const state of [undefined, now.states['a'], now.states['b']]) {
      const store = honestStore.copy();
      store.plant(key, undefined);
      // A new device cannot notice missing newest commits; the head code can (11).
      const acceptable =
        state === undefined && key.startsWith('log/')
          ? [{}, ...moments.map(({ picture }) => picture)]
          : [now.picture, ...(state === now.states['a'] ? [moments[moments.length - 2]!.picture] : [])];
      const { wrong, mounted: did } = await attack(store, state, acceptable);
      if (did) mounted++;
      t.same(wrong, [], `without ${key}`);
    }
  }
  t.ok(mounted > 0, 'not all mounts were refused');
});

t.test('15 and 20: objects put into the store without keys change nothing', async (t) => {
  const littered = honestStore.copy();
  for (let index = 0; index < 200; index++) {
    const number = (newest + 1 + random.below(20)).toString(16).padStart(16, '0');
    littered.plant(`log/${number}-${toHex(random.bytes(6))}`, random.bytes(300));
    const pack = toHex(random.bytes(16));
    littered.plant(`packs/${pack.slice(0, 2)}/${pack}`, random.bytes(300));
    littered.plant(`keys/${toHex(random.bytes(8))}`, random.bytes(200));
  }
  for (const [key, bytes] of now.objects) littered.plant(`${key}-copy`, bytes);
  for (const state of [undefined, now.states['a']]) {
    const store = littered.copy();
    const device = await world.open(store, state);
    for (let poll = 0; poll < 10; poll++) await device.volume.refresh();
    const verdict = await judge(device, [now.picture]);
    t.same(verdict.violations, []);
    t.equal(verdict.refused, 0, 'and nothing fails');
    await device.write('new', 'x');
    await device.volume.flush();
    t.equal(await device.text('new'), 'x', 'squatted numbers do not stand in the way');
    await device.close();
  }
});

t.test('17: hostile names are refused where they are decoded, listed or parsed', (t) => {
  for (const name of ['', '.', '..', 'a/b', '/', 'a\0b', '\0', 'x'.repeat(256)]) {
    t.throws(() => decodeKey(direntKey(1 as Ino, name)), JSON.stringify(name.slice(0, 10)));
  }
  for (const key of ['', 'Q12345678', 'I', 'I1234567', 'E12345678', `D${'\xff'.repeat(8)}name`, 'X12345678', 'S'])
    t.throws(() => decodeKey(key as TreeKey));
  t.end();
});

t.test('18: answers that are too large and endless lists are refused', async (t) => {
  const bomb = new Uint8Array(200 * 1024 * 1024);
  const before = process.memoryUsage().rss;
  for (const state of [undefined, now.states['a']]) {
    const store = honestStore.copy();
    store.persona = {
      name: 'bomber',
      get: () => bomb,
      *list() {
        for (;;) yield { key: logKey(keys.root, 1), size: 1 };
      },
    };
    t.same((await attack(store, state, [now.picture, moments[moments.length - 2]!.picture])).wrong, []);
    store.persona = { name: 'lister', list: store.persona.list!.bind(store.persona) };
    const device = await world.open(store, state);
    for (let poll = 0; poll < 20; poll++) await device.volume.refresh();
    await device.close();
    await t.rejects(listSlots(store), { code: 'INTEGRITY' }, 'nor of keyslots');
    t.ok(store.largestAnswer <= 64 * 1024 * 1024);
  }
  t.ok(process.memoryUsage().rss - before - bomb.byteLength < 256 * 1024 * 1024);
});

t.test('19: a store that answers conditional puts wrongly is detected', async (t) => {
  // This store accepts both: the second put replaces the first, and both are answered "created".
  const store = honestStore.copy();
  store.persona = { name: 'both', put: () => ({ keep: true, outcome: 'created' }) };
  const a = await world.open(store, now.states['a']);
  const b = await world.open(store, now.states['b']);
  await a.volume.refresh();
  await b.volume.refresh();
  await a.write('race', 'of a');
  await b.write('race', 'of b');
  await a.volume.flush();
  await b.volume.flush();
  for (let poll = 0; poll < 20; poll++) await a.volume.refresh();
  t.equal(await a.text('race'), 'of b', 'whose commit was replaced finds out by itself');
  await a.volume.flush();
  await b.volume.refresh();
  for (const device of [a, b]) {
    const contents = Object.entries(await device.picture())
      .filter(([path]) => path.startsWith('race'))
      .map(([, content]) => content);
    t.same(contents.toSorted(), ['of a', 'of b'], 'and both have what it was told is safe');
  }
  await b.close();
  await a.close();

  // This store answers "exists" to the winner, whose bytes show that it won.
  const denier = honestStore.copy();
  denier.persona = { name: 'denier', put: (_key, _bytes, exists) => ({ keep: !exists, outcome: 'exists' }) };
  const c = await world.open(denier, now.states['a']);
  await c.write('mine', 'once');
  await c.volume.flush();
  const commits = [...denier.objects.keys()].filter((key) => key.startsWith('log/')).length;
  await c.volume.flush();
  t.equal([...denier.objects.keys()].filter((key) => key.startsWith('log/')).length, commits, 'not applied twice');
  await c.close();
  denier.persona = undefined;
  const d = await world.open(denier);
  t.equal(await d.text('mine'), 'once');
  await d.close();

  // This store answers "exists" and returns nothing: no success is reported.
  const hider = honestStore.copy();
  hider.persona = { name: 'hider', put: () => ({ keep: false, outcome: 'exists' }) };
  const e = await world.open(hider, now.states['a']);
  await e.write('kept', 'here');
  await t.rejects(e.volume.flush());
  t.ok(e.volume.pending().operations > 0, 'it stays in the journal');
  await e.close();
});

t.test('27: whoever has every symmetric key cannot forge content or structure', async (t) => {
  let forgedCount = 0;
  for (const item of items) {
    if (item.kind === 'chunk' && item.codec !== 'raw') continue;
    const store = honestStore.copy();
    const pack = Buffer.from(now.objects.get(packKey(item.pack)) ?? new Uint8Array(0));
    if (item.kind === 'chunk') {
      const content = contentOf({ ...item, hashes: new Uint8Array(hashesLength(item.storedLength)) });
      await inlineCipher.encrypt([keys.current.chunk.sealing(content, [random.bytes(item.storedLength) as never], item.offset)], pack);
    } else {
      const place = itemPlace(item.pack, item.offset);
      const payload = keys.current.page.open(place, sealedOf(item));
      payload[payload.byteLength - 1]! ^= 1;
      pack.set(keys.current.page.seal(place, payload), item.offset);
    }
    forgedCount++;
    store.plant(packKey(item.pack), pack);
    t.same((await attack(store, undefined, [now.picture])).wrong, [], `${item.kind} at ${item.offset}`);
    if (forgedCount > 12 * rounds) break;
  }
  t.ok(forgedCount > 2, `${forgedCount} items were forged`);
  // The index serves no reader; its hash is in the commit.
  const { pack } = items[0]!;
  const whole = now.objects.get(packKey(pack)) ?? new Uint8Array(0);
  const read = (bytes: Uint8Array) => (offset: number, length: number) => Promise.resolve(bytes.subarray(offset, offset + length));
  const itemsThere = await readPackIndex(keys.current, pack, whole.byteLength, read(whole));
  const end = Math.max(...itemsThere.map(({ offset, sealedLength }) => offset + sealedLength));
  const indexHash = hashBytes(whole.subarray(end, whole.byteLength - footerLength));
  t.same(await readPackIndex(keys.current, pack, whole.byteLength, read(whole), indexHash), itemsThere);
  const forgedIndex = Buffer.concat([whole.subarray(0, end), ...sealPackEnd(keys.current, pack, itemsThere, end)]);
  t.equal((await readPackIndex(keys.current, pack, forgedIndex.byteLength, read(forgedIndex))).length, itemsThere.length, 'its seal is right');
  await t.rejects(readPackIndex(keys.current, pack, forgedIndex.byteLength, read(forgedIndex), indexHash), { code: 'NOT_AUTHENTIC' });
});

t.test('14: no file vanishes when the store hides the newest packs after a crash', async (t) => {
  const store = honestStore.copy();
  const stateDirectory = world.stateDirectory(now.states['a']);
  const device = await world.open(store, undefined, { stateDirectory });
  const content = random.bytes(50_000);
  await device.write('kept', content);
  // The pack arrives and its commit does not, since the device dies in between.
  store.persona = { name: 'half', put: (key) => ({ keep: key.startsWith('packs/'), outcome: 'exists' }) };
  await t.rejects(device.volume.flush());
  const died = world.stateDirectory(stateDirectory);
  await device.close();
  store.persona = { name: 'hider', get: (key, honest) => (now.objects.has(key) ? honest : undefined) };
  const again = await world.open(store, undefined, { stateDirectory: died });
  const verdict = await judge(again, [{ ...now.picture, kept: Buffer.from(content).toString('latin1') }]);
  t.same(verdict.violations, []);
  t.equal(verdict.refused, 0, 'it is still on this machine');
  store.persona = undefined;
  await again.volume.flush();
  await again.close();
  const other = await world.open(store);
  t.ok((await other.read('kept')).equals(Buffer.from(content)), 'and reaches the store when that behaves');
  await other.close();
});

t.test('22: two volumes that differ only in names have objects of the same sizes', async (t) => {
  const sizesWith = async (name: (index: number) => string): Promise<number[]> => {
    const store = new EvilStore(systemDisk);
    const content = new SeededRandom(7);
    const rootSecret = systemRandom.bytes(32);
    const ownerSeed = systemRandom.bytes(32);
    const made = await createVolume({ store, rootSecret, ownerSeed, random: systemRandom, clock: systemClock, program: testProgram });
    const device = await TestDevice.open({ store, ...made, rootSecret, ownerSeed }, { disk: systemDisk, stateDirectory: world.stateDirectory() });
    for (let index = 0; index < 60; index++) await device.write(name(index), content.bytes(5000));
    await device.volume.flush();
    await device.close();
    return [...store.objects.values()].map((bytes) => bytes.byteLength).toSorted((x, y) => x - y);
  };
  const number = (index: number): string => String(index).padStart(2, '0');
  const plain = await sizesWith((index) => `holiday photo ${number(index)}.jpg`);
  t.same(await sizesWith((index) => `tax return no ${number(index)}.pdf`), plain, 'other words');
  t.same(await sizesWith(() => toHex(random.bytes(10))), plain, 'names without a pattern');
  t.same(await sizesWith((index) => `${'a'.repeat(18)}${number(index)}`), plain, 'names that are nearly the same');
});
