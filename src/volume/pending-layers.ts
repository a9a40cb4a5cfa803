/**
 * Operations that are in no commit yet and their changes, in layers that each fit into one commit. A device that could
 * not commit for long catches up layer by layer, and no commit exceeds what others may read (doc/concurrency.md,
 * "Layers"). Plain data: `volume-state.ts` decides when a layer flies or lands.
 */
import { assert } from '../base/assert.js';
import type { Carried } from '../commit/lost-work.js';
import { decodeInode, isDirectory, S_IFDIR, S_IFMT } from '../meta/inode.js';
import { type Ino, inodeKey } from '../meta/key.js';
import type { Operation, RenameOperation } from '../operation/operation.js';
import { RENAME_EXCHANGE } from '../operation/operation-namespace.js';
import { Overlay } from '../operation/overlay.js';

/**
 * An operation, or what a rebase has made of it: then several may have one serial, side by side. The name, which is
 * author and serial, stays.
 */
export interface PendingOperation {
  /** Counts its author's operations. */
  readonly serial: number;
  readonly operation: Operation;
  /** Its author, when that is another device, whose work this one does again. */
  readonly carried?: Carried | undefined;
}

export interface Totals {
  files: number;
  bytes: number;
}

/**
 * The most bytes of changes in memory, which exceed their size in a commit. A commit may have 48 MiB, and flying
 * operations may grow in a rebase.
 */
export const layerBytesMax = 8 * 1024 * 1024;
/** Memory that an operation takes in addition to its bytes. */
const operationOverhead = 160;
const pieceBytes = 96;
const chunkBytes = 200;

export class Layer {
  readonly changes = new Overlay();
  readonly operations: PendingOperation[] = [];
  readonly totals: Totals = { files: 0, bytes: 0 };
  #operationBytes = 0;
  #movesDirectories = false;
  /** Directories that others were moved to or created in. */
  readonly #places = new Set<Ino>();
  readonly #onlyRead = new Set<Ino>();

  /** Whether a directory was moved to another parent. May be true when none was. */
  get movesDirectories(): boolean {
    return this.#movesDirectories;
  }

  get directoryPlaces(): ReadonlySet<Ino> {
    return this.#places;
  }

  /** Inodes that operations depend on without changing them: sources of clones, directories of files without a name. */
  get onlyRead(): ReadonlySet<Ino> {
    return this.#onlyRead;
  }

  /** Approximate memory. */
  get bytes(): number {
    return this.changes.bytes + this.#operationBytes;
  }

  add(operations: readonly PendingOperation[], changes: Overlay, delta: Readonly<Totals>): void {
    for (const { operation } of operations) this.#note(operation, changes);
    this.#add(operations, changes, delta);
  }

  absorb(newer: Layer): void {
    this.#movesDirectories ||= newer.movesDirectories;
    for (const ino of newer.directoryPlaces) this.#places.add(ino);
    for (const ino of newer.onlyRead) this.#onlyRead.add(ino);
    this.#add(newer.operations, newer.changes, newer.totals);
  }

  #note(operation: Operation, changes: Overlay): void {
    if (operation.type === 'clone') this.#onlyRead.add(operation.from);
    if (operation.type === 'create' && operation.name === undefined) this.#onlyRead.add(operation.parent);
    if (operation.type === 'create' && (operation.mode & S_IFMT) === S_IFDIR) this.#places.add(operation.parent);
    if (operation.type !== 'rename' || !movesDirectory(operation, changes)) return;
    this.#movesDirectories = true;
    this.#places.add(operation.newParent).add(operation.parent);
  }

  #add(operations: readonly PendingOperation[], changes: Overlay, delta: Readonly<Totals>): void {
    this.changes.absorb(changes);
    for (const one of operations) {
      this.operations.push(one);
      this.#operationBytes += bytesOf(one.operation);
    }
    addTotals(this.totals, delta);
  }

  /** Whether the layer has room for these changes. An empty layer takes anything. */
  fits(changes: Overlay): boolean {
    return this.operations.length === 0 || this.changes.bytes + changes.bytes <= layerBytesMax;
  }
}

/** Layers in the order of their operations. There is always a newest one, and only that one may be empty. */
export class PendingLayers {
  readonly #layers: Layer[] = [new Layer()];

  get #newest(): Layer {
    const newest = this.#layers.at(-1);
    assert(newest, 'there is always a layer');
    return newest;
  }

  /** Newest first, the order that views need. */
  get overlays(): Overlay[] {
    return this.#layers.map(({ changes }) => changes).toReversed();
  }

  get layerCount(): number {
    return this.#layers.length;
  }

  get operations(): readonly PendingOperation[] {
    return this.#layers.length === 1 ? this.#newest.operations : this.#layers.flatMap((layer) => layer.operations);
  }

  get operationCount(): number {
    let count = 0;
    for (const { operations } of this.#layers) count += operations.length;
    return count;
  }

  /** Approximate memory. */
  get bytes(): number {
    let total = 0;
    for (const { bytes } of this.#layers) total += bytes;
    return total;
  }

  get totals(): Totals {
    const totals = { files: 0, bytes: 0 };
    for (const layer of this.#layers) addTotals(totals, layer.totals);
    return totals;
  }

  get movesDirectories(): boolean {
    return this.#layers.some((layer) => layer.movesDirectories);
  }

  get directoryPlaces(): readonly Ino[] {
    return this.#layers.flatMap((layer) => [...layer.directoryPlaces]);
  }

  /** Like {@link Layer.onlyRead}, over all layers. */
  readsOnly(ino: Ino): boolean {
    return this.#layers.some((layer) => layer.onlyRead.has(ino));
  }

  /** The oldest operation is 0. */
  at(index: number): PendingOperation | undefined {
    let left = index;
    for (const { operations } of this.#layers) {
      if (left < operations.length) return operations[left];
      left -= operations.length;
    }
    return undefined;
  }

  /** Returns whether a new layer was begun. */
  add(operations: readonly PendingOperation[], changes: Overlay, delta: Readonly<Totals>): boolean {
    const fits = this.#newest.fits(changes);
    const layer = fits ? this.#newest : new Layer();
    if (!fits) this.#layers.push(layer);
    layer.add(operations, changes, delta);
    return !fits;
  }

  takeOldest(): Layer {
    const oldest = this.#layers.shift() ?? new Layer();
    if (this.#layers.length === 0) this.#layers.push(new Layer());
    return oldest;
  }

  /** Undoes {@link takeOldest}: merges the layer with those that follow, where they fit. */
  putBack(oldest: Layer): void {
    const next = this.#layers[0];
    if (next && oldest.fits(next.changes)) {
      oldest.absorb(next);
      this.#layers.shift();
    }
    this.#layers.unshift(oldest);
  }
}

export function addTotals(totals: Totals, delta: Readonly<Totals>): void {
  totals.files += delta.files;
  totals.bytes += delta.bytes;
}

/** `changes`: what the operation has changed, including the inodes that it moved. */
function movesDirectory(operation: RenameOperation, changes: Overlay): boolean {
  if (operation.parent === operation.newParent) return false;
  const { ino, replacedIno, flags } = operation;
  const moved = (flags & RENAME_EXCHANGE) !== 0 && replacedIno !== undefined ? [ino, replacedIno] : [ino];
  return moved.some((one) => {
    const value = changes.get(inodeKey(one));
    return !value || isDirectory(decodeInode(value));
  });
}

function bytesOf(operation: Operation): number {
  switch (operation.type) {
    case 'inline':
      return operationOverhead + operation.content.byteLength;
    case 'setxattr':
      return operationOverhead + operation.value.byteLength;
    case 'create':
      return operation.xattrs.reduce((sum, [, value]) => sum + value.byteLength, operationOverhead + (operation.target?.length ?? 0));
    case 'relocate':
      return operation.pieces.reduce((sum, { to }) => sum + 2 * (pieceBytes + chunkBytes * to.chunks.length), operationOverhead);
    case 'write':
      return operation.pieces.reduce(
        (sum, { extent }) => sum + pieceBytes + (extent.kind === 'data' ? chunkBytes * extent.chunks.length : 0),
        operationOverhead,
      );
    default:
      return operationOverhead;
  }
}
