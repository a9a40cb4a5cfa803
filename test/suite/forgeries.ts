/**
 * Commits that break a rule of the chain (doc/format.md, "The chain"), as somebody can write them who has all the keys
 * of a volume, as a device that was removed has.
 */
import { ByteWriter } from '../../src/base/bytes.js';
import type { ChainState } from '../../src/commit/chain.js';
import type { CommitFields } from '../../src/commit/commit-codec.js';
import { encodeCommit } from '../../src/commit/commit-codec.js';
import type { Enrolment, Role } from '../../src/commit/enrolment.js';
import { noFeatures } from '../../src/commit/features.js';
import type { LogRecord } from '../../src/commit/record.js';
import type { Sequence } from '../../src/commit/sequence.js';
import type { PackId } from '../../src/pack/pack-id.js';
import { type Author, enrolmentOf, newAuthor, sealPayload } from './commit-author.js';
import { type Deviation, LogScript } from './log-script.js';

/** A log with devices of every kind. */
export interface Cast {
  readonly script: LogScript;
  readonly admin: Author;
  readonly writer: Author;
  readonly reader: Author;
  readonly removed: Author;
}

export async function makeCast(): Promise<Cast> {
  const script = await LogScript.begin();
  const admin = await script.admit(script.owner, 'admin');
  const writer = await script.admit(admin, 'writer');
  const reader = await script.admit(script.owner, 'reader');
  const removed = await script.admit(script.owner, 'admin');
  await script.write(admin, { records: [{ type: 'removal', deviceIndex: removed.index }] });
  await script.write(writer, { draft: { nextInoCounter: 7, operationSerial: 9, mutations: [['Da', new Uint8Array(1)]] } });
  return { script, admin, writer, reader, removed };
}

export const mutations: CommitFields['mutations'] = [['Dforged', new Uint8Array(3)]];
const pack = { id: 'ab'.repeat(16) as PackId, size: 100, epoch: 1, indexHash: new Uint8Array(32) };

/** The next to be admitted, with a certificate of `admitter`, and with `change` of what it does not cover. */
export function admission(
  { script }: Cast,
  admitter: Author,
  author = newAuthor(script.state.log.members.length + 1),
  change: Partial<Enrolment> = {},
  role: Role = 'admin',
): { readonly author: Author; readonly record: LogRecord } {
  const record: LogRecord = { type: 'admission', enrolment: { ...enrolmentOf(author, admitter, script.keys.volumeId, role), ...change } };
  return { author, record };
}

export const stateRecord = ({ script }: Cast, change: Partial<ChainState['log']> = {}): LogRecord => ({
  type: 'state',
  state: { ...script.state.log, ...change },
});

/** A record of one operation of a device; what it does is not looked at. */
export function workOf({ index: deviceIndex }: Pick<Author, 'index'>, serial: number, isCarried = true): LogRecord {
  const source = isCarried ? { sequence: 1 as Sequence, hash: new Uint8Array(32) } : undefined;
  return { type: 'work', groups: [{ deviceIndex, source, first: serial, last: serial, bytes: new Uint8Array(5) }] };
}

/** Each writes a commit that must not count. */
export const forgeries: Readonly<Record<string, (cast: Cast) => Promise<unknown>>> = {
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
  'that repeats work': ({ script, writer, admin }) => script.write(writer, { records: [workOf(admin, 0)] }),
  'that repeats work in one commit': ({ script, writer, admin }) =>
    script.write(writer, { records: [workOf(admin, 1_000_001), workOf(admin, 1_000_001)] }),
  'that does work of a device that there is not': ({ script, writer }) => script.write(writer, { records: [workOf({ index: 99 }, 1_000_001)] }),
  'that does work of a removed device': ({ script, writer, removed }) => script.write(writer, { records: [workOf(removed, 1_000_001)] }),
  'that carries its own work': ({ script, writer }) => script.write(writer, { records: [workOf(writer, 1_000_001)] }),
  "that has another device's work as its own": ({ script, writer, admin }) => script.write(writer, { records: [workOf(admin, 1_000_001, false)] }),
  'by a reader who carries': ({ script, reader, admin }) => script.write(reader, { records: [workOf(admin, 1_000_001)] }),
  'by the owner who carries': ({ script, admin }) => script.write(script.owner, { records: [workOf(admin, 1_000_001)] }),
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
