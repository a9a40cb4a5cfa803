/**
 * Reads bodies, which are bytes or finished local files, piece by piece: for uploads, and for comparing with what was
 * read back.
 */
import { assert } from '../base/assert.js';
import { describeError } from '../base/errors.js';
import type { Disk, DiskFile } from '../disk/disk.js';
import { diskErrorCode } from '../disk/disk.js';
import type { FileBody, ObjectBody } from './object-store.js';
import { StoreError } from './object-store.js';

const tooShort = 'the file of an object to store is too short';

async function openBody(disk: Disk, body: FileBody): Promise<DiskFile> {
  try {
    return await disk.open(body.path, 'read');
  } catch (error) {
    if (diskErrorCode(error) === undefined) throw error;
    throw new StoreError('PROTOCOL', `the file of an object to store cannot be read: ${describeError(error)}`, { cause: error });
  }
}

export function bodySize(body: Uint8Array | FileBody): number {
  return body instanceof Uint8Array ? body.byteLength : body.size;
}

/** All bytes of a file body. Throws {@link StoreError} `PROTOCOL` when the file is not what the body says. */
export async function readBody(disk: Disk | undefined, body: FileBody): Promise<Uint8Array> {
  for await (const piece of bodyPieces(disk, body, Math.max(1, body.size))) return piece;
  return new Uint8Array(0);
}

/**
 * `length` bytes of the body from `offset` on; borrowed where the body lies in memory. Throws {@link StoreError}
 * `PROTOCOL` when they are not there.
 */
export async function readBodyPart(disk: Disk, body: ObjectBody, offset: number, length: number): Promise<Uint8Array> {
  if (body instanceof Uint8Array) return body.subarray(offset, offset + length);
  const part = Buffer.allocUnsafeSlow(length);
  const file = await openBody(disk, body);
  try {
    if ((await file.read(part, offset)) !== length) throw new StoreError('PROTOCOL', tooShort);
    return part;
  } finally {
    await file.close();
  }
}

/**
 * The body in pieces of `pieceSize` bytes (the last may be shorter), owned by the caller where they come from a file.
 */
export async function* bodyPieces(disk: Disk | undefined, body: Uint8Array | FileBody, pieceSize: number): AsyncGenerator<Uint8Array> {
  if (body instanceof Uint8Array) {
    for (let at = 0; at < body.byteLength; at += pieceSize) yield body.subarray(at, at + pieceSize);
    return;
  }
  assert(disk, 'a store that takes file bodies has a disk to read them from');
  const file = await openBody(disk, body);
  try {
    for (let at = 0; at < body.size; at += pieceSize) {
      const piece = Buffer.allocUnsafeSlow(Math.min(pieceSize, body.size - at));
      if ((await file.read(piece, at)) !== piece.byteLength) throw new StoreError('PROTOCOL', tooShort);
      yield piece;
    }
  } finally {
    await file.close();
  }
}
