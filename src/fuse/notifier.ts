/**
 * Notifies the kernel of changes that it did not make (doc/concurrency.md, "Kernel caches"). Messages are queued for a
 * native thread, which may wait for the kernel. When its queue is full they wait here, each only once, since
 * invalidating twice is the same as once.
 */

import type { ByteString } from '../base/brand.js';
import {
  FUSE_NOTIFY_DELETE,
  FUSE_NOTIFY_INC_EPOCH,
  FUSE_NOTIFY_INVAL_ENTRY,
  FUSE_NOTIFY_INVAL_INODE,
  FUSE_NOTIFY_PRUNE,
  FUSE_NOTIFY_STORE,
  fuse_notify_delete_out,
  fuse_notify_inval_entry_out,
  fuse_notify_inval_inode_out,
  fuse_notify_prune_out,
  fuse_notify_store_out,
  fuse_out_header,
} from './abi.js';
import type { NodeId, Notifier } from './operations.js';

const headerSize = fuse_out_header.SIZE;

/** The most node ids in one message: the kernel takes no more at once. */
const pruneBatchMax = 512;

function setI64(buffer: Buffer, at: number, value: number): void {
  const high = Math.floor(value / 0x100000000);
  buffer.writeUInt32LE(value - high * 0x100000000, at);
  buffer.writeInt32LE(high, at + 4);
}

/** A zeroed message: `unique` 0 marks it as a notification, and the error field carries its code. */
function makeMessage(code: number, size: number): Buffer {
  const message = Buffer.alloc(headerSize + size);
  message.writeUInt32LE(message.length, fuse_out_header.len);
  message.writeInt32LE(code, fuse_out_header.error);
  return message;
}

export class KernelNotifier implements Notifier {
  readonly #send: (message: Uint8Array) => boolean;
  readonly #trace: ((line: string) => void) | undefined;
  /** Refused messages in order, by their bytes. */
  readonly #waiting = new Map<string, Uint8Array>();

  readonly #isDrained: () => boolean;
  #drainWaiters: (() => void)[] = [];

  /**
   * `send` copies a message, or answers false when there is no room. `isDrained` says whether the kernel has taken all
   * of them. After either was false, {@link resume} must be called when that may have changed.
   */
  constructor(send: (message: Uint8Array) => boolean, isDrained: () => boolean, trace?: (line: string) => void) {
    this.#send = send;
    this.#isDrained = isDrained;
    this.#trace = trace;
  }

  invalidateInode(nodeId: NodeId, offset: number, length: number): void {
    const message = makeMessage(FUSE_NOTIFY_INVAL_INODE, fuse_notify_inval_inode_out.SIZE);
    setI64(message, headerSize + fuse_notify_inval_inode_out.ino, nodeId);
    setI64(message, headerSize + fuse_notify_inval_inode_out.off, offset);
    setI64(message, headerSize + fuse_notify_inval_inode_out.len, length);
    this.#trace?.(`! INVAL_INODE node ${nodeId} offset ${offset} length ${length}`);
    this.#push(message);
  }

  invalidateEntry(parent: NodeId, name: ByteString): void {
    const fixed = fuse_notify_inval_entry_out.SIZE;
    const message = makeMessage(FUSE_NOTIFY_INVAL_ENTRY, fixed + name.length + 1);
    setI64(message, headerSize + fuse_notify_inval_entry_out.parent, parent);
    message.writeUInt32LE(name.length, headerSize + fuse_notify_inval_entry_out.namelen);
    message.write(name, headerSize + fixed, 'latin1');
    this.#trace?.(`! INVAL_ENTRY node ${parent}`);
    this.#push(message);
  }

  deleteEntry(parent: NodeId, child: NodeId, name: ByteString): void {
    const fixed = fuse_notify_delete_out.SIZE;
    const message = makeMessage(FUSE_NOTIFY_DELETE, fixed + name.length + 1);
    setI64(message, headerSize + fuse_notify_delete_out.parent, parent);
    setI64(message, headerSize + fuse_notify_delete_out.child, child);
    message.writeUInt32LE(name.length, headerSize + fuse_notify_delete_out.namelen);
    message.write(name, headerSize + fixed, 'latin1');
    this.#trace?.(`! DELETE node ${parent} child ${child}`);
    this.#push(message);
  }

  expireEntries(): void {
    this.#trace?.('! INC_EPOCH');
    this.#push(makeMessage(FUSE_NOTIFY_INC_EPOCH, 0));
  }

  pruneInodes(nodeIds: readonly NodeId[]): void {
    for (let from = 0; from < nodeIds.length; from += pruneBatchMax) {
      const batch = nodeIds.slice(from, from + pruneBatchMax);
      const fixed = fuse_notify_prune_out.SIZE;
      const message = makeMessage(FUSE_NOTIFY_PRUNE, fixed + batch.length * 8);
      message.writeUInt32LE(batch.length, headerSize + fuse_notify_prune_out.count);
      for (const [index, nodeId] of batch.entries()) setI64(message, headerSize + fixed + index * 8, nodeId);
      this.#trace?.(`! PRUNE ${batch.length} nodes from node ${batch[0]}`);
      this.#push(message);
    }
  }

  storeContent(nodeId: NodeId, offset: number, data: Uint8Array): void {
    const fixed = fuse_notify_store_out.SIZE;
    const message = makeMessage(FUSE_NOTIFY_STORE, fixed + data.byteLength);
    setI64(message, headerSize + fuse_notify_store_out.nodeid, nodeId);
    setI64(message, headerSize + fuse_notify_store_out.offset, offset);
    message.writeUInt32LE(data.byteLength, headerSize + fuse_notify_store_out.size);
    message.set(data, headerSize + fixed);
    this.#trace?.(`! STORE node ${nodeId} offset ${offset} (${data.byteLength} bytes)`);
    this.#push(message);
  }

  drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#drainWaiters.push(resolve);
      this.#resolveDrained();
    });
  }

  /** There is room again, or the kernel has taken everything. */
  resume(): void {
    for (const [key, message] of this.#waiting) {
      if (!this.#send(message)) return;
      this.#waiting.delete(key);
    }
    this.#resolveDrained();
  }

  /** The session is closed: the kernel takes nothing any more. */
  end(): void {
    this.#waiting.clear();
    this.#resolveDrained();
  }

  #resolveDrained(): void {
    if (this.#drainWaiters.length === 0 || this.#waiting.size > 0 || !this.#isDrained()) return;
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const resolve of waiters) resolve();
  }

  #push(message: Buffer): void {
    // Waiting messages go first.
    if (this.#waiting.size === 0 && this.#send(message)) return;
    this.#waiting.set(message.toString('latin1'), message);
  }
}
