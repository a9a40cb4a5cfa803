/**
 * Receives the body of a put: small ones in memory, others in a file beside the base, which takes them from there.
 * After any failure nothing of it stays behind (doc/server.md, "Limits").
 */

import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type { Sealed } from '../base/brand.js';
import type { Clock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import { ConfinedFolder } from '../disk/confined-folder.js';
import type { Disk, DiskFile } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';
import { removeStaleFiles, temporaryName } from '../disk/temporary-file.js';
import { ensureDirectory, isDiskFull } from '../disk/whole-file.js';
import type { ObjectBody } from '../store/object-store.js';
import type { PieceBuffers } from './piece-buffers.js';
import { pieceSize } from './piece-buffers.js';
import { Refusal } from './refusal.js';

export interface Upload {
  readonly body: ObjectBody;
  /** Removes the file unless the base has moved it. */
  discard(): Promise<void>;
}

const memoryMax = 64 * 1024;
/** Pieces that are being written while more come in. */
const writesAtOnce = 3;

/** The connection ended before the body was complete: there is nobody to answer. */
export class CutUpload extends Error {
  override readonly name = 'CutUpload';
}

/**
 * The folder where uploads become files. Several servers may share one. Others may write around it: no link is followed
 * there, and nothing is removed that is not an upload.
 */
export class UploadFolder {
  readonly #folder: ConfinedFolder;
  readonly #place: string;
  readonly #disk: Disk;
  readonly #random: Random;

  /**
   * `place` in `folder`: on the file system of a directory store an upload is linked from it; made when there is none.
   */
  constructor(folder: ConfinedFolder, place: string, disk: Disk, random: Random) {
    this.#folder = folder;
    this.#place = place;
    this.#disk = disk;
    this.#random = random;
  }

  /** Throws what the disk does: ELOOP where the folder is a link. */
  async check(): Promise<void> {
    await this.#folder.use(this.#place, async () => {});
  }

  /** Removes uploads that killed servers left behind. */
  async removeStale(clock: Clock): Promise<void> {
    // Confined to the folder itself, which may be a filesystem of its own.
    await this.#folder.use(this.#place, (path) => removeStaleFiles(this.#disk, new ConfinedFolder(this.#disk, path), '', clock)).catch(() => {});
  }

  /** The whole body of a request that announced `size` bytes. Throws {@link Refusal} and {@link CutUpload}. */
  async receive(request: IncomingMessage, size: number, buffers: PieceBuffers): Promise<Upload> {
    if (size <= memoryMax) return { body: await receiveSmall(request, size), discard: async () => {} };
    const name = temporaryName(this.#random);
    const discard = async (): Promise<void> => {
      await this.#folder.use(this.#place, (folder) => this.#disk.unlink(join(folder, name))).catch(() => {});
    };
    let file: DiskFile;
    try {
      file = await this.#create(name);
    } catch (error) {
      throw spoolRefusal(error);
    }
    try {
      try {
        await receiveFile(request, size, file, buffers);
        await file.datasync();
      } finally {
        await file.close();
      }
    } catch (error) {
      await discard();
      throw spoolRefusal(error);
    }
    return { body: { path: join(this.#folder.root, this.#place, name), size }, discard };
  }

  async #create(name: string): Promise<DiskFile> {
    const create = (): Promise<DiskFile> => this.#folder.use(this.#place, (folder) => this.#disk.open(join(folder, name), 'create-new'));
    try {
      return await create();
    } catch (error) {
      if (diskErrorCode(error) !== 'ENOENT') throw error;
      await ensureDirectory(this.#disk, join(this.#folder.root, this.#place));
      return create();
    }
  }
}

function spoolRefusal(error: unknown): unknown {
  const code = diskErrorCode(error);
  if (error instanceof Refusal || error instanceof CutUpload || code === undefined) return error;
  if (isDiskFull(error)) return new Refusal('NO_ROOM', 'the disk for uploads is full', { cause: error });
  if (code === 'EROFS') return new Refusal('READ_ONLY', 'the disk for uploads takes no writes', { cause: error });
  return new Refusal('UNAVAILABLE', 'uploads cannot be kept', { cause: error, retryAfterSec: 10 });
}

async function receiveSmall(request: IncomingMessage, size: number): Promise<Sealed> {
  const bytes = Buffer.alloc(size);
  let received = 0;
  await eachPiece(request, size, (piece, at) => {
    bytes.set(piece, at);
    received += piece.byteLength;
    return undefined;
  });
  if (received !== size) throw new CutUpload('the body ended early');
  // Devices send sealed bytes, which nothing here can verify.
  return bytes as Uint8Array as Sealed;
}

/** Gathers incoming bytes into pieces large enough to be worth a write. */
async function receiveFile(request: IncomingMessage, size: number, file: DiskFile, buffers: PieceBuffers): Promise<void> {
  let buffer: Buffer | undefined;
  let filled = 0;
  const writeOut = async (at: number): Promise<void> => {
    const [whole, count] = [buffer, filled];
    buffer = undefined;
    filled = 0;
    if (!whole) return;
    await file.write(whole.subarray(0, count), at - count);
    buffers.give(whole);
  };
  try {
    // The bytes are copied at once: pieces come in order, and only the writes overlap.
    await eachPiece(request, size, (piece, at) => {
      const writes: Promise<void>[] = [];
      for (let done = 0; done < piece.byteLength; ) {
        buffer ??= buffers.take();
        const count = piece.copy(buffer, filled, done, done + pieceSize - filled);
        done += count;
        filled += count;
        if (filled === pieceSize || at + done === size) writes.push(writeOut(at + done));
      }
      return writes.length === 0 ? undefined : allOf(writes);
    });
  } finally {
    if (buffer) buffers.give(buffer);
  }
}

/** Settles when all promises have settled: the file is closed then, and no write may be under way. */
async function allOf(writes: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(writes)).find((outcome) => outcome.status === 'rejected');
  if (failed) throw failed.reason;
}

/** Reads a small text body as a whole. Throws {@link CutUpload}. */
export async function receiveText(request: IncomingMessage, size: number): Promise<string> {
  return Buffer.from(await receiveSmall(request, size)).toString('latin1');
}

/**
 * Gives each piece of the body with its place to `take`, in order, and settles when all are taken or none is any more;
 * what `take` promises may overlap.
 */
function eachPiece(request: IncomingMessage, size: number, take: (piece: Buffer, at: number) => Promise<unknown> | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    let position = 0;
    let underWay = 0;
    let isWhole = false;
    let failure: { readonly error: unknown } | undefined;
    const settle = (): void => {
      if (underWay > 0 || (!failure && !isWhole)) return;
      request.off('data', onData).off('end', onEnd).off('close', onCut);
      if (failure) reject(failure.error);
      else resolve();
    };
    const fail = (error: unknown): void => {
      failure ??= { error };
      // The rest of the body is read and dropped when the answer is sent.
      request.pause();
      settle();
    };
    const onData = (piece: Buffer): void => {
      const at = position;
      position += piece.byteLength;
      if (failure) return;
      if (position > size) return fail(new CutUpload('the body is longer than it said'));
      const taken = take(piece, at);
      if (!taken) return;
      underWay++;
      if (underWay >= writesAtOnce) request.pause();
      taken.then(
        () => {
          underWay--;
          if (failure) settle();
          else if (isWhole) settle();
          else request.resume();
        },
        (error: unknown) => {
          underWay--;
          fail(error);
        },
      );
    };
    const onEnd = (): void => {
      if (position !== size) return fail(new CutUpload('the body is shorter than it said'));
      isWhole = true;
      settle();
    };
    const onCut = (): void => {
      if (!isWhole) fail(new CutUpload('the client disconnected'));
    };
    request.on('data', onData).on('end', onEnd).on('close', onCut);
    // The request may have been cut before this listened.
    if (request.destroyed && !request.readableEnded) onCut();
    else if (request.complete && request.readableEnded) onEnd();
  });
}
