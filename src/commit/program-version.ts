/** The version of a program, as commits and enrolments name it: three varints. */
import type { ByteReader, ByteWriter } from '../base/bytes.js';

export type ProgramVersion = readonly [major: number, minor: number, patch: number];

/** `text` is like `1.2.3`; what follows is ignored, and a number that is missing is 0. */
export function parseProgramVersion(text: string): ProgramVersion {
  const [, major = '0', minor = '0', patch = '0'] = /^(\d{1,9})(?:\.(\d{1,9}))?(?:\.(\d{1,9}))?/.exec(text) ?? [];
  return [Number(major), Number(minor), Number(patch)];
}

export const programVersionText = (version: ProgramVersion): string => version.join('.');

export function writeProgramVersion(writer: ByteWriter, [major, minor, patch]: ProgramVersion): void {
  writer.varint(major).varint(minor).varint(patch);
}

/** Throws MalformedBytesError. */
export function readProgramVersion(reader: ByteReader): ProgramVersion {
  return [reader.varint(), reader.varint(), reader.varint()];
}
