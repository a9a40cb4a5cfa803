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
/** The tick in which a forged operation was made up. */
export const forgedAt = (operation: OperationId): number => Math.floor((operation - operationId(forgingDevice, 0)) / forgedPerTick);

/**
 * A member's statement about a removed device: of what that one wrote, only the commits below `anchor` and those in
 * `counted` count, and it has opened the rounds of which the member had received the opening (`heard`).
 */
export interface Cut {
  readonly device: number;
  readonly by: number;
  readonly anchor: number;
  readonly counted: ReadonlySet<number>;
  readonly heard: ReadonlySet<number>;
}

export interface SimulatedCommit extends FileObject {
  readonly kind: 'commit';
  /** Stands for the hash. */
  readonly id: number;
  readonly number: number;
  /** The id of the commit before it; 0: the genesis. */
  readonly previous: number;
  readonly author: number;
  /** The tick. No policy looks at it. */
  readonly writtenAt: number;
  readonly operations: readonly OperationId[];
  /** Those among them that it carries for others, each with the commit in which its author had put it. */
  readonly carries: ReadonlyMap<OperationId, SimulatedCommit>;
  /** The names of the packs that it needs. */
  readonly packs: readonly string[];
  /** Whether it admits its author to the volume. */
  readonly admits: boolean;
  /** The owner's certificate that this device is removed. */
  readonly removes: number | undefined;
  readonly cut: Cut | undefined;
  /** The round that it opens for its author; 0: none. */
  readonly opens: number;
  /** The newest round that its author knew to be closed, and the anchor. */
  readonly closedRound: number;
  readonly anchor: number;
  /** Records of an admin that a naive rule counts. */
  readonly governance: number;
}

export const isCommit = (object: FileObject | 'part' | undefined): object is SimulatedCommit =>
  object !== undefined && object !== 'part' && object.kind === 'commit';
