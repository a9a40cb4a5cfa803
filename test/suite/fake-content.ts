/**
 * Chunk references whose content follows from the reference, so that a model can say what a file made of them holds.
 */
import { chunkSaltLength, hashesLength, sealedChunkLength } from '../../src/crypto/stream-format.js';
import type { DataExtent } from '../../src/meta/extent.js';
import { type Ino } from '../../src/meta/key.js';
import { readInode, scanExtents } from '../../src/operation/inode-view.js';
import type { ReadView } from '../../src/operation/view.js';
import type { RunChunk } from '../../src/pack/item.js';
import type { PackId } from '../../src/pack/pack-id.js';
import type { SeededRandom } from './seeded-random.js';

let packs = 0;

/** A run of up to `chunksMax` chunks that holds `length` bytes and some more around them. */
export function fakeExtent(random: SeededRandom, length: number, chunksMax = 4): DataExtent {
  const skip = random.below(3) === 0 ? random.below(64) : 0;
  const total = skip + length + (random.below(3) === 0 ? random.below(64) : 0);
  const count = Math.min(total, 1 + random.below(chunksMax));
  const chunks: RunChunk[] = [];
  let rest = total;
  for (let left = count; left > 0; left--) {
    const plainLength = left === 1 ? rest : 1 + random.below(rest - left + 1);
    const sealedLength = sealedChunkLength(plainLength);
    const bound = { salt: random.bytes(chunkSaltLength), hashes: random.bytes(hashesLength(plainLength)) };
    chunks.push({ codec: 'raw', plainLength, storedLength: plainLength, sealedLength, ...bound });
    rest -= plainLength;
  }
  // A slice drops chunks that it does not touch, and so may a new extent.
  let packOffset = random.below(1000);
  let firstSkip = skip;
  while (firstSkip >= chunks[0]!.plainLength) {
    firstSkip -= chunks[0]!.plainLength;
    packOffset += chunks[0]!.sealedLength;
    chunks.shift();
  }
  const pack = (++packs).toString(16).padStart(32, '0') as PackId;
  return { kind: 'data', length, skip: firstSkip, pack, packOffset, chunks };
}

/** The content of the extent. */
export function contentOf(extent: DataExtent): Uint8Array {
  const plain: number[] = [];
  const seed = Number.parseInt(extent.pack.slice(-12), 16);
  let at = extent.packOffset;
  for (const chunk of extent.chunks) {
    for (let index = 0; index < chunk.plainLength; index++)
      plain.push((Math.imul(seed * 31 + at, 0x9e3779b1) + index * 167 + (index >>> 8) * 13) & 0xff);
    at += chunk.sealedLength;
  }
  return Uint8Array.from(plain.slice(extent.skip, extent.skip + extent.length));
}

/** All bytes of a file. */
export function readFile(view: ReadView, ino: Ino): Uint8Array {
  const inode = readInode(view, ino);
  if (!inode) throw new Error('no such file');
  const content = new Uint8Array(inode.size);
  content.set(inode.inline);
  for (const { offset, extent } of scanExtents(view, ino, 0, inode.size)) {
    if (extent.kind === 'data') content.set(contentOf(extent).subarray(0, Math.max(0, inode.size - offset)), offset);
  }
  return content;
}
