/**
 * Measures the tree, from memory pages to sealed packs. It builds 1,000,000 entries (argument 1: another count), looks
 * them up at random, scans them, and applies scattered changes. Run: `node dist/bench/tree.js`.
 */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withPages } from '../src/base/page-fault.js';
import { ChunkKey } from '../src/crypto/chunk-key.js';
import type { SealKind } from '../src/crypto/seal-format.js';
import { SealKey } from '../src/crypto/seal-key.js';
import { systemRandom } from '../src/crypto/system-random.js';
import { systemDisk } from '../src/disk/system-disk.js';
import type { PackKeys } from '../src/pack/item.js';
import { newPackId } from '../src/pack/pack-id.js';
import { PackSource } from '../src/pack/pack-source.js';
import { PackWriter } from '../src/pack/pack-writer.js';
import type { PageReference } from '../src/pack/page-reference.js';
import { MemoryStore } from '../src/store/memory-store.js';
import { TreeReader } from '../src/tree/tree-reader.js';
import type { TreeChange } from '../src/tree/tree-writer.js';
import { applyBatch } from '../src/tree/tree-writer.js';

const count = Number(process.argv[2] ?? 1_000_000);
const options = { subkey: systemRandom.bytes(32), suite: 1, volumeId: Buffer.alloc(32), epoch: 1 } as const;
const key = (kind: SealKind): SealKey => new SealKey({ kind, ...options, random: systemRandom });
const keys: PackKeys = { epoch: 1, chunk: new ChunkKey(options), page: key('page'), packIndex: key('pack-index'), packFooter: key('pack-footer') };

const report = (what: string, ms: number, operations: number): void => {
  const each = (ms * 1000) / operations;
  process.stdout.write(`${what.padEnd(52)} ${ms.toFixed(0).padStart(7)} ms ${each.toFixed(2).padStart(9)} us each\n`);
};

const directory = await mkdtemp(join(tmpdir(), 'sealdrive-bench-'));
try {
  const id = newPackId(systemRandom);
  const writer = await PackWriter.create({ disk: systemDisk, id, path: join(directory, id), keys, random: systemRandom });
  const source = new PackSource({ store: new MemoryStore(), keys, staging: new Map([[id, writer]]) });

  const keyOf = (number: number): string => {
    const ino = Math.floor(number / 2);
    return `${number % 2 === 0 ? 'D' : 'I'}\0\0\0\0${String.fromCharCode(ino >>> 24, (ino >>> 16) & 255, (ino >>> 8) & 255, ino & 255)}${number % 2 === 0 ? `file-${number}.txt` : ''}`;
  };
  // Entries like those of a volume: half directory entries of 8 bytes, half inodes of some 70.
  const valueOf = (number: number): Uint8Array => {
    const value = Buffer.alloc(number % 2 === 0 ? 8 : 70);
    value.writeUInt32LE(Math.imul(number, 0x9e3779b1) >>> 0, 0);
    if (number % 2 !== 0) value.writeUInt32LE(Math.imul(number, 0x85ebca6b) >>> 0, 40);
    return value;
  };
  const entries = Array.from({ length: count }, (_, number): TreeChange => [keyOf(number), valueOf(number)]).toSorted(([a], [b]) => (a < b ? -1 : 1));

  const timed = async <T>(what: string, operations: number, run: () => T | Promise<T>): Promise<T> => {
    const start = performance.now();
    const result = await run();
    report(what, performance.now() - start, operations);
    return result;
  };

  let blockedMs = 0;
  let last = performance.now();
  const watch = setInterval(() => {
    const now = performance.now();
    blockedMs = Math.max(blockedMs, now - last);
    last = now;
  }, 1);
  const root = (await timed(`build ${count} entries (seal, compress, write)`, count, () =>
    applyBatch(new TreeReader(source, { cacheMax: 1 }), undefined, entries, writer),
  )) as PageReference;
  clearInterval(watch);
  process.stdout.write(
    `  ${writer.itemCount} pages, ${(writer.size / 2 ** 20).toFixed(1)} MiB sealed; event loop away for at most ${blockedMs.toFixed(1)} ms\n`,
  );

  const reader = new TreeReader(source, { cacheMax: 512 * 2 ** 20 });
  await timed('scan, pages from the pack', count, async () => {
    let from = '';
    for (;;) {
      const part = await withPages(() => {
        const found: string[] = [];
        for (const [found1] of reader.scan(root, from, '\u00ff')) {
          found.push(found1);
          if (found.length === 1000) break;
        }
        return found;
      });
      if (part.length === 0) break;
      from = `${part[part.length - 1]}\0`;
    }
  });
  process.stdout.write(`  ${(reader.cachedBytes / 2 ** 20).toFixed(1)} MiB of pages in memory\n`);
  await timed('scan, pages in memory', count, () => {
    let bytes = 0;
    for (const [, value] of reader.scan(root, '', '\u00ff')) bytes += value.byteLength;
    return bytes;
  });
  const lookups = 1_000_000;
  const order = Array.from({ length: lookups }, (_, index) => entries[(Math.imul(index, 0x9e3779b1) >>> 0) % count]![0]);
  await timed('random look-ups, pages in memory', lookups, () => {
    for (const wanted of order) if (!reader.get(root, wanted)) throw new Error('a key is not there');
  });
  await timed('failing look-ups, pages in memory', lookups, () => {
    for (const wanted of order) if (reader.get(root, `${wanted}!`)) throw new Error('a key is there');
  });
  const cold = new TreeReader(source, { cacheMax: 8 * 2 ** 20 });
  await timed('20,000 random look-ups, 8 MiB of page cache', 20_000, async () => {
    for (let index = 0; index < 20_000; index++) await withPages(() => cold.get(root, order[index]!));
  });
  for (const changes of [1000, 50_000]) {
    const touched = new Set(Array.from({ length: changes }, (_, index) => Math.imul(index + 1, 0x9e3779b1) >>> 0).map((number) => number % count));
    const batch = [...touched].toSorted((a, b) => a - b).map((number): TreeChange => [entries[number]![0], Buffer.from(`changed ${number}`)]);
    const before = writer.size;
    const pages = writer.itemCount;
    await timed(`${changes} scattered changes`, changes, () => applyBatch(reader, root, batch, writer));
    process.stdout.write(`  ${writer.itemCount - pages} pages, ${((writer.size - before) / 2 ** 20).toFixed(1)} MiB\n`);
  }
  await writer.close();
} finally {
  await rm(directory, { recursive: true });
}
