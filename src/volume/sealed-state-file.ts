/**
 * Stores a list that this device keeps for itself in its state directory (doc/format.md, "Local files"): sealed, and
 * replaced as a whole. It does not know what the entries mean.
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 1 |
 * | count | varint |
 * | entries | as their `ListFormat` encodes them |
 */
import { join } from 'node:path';
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { SealKey } from '../crypto/seal-key.js';
import type { Disk } from '../disk/disk.js';
import { readWholeFile, replaceFile } from '../disk/whole-file.js';

export interface StatePlace {
  readonly disk: Disk;
  readonly stateDirectory: string;
  /** A key of kind device. */
  readonly key: SealKey;
}

/** How the entries of one kind of list are encoded. */
export interface ListFormat<T> {
  /** The file's name, also the place that its seal is bound to; the place of the device's own file is empty. */
  readonly name: string;
  readonly countMax: number;
  readonly write: (writer: ByteWriter, entry: T) => void;
  readonly read: (reader: ByteReader) => T;
}

const version = 1;

/** Saves the list; durable when it resolves. One call at a time. Rejects with disk errors. */
export async function saveList<T>({ disk, stateDirectory, key }: StatePlace, format: ListFormat<T>, entries: readonly T[]): Promise<void> {
  const writer = new ByteWriter(64 + entries.length * 40).u8(version).varint(entries.length);
  for (const entry of entries) format.write(writer, entry);
  await replaceFile(disk, join(stateDirectory, format.name), key.seal(Buffer.from(format.name, 'latin1'), writer.finish() as Plaintext));
}

/** Loads the list: empty when there is no file, `undefined` when the file is damaged or belongs to another volume. */
export async function loadList<T>({ disk, stateDirectory, key }: StatePlace, format: ListFormat<T>): Promise<T[] | undefined> {
  const sealed = await readWholeFile(disk, join(stateDirectory, format.name));
  if (!sealed) return [];
  try {
    const reader = new ByteReader(key.open(Buffer.from(format.name, 'latin1'), sealed));
    if (reader.u8() !== version) return undefined;
    const count = reader.varint();
    if (count > format.countMax) return undefined;
    const entries: T[] = [];
    for (let index = 0; index < count; index++) entries.push(format.read(reader));
    reader.end();
    return entries;
  } catch (error) {
    if (error instanceof CryptoError || error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}
