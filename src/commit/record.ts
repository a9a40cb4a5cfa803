/**
 * Records: what a commit says about the volume itself, one codec for each type (doc/format.md, "Records"). A type that
 * is reserved or unknown does not decode. Who may write which record is in `chain.ts`.
 */
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import { type Enrolment, readEnrolment, writeEnrolment } from './enrolment.js';
import { type Features, readFeatures, writeFeatures } from './features.js';
import {
  encodeLogState,
  type Keyring,
  type KeyslotEntry,
  type LogState,
  readKeyring,
  readKeyslots,
  readLogState,
  writeKeyring,
  writeKeyslots,
} from './log-state.js';
import { readList } from './text-field.js';
import { readWork, type WorkGroup, writeWork } from './work.js';

export type LogRecord =
  | { readonly type: 'admission'; readonly enrolment: Enrolment }
  | { readonly type: 'removal'; readonly deviceIndex: number }
  | { readonly type: 'lapse'; readonly deviceIndex: number }
  | { readonly type: 'keyring'; readonly keyring: Keyring }
  | { readonly type: 'keyslots'; readonly keyslots: readonly KeyslotEntry[] }
  | { readonly type: 'features'; readonly features: Features }
  | { readonly type: 'state'; readonly state: LogState }
  | { readonly type: 'work'; readonly groups: readonly WorkGroup[] };

/** A number is never used again; 8 to 12 are reserved. */
const numbers: Readonly<Record<LogRecord['type'], number>> = {
  admission: 1,
  removal: 2,
  lapse: 3,
  keyring: 4,
  keyslots: 5,
  features: 6,
  state: 7,
  work: 13,
};
const types = new Map(Object.entries(numbers).map(([type, number]) => [number, type as LogRecord['type']]));
/** The one kind of removal. */
const removed = 1;

function writeBody(writer: ByteWriter, record: LogRecord): void {
  switch (record.type) {
    case 'admission':
      return writeEnrolment(writer, record.enrolment);
    case 'removal':
      writer.varint(record.deviceIndex).u8(removed);
      return undefined;
    case 'lapse':
      writer.varint(record.deviceIndex);
      return undefined;
    case 'keyring':
      return writeKeyring(writer, record.keyring);
    case 'keyslots':
      return writeKeyslots(writer, record.keyslots);
    case 'features':
      return writeFeatures(writer, record.features);
    case 'state':
      writer.bytes(encodeLogState(record.state));
      return undefined;
    case 'work':
      return writeWork(writer, record.groups);
  }
}

function readBody(reader: ByteReader, type: LogRecord['type'] | undefined): LogRecord {
  switch (type) {
    case 'admission':
      return { type, enrolment: readEnrolment(reader) };
    case 'removal': {
      const deviceIndex = reader.varint();
      if (reader.u8() !== removed) throw new MalformedBytesError('an unknown kind of removal');
      return { type, deviceIndex };
    }
    case 'lapse':
      return { type, deviceIndex: reader.varint() };
    case 'keyring':
      return { type, keyring: readKeyring(reader) };
    case 'keyslots':
      return { type, keyslots: readKeyslots(reader) };
    case 'features':
      return { type, features: readFeatures(reader) };
    case 'state':
      return { type, state: readLogState(reader) };
    case 'work':
      return { type, groups: readWork(reader) };
    default:
      throw new MalformedBytesError('an unknown type of record');
  }
}

/** Varint count; each: type u8, length varint, body. */
export function writeRecords(writer: ByteWriter, records: readonly LogRecord[]): void {
  writer.varint(records.length);
  for (const record of records) {
    const body = new ByteWriter();
    writeBody(body, record);
    writer.u8(numbers[record.type]).varint(body.length).bytes(body.finish());
  }
}

/** What of the records may be needed to know the author of a commit. */
export interface AuthorRecords {
  /** The first record, if it is an admission. */
  readonly admission: Enrolment | undefined;
  /** The body of a record of the state. */
  readonly state: Uint8Array | undefined;
}

/** Reads over all records; shares memory with the input. Throws MalformedBytesError. */
export function readAuthorRecords(reader: ByteReader): AuthorRecords {
  let admission: Enrolment | undefined;
  let state: Uint8Array | undefined;
  const count = reader.varint();
  for (let index = 0; index < count; index++) {
    const type = types.get(reader.u8());
    const body = reader.bytes(reader.varint());
    if (index === 0 && type === 'admission') admission = readEnrolment(new ByteReader(body));
    if (type === 'state') state = body;
  }
  return { admission, state };
}

/** Strict, and shares no memory with the input. Throws MalformedBytesError. */
export function readRecords(reader: ByteReader): LogRecord[] {
  return readList(reader, 2, () => {
    const type = types.get(reader.u8());
    const body = new ByteReader(reader.bytes(reader.varint()));
    const record = readBody(body, type);
    body.end();
    return record;
  });
}
