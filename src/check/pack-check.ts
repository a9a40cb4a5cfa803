/**
 * Checks the packs that the volume refers to (doc/cli.md, "check, repair, salvage"): whether they exist and, on
 * request, whether every chunk opens and every index is right. It reads from the store alone, neighbouring chunks with
 * one request, and nothing twice.
 */

import { equalBytes } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import { Limiter } from '../base/limiter.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { Ino } from '../meta/key.js';
import type { PackEntry } from '../meta/pack-entry.js';
import type { PackKeys } from '../pack/item.js';
import { decodeChunk, openStored } from '../pack/item.js';
import { PackError } from '../pack/pack-error.js';
import type { PackId } from '../pack/pack-id.js';
import { packKey } from '../pack/pack-id.js';
import { type ChunkItem, readPackIndex } from '../pack/pack-index.js';
import type { ObjectStore } from '../store/object-store.js';
import type { Findings } from './finding.js';
import type { PackUsage, UsedChunk } from './pack-usage.js';

interface PackCheckOptions {
  readonly store: ObjectStore;
  readonly keys: PackKeys;
  readonly usage: PackUsage;
  /** Packs according to the commits that brought them. */
  readonly known: ReadonlyMap<PackId, Pick<PackEntry, 'size' | 'indexHash'>>;
  /** Whether `known` is complete; a part of the log may be unreadable. */
  readonly isLogWhole: boolean;
  readonly findings: Findings;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: (done: number, total: number) => void;
}

const requestMax = 4 * 1024 * 1024;
const concurrency = 4;
const packPattern = /^packs\/([0-9a-f]{2})\/([0-9a-f]{32})$/;

/** Reports missing packs, wrong sizes and foreign objects. Returns the packs that are present. */
export async function checkPresence(options: PackCheckOptions): Promise<ReadonlySet<PackId>> {
  const { store, usage, known, findings, signal, isLogWhole } = options;
  const listed = new Map<PackId, number | undefined>();
  let unused = 0;
  for await (const { key, size } of store.list('packs/', signal ? { signal } : {})) {
    const [, folder, name] = packPattern.exec(key) ?? [];
    if (folder === undefined || !name?.startsWith(folder)) {
      findings.add('OBJECT_FOREIGN', 'an object among the packs that is not a pack', { object: key });
      continue;
    }
    const id = name as PackId;
    if (usage.packs.has(id)) listed.set(id, size);
    else unused++;
  }
  if (unused > 0) findings.add('PACK_UNUSED', `${unused} packs contain nothing that the newest state refers to`, { found: unused });
  const present = new Set<PackId>();
  for (const [pack, end] of usage.packs) {
    signal?.throwIfAborted();
    const ino = usage.fileOf(pack);
    const facts = { pack, ...(ino === undefined ? {} : { ino }) };
    const size = known.get(pack)?.size;
    if (size === undefined && isLogWhole) findings.add('PACK_UNKNOWN', 'no commit brought this pack', facts);
    // The list is only a hint, since it may lag behind.
    const found = listed.has(pack) ? listed.get(pack) : await store.head(packKey(pack));
    if (found === undefined && !listed.has(pack)) {
      findings.add('PACK_MISSING', `pack ${pack} is not in the store`, facts);
      continue;
    }
    present.add(pack);
    if (size !== undefined && found !== undefined && found !== size)
      findings.add('PACK_SIZE', `pack ${pack} has another size than when it was written`, { ...facts, expected: size, found });
    if (size !== undefined && end > size)
      findings.add('EXTENT_OUTSIDE_PACK', `something reaches past the end of pack ${pack}`, { ...facts, expected: size, found: end });
  }
  return present;
}

/** Opens every chunk that is referred to, and the index of every pack in use. Returns how much was opened. */
export async function checkContent(
  options: PackCheckOptions,
  present: ReadonlySet<PackId>,
): Promise<{ readonly chunks: number; readonly bytes: number }> {
  const { usage, known, onProgress } = options;
  const packs = [...usage.packs.keys()].filter((pack) => present.has(pack)).toSorted();
  const total = packs.reduce((sum, pack) => sum + (known.get(pack)?.size ?? usage.packs.get(pack) ?? 0), 0);
  let done = 0;
  let chunks = 0;
  let bytes = 0;
  const limiter = new Limiter(concurrency);
  await everyOne(
    packs.map((pack) =>
      limiter.run(async () => {
        options.signal?.throwIfAborted();
        const used = usage.takeChunks(pack);
        await checkIndex(options, pack, used);
        for (const run of runsOf(used)) {
          options.signal?.throwIfAborted();
          await checkRun(options, pack, run);
          for (const { plainLength } of run) bytes += plainLength;
          chunks += run.length;
        }
        done += known.get(pack)?.size ?? usage.packs.get(pack) ?? 0;
        onProgress?.(done, total);
      }),
    ),
  );
  return { chunks, bytes };
}

/** Waits for all tasks before it throws the first error, since they share what the caller will close. */
async function everyOne(tasks: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(tasks)).find((outcome) => outcome.status === 'rejected');
  if (failed) throw failed.reason;
}

/** Checks that the index agrees with the extents. Ordinary reads do not need it, so damage there loses nothing. */
async function checkIndex({ store, keys, known, findings, signal }: PackCheckOptions, pack: PackId, used: readonly UsedChunk[]): Promise<void> {
  const entry = known.get(pack);
  if (!entry) return;
  try {
    const read = async (offset: number, length: number): Promise<Uint8Array> => {
      const bytes = await store.get(packKey(pack), { range: { offset, length }, ...(signal ? { signal } : {}) });
      return bytes ?? new Uint8Array(0);
    };
    const items = await readPackIndex(keys, pack, entry.size, read, entry.indexHash);
    const indexed = new Map(items.filter((item) => item.kind === 'chunk').map((item) => [item.offset, item]));
    const stray = used.find((chunk) => !isSameChunk(indexed.get(chunk.offset), chunk));
    if (stray)
      findings.add('PACK_INDEX_DAMAGED', `the index of pack ${pack} does not have a chunk that a file refers to`, { pack, offset: stray.offset });
  } catch (error) {
    if (!(error instanceof PackError)) throw error;
    findings.add('PACK_INDEX_DAMAGED', `the index of pack ${pack} cannot be read: ${describeError(error)}`, { pack });
  }
}

function isSameChunk(indexed: ChunkItem | undefined, { codec, plainLength, storedLength, salt, hash }: UsedChunk): boolean {
  const isLike = indexed?.codec === codec && indexed.plainLength === plainLength && indexed.storedLength === storedLength;
  return isLike && equalBytes(indexed.salt, salt) && equalBytes(indexed.hash, hash);
}

type Run = readonly [UsedChunk, ...UsedChunk[]];

const endOf = ({ offset, sealedLength }: UsedChunk): number => offset + sealedLength;

/** Adjacent chunks, as many as one request may fetch. */
function* runsOf(chunks: readonly UsedChunk[]): IterableIterator<Run> {
  let run: [UsedChunk, ...UsedChunk[]] | undefined;
  for (const chunk of chunks) {
    const isNext = run && chunk.offset === endOf(run.at(-1) ?? run[0]) && endOf(chunk) - run[0].offset <= requestMax;
    if (run && isNext) run.push(chunk);
    else {
      if (run) yield run;
      run = [chunk];
    }
  }
  if (run) yield run;
}

async function checkRun({ store, keys, findings, signal }: PackCheckOptions, pack: PackId, run: Run): Promise<void> {
  const [{ offset }] = run;
  const length = endOf(run.at(-1) ?? run[0]) - offset;
  const sealed = (await store.get(packKey(pack), { range: { offset, length }, ...(signal ? { signal } : {}) })) ?? new Uint8Array(0);
  for (const chunk of run) {
    try {
      await openChunk(keys, pack, chunk, sealed.subarray(chunk.offset - offset, chunk.offset - offset + chunk.sealedLength));
    } catch (error) {
      if (!(error instanceof PackError)) throw error;
      for (const ino of chunk.inos) reportChunk(findings, pack, chunk, ino, error);
    }
  }
}

function reportChunk(findings: Findings, pack: PackId, { offset }: UsedChunk, ino: Ino, error: PackError): void {
  findings.add('CHUNK_DAMAGED', `a chunk does not open: ${describeError(error)}`, { ino, pack, offset });
}

/** Throws PackError unless `sealed` is the right chunk. */
async function openChunk(keys: PackKeys, pack: PackId, chunk: UsedChunk, sealed: Uint8Array): Promise<void> {
  if (sealed.byteLength < chunk.sealedLength) throw new PackError('MISSING', `pack ${pack} ends before the chunk`);
  try {
    const plain = await decodeChunk(chunk, openStored(keys, { ...chunk, pack }, chunk.hash, sealed));
    plain.fill(0);
  } catch (error) {
    if (error instanceof CryptoError) throw new PackError('NOT_AUTHENTIC', `chunk at ${chunk.offset} of pack ${pack}`, { cause: error });
    throw error;
  }
}
