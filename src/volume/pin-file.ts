/** Which files and folders are pinned on this machine, in the state directory (doc/format.md, "Local files"): sealed, since it holds names. */
import type { ByteString } from '../base/brand.js';
import type { Ino } from '../meta/key.js';
import type { ListFormat } from './sealed-state-file.js';

/** The inode, and the name under which it was pinned: a file that is replaced by another one of its name stays pinned. */
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
