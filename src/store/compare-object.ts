/**
 * Compares the object under a key with the body that we put, or meant to put, there: this decides every put whose
 * outcome is unknown (doc/architecture.md, "The store"). Bodies are unique, so equal bytes are our own.
 */
import { equalBytes } from '../base/bytes.js';
import type { Disk } from '../disk/disk.js';
import { bodyPieces, bodySize } from './file-body.js';
import type { ObjectBody, ObjectKey, ObjectStore } from './object-store.js';

const pieceSize = 4 * 1024 * 1024;

/** Reads the object in pieces that fit in memory. `disk` reads file bodies. Throws {@link StoreError}. */
export async function compareObject(
  store: Pick<ObjectStore, 'get'>,
  disk: Disk | undefined,
  key: ObjectKey,
  body: ObjectBody,
  signal: AbortSignal | undefined,
): Promise<'absent' | 'same' | 'different'> {
  let offset = 0;
  for await (const piece of bodyPieces(disk, body, pieceSize)) {
    const stored = await store.get(key, { range: { offset, length: piece.byteLength }, signal });
    if (!stored) return 'absent';
    if (!equalBytes(stored, piece)) return 'different';
    offset += piece.byteLength;
  }
  const rest = await store.get(key, { range: { offset: bodySize(body), length: 1 }, signal });
  if (!rest) return 'absent';
  return rest.byteLength === 0 ? 'same' : 'different';
}
