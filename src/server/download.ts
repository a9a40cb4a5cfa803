/** Sending an object, or a range of it, piece by piece: while one is on its way the next is read, and no more is in memory. */
import type { ObjectKey, ObjectStore } from '../store/object-store.js';
import type { Exchange } from './exchange.js';
import { Refusal } from './refusal.js';
import type { RangeRequest } from './request-target.js';

const pieceSize = 512 * 1024;

/** False when there is no such object, and nothing was answered. Throws {@link Refusal} and StoreError, also in the middle of the answer. */
export async function sendObject(
  exchange: Exchange,
  base: Pick<ObjectStore, 'get' | 'head'>,
  key: ObjectKey,
  range: RangeRequest | undefined,
): Promise<boolean> {
  if (range?.offset !== undefined && range.length !== undefined && range.length <= pieceSize) {
    // The usual case: one look is enough, and the size of the whole need not be known.
    const { offset } = range;
    const bytes = await base.get(key, { range: { offset, length: range.length } });
    if (!bytes) return false;
    if (bytes.byteLength === 0) throw new Refusal('RANGE', 'the range is behind the end');
    exchange.begin(206, bytes.byteLength, { 'content-range': `bytes ${offset}-${offset + bytes.byteLength - 1}/*` });
    await exchange.write(bytes);
    exchange.end();
    return true;
  }
  if (!range) {
    const bytes = await base.get(key, { range: { offset: 0, length: pieceSize } });
    if (!bytes) return false;
    const isWhole = bytes.byteLength < pieceSize;
    const size = isWhole ? bytes.byteLength : await base.head(key);
    if (size === undefined) return false;
    exchange.begin(200, size);
    await sendPieces(exchange, base, key, 0, size, bytes);
    return true;
  }
  const size = await base.head(key);
  if (size === undefined) return false;
  const start = range.offset ?? Math.max(0, size - (range.length ?? 0));
  const end = range.offset === undefined ? size : Math.min(size, start + (range.length ?? Infinity));
  if (start >= end) throw new Refusal('RANGE', 'the range is behind the end');
  exchange.begin(206, end - start, { 'content-range': `bytes ${start}-${end - 1}/${size}` });
  await sendPieces(exchange, base, key, start, end, undefined);
  return true;
}

async function sendPieces(
  exchange: Exchange,
  base: Pick<ObjectStore, 'get'>,
  key: ObjectKey,
  start: number,
  end: number,
  first: Uint8Array | undefined,
): Promise<void> {
  const read = async (at: number): Promise<Uint8Array> => {
    const length = Math.min(pieceSize, end - at);
    const piece = await base.get(key, { range: { offset: at, length } });
    // It was deleted meanwhile, or the base has lost a part of it.
    if (piece?.byteLength !== length) throw new Refusal('BASE_ANSWER', 'an object ended early');
    return piece;
  };
  let next: Promise<Uint8Array> | Uint8Array | undefined = end > start ? (first ?? read(start)) : undefined;
  for (let at = start; next !== undefined; ) {
    const piece: Uint8Array = await next;
    at += piece.byteLength;
    next = at < end ? read(at) : undefined;
    // It may fail while this one is on its way: then it is heard of below, or by nobody.
    if (next instanceof Promise) next.catch(() => {});
    if (!(await exchange.write(piece))) return;
  }
  exchange.end();
}
