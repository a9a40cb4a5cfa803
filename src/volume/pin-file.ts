/**
 * The list of pinned files and folders of this machine, in the state directory (doc/format.md, "Local files"). It is
 * sealed because it contains names. It fetches nothing: `pin-keeper.ts` does.
 */
import type { ByteString } from '../base/brand.js';
import type { Ino } from '../meta/key.js';
import type { ListFormat } from './sealed-state-file.js';

/**
 * An inode and the name under which it was pinned. If another file replaces it under that name, that file is pinned.
 */
export interface Pin {
  readonly ino: Ino;
  readonly parent: Ino;
  readonly name: ByteString;
}

/** Per pin: ino varint; parent ino varint; name: length varint and bytes (empty for the root). */
export const pinList: ListFormat<Pin> = {
  name: 'pins',
  countMax: 10_000,
  write(writer, { ino, parent, name }) {
    writer.varint(ino).varint(parent).varint(name.length).byteString(name);
  },
  read(reader) {
    const [ino, parent] = [reader.varint() as Ino, reader.varint() as Ino];
    return { ino, parent, name: reader.byteString(reader.varint()) };
  },
};
