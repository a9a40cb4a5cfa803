/**
 * Executes any operation on a transaction: the one switch over all of them (doc/architecture.md, "A write"). Each
 * family of operations is in its own file; `rebase-rules.ts` runs them on a base that other devices have changed.
 */
import { unreachable } from '../base/assert.js';
import { Execution } from './execution.js';
import { readInode } from './inode-view.js';
import type { Operation } from './operation.js';
import { executeSetattr } from './operation-attribute.js';
import { executeClone, executeFallocate, executeInline, executeRelocate, executeWrite } from './operation-content.js';
import { executeCreate, executeLink, executeReclaim, executeRename, executeRmdir, executeUnlink } from './operation-namespace.js';
import { executeRecord } from './operation-record.js';
import { executeRemovexattr, executeSetxattr } from './operation-xattr.js';
import type { StatisticsDelta } from './statistics.js';
import type { ReadView, Transaction } from './view.js';

/**
 * Pure and synchronous. Throws {@link OperationError} before it has written anything, or PageFault at any point (then
 * discard the transaction and run it again). `deviceIndex`: the device that runs it. Returns what it adds to the
 * volume's totals.
 */
export function execute(view: Transaction, operation: Operation, deviceIndex: number): StatisticsDelta {
  const run = new Execution(view, deviceIndex);
  dispatch(run, operation);
  return run.delta;
}

function dispatch(run: Execution, operation: Operation): void {
  switch (operation.type) {
    case 'create':
      return executeCreate(run, operation);
    case 'link':
      return executeLink(run, operation);
    case 'unlink':
      return executeUnlink(run, operation);
    case 'rmdir':
      return executeRmdir(run, operation);
    case 'rename':
      return executeRename(run, operation);
    case 'setattr':
      return executeSetattr(run, operation);
    case 'write':
      return executeWrite(run, operation);
    case 'inline':
      return executeInline(run, operation);
    case 'fallocate':
      return executeFallocate(run, operation);
    case 'clone':
      return executeClone(run, operation);
    case 'setxattr':
      return executeSetxattr(run, operation);
    case 'removexattr':
      return executeRemovexattr(run, operation);
    case 'reclaim':
      return executeReclaim(run, operation);
    case 'record':
      return executeRecord(run, operation);
    case 'relocate':
      return executeRelocate(run, operation);
    default:
      return unreachable(operation);
  }
}

/**
 * Adds the facts that a later rebase compares with: the stamps of what the operation changes, removes or replaces, as
 * `view` has them now. Call it at the instant at which the operation is first executed, before it is journalled.
 * Written content has its own base.
 */
export function recordBase(view: ReadView, operation: Operation): Operation {
  switch (operation.type) {
    case 'unlink':
      return { ...operation, baseStamp: readInode(view, operation.ino)?.stamp };
    case 'rename':
      return operation.replacedIno === undefined ? operation : { ...operation, replacedStamp: readInode(view, operation.replacedIno)?.stamp };
    case 'setattr':
      return operation.size === undefined ? operation : { ...operation, baseStamp: readInode(view, operation.ino)?.stamp };
    case 'fallocate':
      return { ...operation, baseStamp: readInode(view, operation.ino)?.stamp };
    case 'clone':
      return { ...operation, baseStamp: readInode(view, operation.to)?.stamp, fromStamp: readInode(view, operation.from)?.stamp };
    default:
      return operation;
  }
}
