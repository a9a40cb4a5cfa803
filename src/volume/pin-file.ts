/**
 * Which files and folders are pinned on this machine, in the state directory (doc/format.md, "Local files"): sealed, since it holds names.
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 1 |
 * | count | varint |
 * | per pin | ino varint; parent ino varint; name: length varint and bytes (empty for the root) |
 */
import type { ByteString, Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';
import { readStateFile, replaceStateFile } from '../commit/state-file.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { SealKey } from '../crypto/seal-key.js';
import type { Disk } from '../disk/disk.js';
import type { Ino } from '../meta/key.js';

/** The inode, and the name under which it was pinned: a file that is replaced by another one of its name stays pinned. */
export interface Pin {
  readonly ino: Ino;
  readonly parent: Ino;
  readonly name: ByteString;
}

export interface PinFile {
  readonly disk: Disk;
  readonly stateDirectory: string;
  /** Of kind device. */
  readonly key: SealKey;
}

const fileName = 'pins';
const version = 1;
const countMax = 10_000;
/** Apart from the device's own file, which has an empty place. */
const place = Buffer.from('pins', 'latin1');

/** Durable when it resolves. One call at a time. */
export async function savePins({ disk, stateDirectory, key }: PinFile, pins: readonly Pin[]): Promise<void> {
  const writer = new ByteWriter(64 + pins.length * 40).u8(version).varint(pins.length);
  for (const { ino, parent, name } of pins) writer.varint(ino).varint(parent).varint(name.length).byteString(name);
  await replaceStateFile(disk, stateDirectory, fileName, key.seal(place, writer.finish() as Plaintext));
}

/** `undefined`: the file is damaged, or another volume's. */
export async function loadPins({ disk, stateDirectory, key }: PinFile): Promise<Pin[] | undefined> {
  const sealed = await readStateFile(disk, stateDirectory, fileName);
  if (!sealed) return [];
  try {
    const reader = new ByteReader(key.open(place, sealed));
    if (reader.u8() !== version) return undefined;
    const count = reader.varint();
    if (count > countMax) return undefined;
    const pins: Pin[] = [];
    for (let index = 0; index < count; index++) {
      const [ino, parent] = [reader.varint() as Ino, reader.varint() as Ino];
      pins.push({ ino, parent, name: reader.byteString(reader.varint()) });
    }
    reader.end();
    return pins;
  } catch (error) {
    if (error instanceof CryptoError || error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}
