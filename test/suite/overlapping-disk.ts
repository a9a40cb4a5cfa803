/**
 * A disk whose operations overlap: each takes a seeded number of turns before it happens, so operations that begin
 * together end in any order. It wraps {@link SimulatedDisk}, whose operations happen when they are called.
 */
import type { Disk, DiskFile } from '../../src/disk/disk.js';
import type { SeededRandom } from './seeded-random.js';

export function overlappingDisk(inner: Disk, random: SeededRandom): Disk {
  const turns = async (): Promise<void> => {
    for (let left = random.below(12); left > 0; left--) await Promise.resolve();
  };
  const later = async <T>(work: () => Promise<T>): Promise<T> => {
    await turns();
    const result = await work();
    await turns();
    return result;
  };
  const wrap = (file: DiskFile): DiskFile => ({
    read: (target, position) => later(() => file.read(target, position)),
    write: (bytes, position) => later(() => file.write(bytes, position)),
    writeSync: (bytes, position) => file.writeSync(bytes, position),
    datasync: () => later(() => file.datasync()),
    sync: () => later(() => file.sync()),
    truncate: (size) => later(() => file.truncate(size)),
    allocate: (size) => later(() => file.allocate(size)),
    setAccess: (access) => later(() => file.setAccess(access)),
    stat: () => later(() => file.stat()),
    isUnlinked: () => file.isUnlinked(),
    isAt: (place) => file.isAt(place),
    close: () => later(() => file.close()),
  });
  return {
    open: async (path, mode) => wrap(await later(() => inner.open(path, mode))),
    stat: (path) => later(() => inner.stat(path)),
    lstat: (path) => later(() => inner.lstat(path)),
    openDirectory: (path) => later(() => inner.openDirectory(path)),
    readDirectory: (path, isWanted) => later(() => inner.readDirectory(path, isWanted)),
    makeDirectory: (path) => later(() => inner.makeDirectory(path)),
    removeDirectory: (path) => later(() => inner.removeDirectory(path)),
    rename: (from, to) => later(() => inner.rename(from, to)),
    link: (from, to) => later(() => inner.link(from, to)),
    unlink: (path) => later(() => inner.unlink(path)),
    syncDirectory: (path) => later(() => inner.syncDirectory(path)),
    space: (path) => later(() => inner.space(path)),
  };
}
