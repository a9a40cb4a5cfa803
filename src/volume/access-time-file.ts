/**
 * Access times that the volume itself does not hold yet, kept in the state directory so that they outlive the daemon
 * without a commit (doc/format.md, "Local files"; doc/decision/0022).
 */
import type { Timespec } from '../base/clock.js';
import type { Ino } from '../meta/key.js';
import { type ListFormat, loadList, type StatePlace, saveList } from './sealed-state-file.js';

export interface NotedAccess {
  readonly ino: Ino;
  readonly atime: Timespec;
}

/** Keeps access times between two mounts. Both calls may reject with disk errors; one call at a time. */
export interface AccessTimeStore {
  /** The most inodes it holds. */
  readonly countMax: number;
  /** In the order in which they were saved; empty when the file cannot be read. */
  load(): Promise<readonly NotedAccess[]>;
  save(noted: readonly NotedAccess[]): Promise<void>;
}

/** Per inode: ino varint; seconds varint (from 1970 on); nanoseconds u32. */
const accessTimeList: ListFormat<NotedAccess> = {
  name: 'access-times',
  countMax: 65_536,
  write(writer, { ino, atime }) {
    writer.varint(ino).varint(Math.max(0, atime.sec)).u32(atime.nsec);
  },
  read(reader) {
    return { ino: reader.varint() as Ino, atime: { sec: reader.varint(), nsec: reader.u32() % 1_000_000_000 } };
  },
};

export function accessTimeStore(place: StatePlace): AccessTimeStore {
  return {
    countMax: accessTimeList.countMax,
    load: async () => (await loadList(place, accessTimeList)) ?? [],
    save: (noted) => saveList(place, accessTimeList, noted),
  };
}
