/**
 * A commit as the simulator has it: who wrote it on top of what, and which operations it brings. Nothing is sealed or
 * signed; whoever may not sign something must not make such an object.
 */
import type { FileObject } from './synced-folders.js';

/** An operation that a device has acknowledged to its applications. */
export type OperationId = number;

const operationsPerDevice = 1_000_000;
export const operationId = (device: number, count: number): OperationId => device * operationsPerDevice + count;
export const authorOfOperation = (operation: OperationId): number => Math.floor(operation / operationsPerDevice);

/** Operations of this device were never acknowledged by anybody. */
const forgingDevice = 30;
const forgedPerTick = 1000;
export const forgedOperation = (tick: number, count: number): OperationId =>
  operationId(forgingDevice, tick * forgedPerTick + (count % forgedPerTick));
export const isForged = (operation: OperationId): boolean => authorOfOperation(operation) === forgingDevice;

export interface SimulatedCommit extends FileObject {
  readonly kind: 'commit';
  /** Stands for the hash. */
  readonly id: number;
  readonly number: number;
  /** The id of the commit before it; 0: the genesis. */
  readonly previous: number;
  readonly author: number;
  readonly operations: readonly OperationId[];
  /** Those among them that it carries for others, each with the commit in which its author had put it. */
  readonly carries: ReadonlyMap<OperationId, SimulatedCommit>;
  /** Whether it admits its author to the volume. */
  readonly admits: boolean;
  /** The device that it removes. */
  readonly removes: number | undefined;
}

export const isCommit = (object: FileObject | 'part' | undefined): object is SimulatedCommit =>
  object !== undefined && object !== 'part' && object.kind === 'commit';
