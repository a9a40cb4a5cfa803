/**
 * The features that a volume has switched on (doc/format.md, "Records"). A program that lacks one of them reads at
 * most.
 *
 * | field | encoding |
 * | --- | --- |
 * | compatible, to write, to read | each: varint count, then names (varint length <= 63, ASCII), ascending |
 */
import { type ByteReader, type ByteWriter, MalformedBytesError } from '../base/bytes.js';
import { CommitError } from './commit-error.js';
import { readList } from './text-field.js';

export interface Features {
  /** A program that lacks these ignores them. */
  readonly compatible: readonly string[];
  /** A program that lacks these only reads. */
  readonly toWrite: readonly string[];
  /** A program that lacks these cannot read. */
  readonly toRead: readonly string[];
}

/** To read: commits hold the operations that made them (`work.ts`). */
const work = 'work';

export const noFeatures: Features = { compatible: [], toWrite: [], toRead: [] };

const nameLengthMax = 63;
const namePattern = /^[\x21-\x7e]{1,63}$/;

/** What this program knows. */
const known: ReadonlySet<string> = new Set([work]);

/** Of a volume whose commits can be done again by whoever has seen them. */
export const workFeatures: Features = { ...noFeatures, toRead: [work] };

export const keepsWork = ({ toRead }: Features): boolean => toRead.includes(work);

/** Why this program may only read; `undefined` when it may write. */
export function writingObstacle({ toWrite }: Features): string | undefined {
  const names = toWrite.filter((name) => !known.has(name));
  return names.length === 0 ? undefined : `writing to this volume needs the feature ${names.join(', ')}, which this version of Sealdrive lacks`;
}

/** Throws CommitError `UNSUPPORTED`. */
export function requireWritable(features: Features): void {
  const obstacle = writingObstacle(features);
  if (obstacle !== undefined) throw new CommitError('UNSUPPORTED', obstacle);
}

/** Throws CommitError `UNSUPPORTED`. */
export function requireReadable({ toRead }: Features): void {
  const names = toRead.filter((name) => !known.has(name));
  if (names.length > 0)
    throw new CommitError('UNSUPPORTED', `the volume uses the feature ${names.join(', ')}, which this version of Sealdrive lacks`);
}

export function writeFeatures(writer: ByteWriter, { compatible, toWrite, toRead }: Features): void {
  for (const names of [compatible, toWrite, toRead]) {
    writer.varint(names.length);
    for (const name of names) writer.varint(name.length).byteString(name);
  }
}

/** Throws MalformedBytesError. */
export function readFeatures(reader: ByteReader): Features {
  return { compatible: readNames(reader), toWrite: readNames(reader), toRead: readNames(reader) };
}

function readNames(reader: ByteReader): readonly string[] {
  let before = '';
  return readList(reader, 2, () => {
    const length = reader.varint();
    const name = length > nameLengthMax ? '' : reader.byteString(length);
    if (!namePattern.test(name) || name <= before) throw new MalformedBytesError('an impossible list of features');
    before = name;
    return name;
  });
}
