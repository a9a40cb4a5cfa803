/** Copies all objects of a store into a folder, for programs. */
import type { Sealed } from '../../src/base/brand.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import type { ObjectStore } from '../../src/store/object-store.js';

/** `folder` must not exist. */
export async function exportStore(from: ObjectStore, folder: string): Promise<void> {
  const store = await DirectoryStore.create(folder, { disk: systemDisk, random: systemRandom });
  for await (const { key } of from.list('')) await store.put(key, (await from.get(key)) as Sealed);
  await store.close();
}
