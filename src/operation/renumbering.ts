/**
 * Gives operations that are in no commit yet the numbers of a new identity (doc/concurrency.md, "One identity, two
 * installations"): inodes, entries and content that they bring in were numbered as the other installation with the same
 * identity numbers its own. The counters stay, or grow by one amount, and the device's index changes, so the result
 * depends on the operations alone: after a crash it is the same again. It runs nothing.
 */
import { unreachable } from '../base/assert.js';
import type { ContentStamp } from '../meta/inode.js';
import { counterOf, deviceIndexOf, type Ino, makeIno } from '../meta/key.js';
import type { CreateOperation, Operation, RenameOperation, SetattrOperation } from './operation.js';

export class Renumbering {
  readonly #from: number;
  readonly #to: number;
  readonly #shift: number;
  /** Of inodes and entries. */
  readonly #numbers = new Set<number>();
  readonly #inodes = new Set<Ino>();
  /** The counters of stamps. */
  readonly #stamps = new Set<number>();

  /** `from`: the index of the former identity; `to`: that of the new one. `shift` is added to each counter. */
  constructor(from: number, to: number, shift = 0) {
    this.#shift = shift;
    this.#from = from;
    this.#to = to;
  }

  /** The inodes that the operations brought in, by their former numbers. */
  get inodes(): ReadonlySet<Ino> {
    return this.#inodes;
  }

  /** The operation under the new identity. To be called in the order of the operations. */
  renumber(operation: Operation): Operation {
    this.#note(operation);
    return this.#renumbered(operation);
  }

  /** An operation of another device, which brings in nothing of this one's. */
  follow(operation: Operation): Operation {
    return this.#renumbered(operation);
  }

  ino(ino: Ino): Ino {
    return this.#number(ino) as Ino;
  }

  /** A stamp of the content of `ino` (its former number). */
  stamp(stamp: ContentStamp, ino: Ino): ContentStamp {
    const { deviceIndex, counter } = stamp;
    // Nobody has written the content yet: the stamp says who made the inode.
    const isNew = counter === 0 ? this.#numbers.has(ino) : this.#stamps.has(counter);
    if (deviceIndex !== this.#from || !isNew) return stamp;
    return { deviceIndex: this.#to, counter: counter === 0 ? 0 : counter + this.#shift };
  }

  #number(number: number): number {
    return this.#numbers.has(number) ? makeIno(this.#to, counterOf(number) + this.#shift) : number;
  }

  /** Remembers what the operation brings in. */
  #note(operation: Operation): void {
    switch (operation.type) {
      case 'create':
        this.#noteInode(operation.ino);
        this.#noteNumber(operation.number);
        break;
      case 'link':
        this.#noteNumber(operation.number);
        break;
      case 'rename':
        if (operation.whiteoutIno !== undefined) this.#noteInode(operation.whiteoutIno);
        break;
      default:
        if ('stamp' in operation && operation.stamp?.deviceIndex === this.#from) this.#stamps.add(operation.stamp.counter);
    }
  }

  /** An inode of another device that is made again keeps its number. */
  #noteInode(ino: Ino): void {
    this.#noteNumber(ino);
    if (this.#numbers.has(ino)) this.#inodes.add(ino);
  }

  #noteNumber(number: number | undefined): void {
    if (number !== undefined && deviceIndexOf(number) === this.#from) this.#numbers.add(number);
  }

  #renumbered(operation: Operation): Operation {
    switch (operation.type) {
      case 'create':
        return this.#create(operation);
      case 'link':
        return { ...operation, ...this.#place(operation), number: this.#number(operation.number) };
      case 'unlink':
        return { ...operation, ...this.#place(operation), ...this.#base(operation) };
      case 'rmdir':
        return { ...operation, ...this.#place(operation) };
      case 'rename':
        return this.#rename(operation);
      case 'setattr':
        return this.#setattr(operation);
      case 'write':
      case 'inline': {
        const { ino } = operation;
        const stamps = { stamp: this.stamp(operation.stamp, ino), baseStamp: this.stamp(operation.baseStamp, ino) };
        return { ...operation, ino: this.ino(ino), ...stamps };
      }
      case 'fallocate':
        return { ...operation, ino: this.ino(operation.ino), stamp: this.stamp(operation.stamp, operation.ino), ...this.#base(operation) };
      case 'clone': {
        const { from, to, stamp, baseStamp, fromStamp } = operation;
        return {
          ...operation,
          from: this.ino(from),
          to: this.ino(to),
          stamp: this.stamp(stamp, to),
          ...(baseStamp && { baseStamp: this.stamp(baseStamp, to) }),
          ...(fromStamp && { fromStamp: this.stamp(fromStamp, from) }),
        };
      }
      case 'setxattr':
      case 'removexattr':
      case 'reclaim':
      case 'relocate':
        return { ...operation, ino: this.ino(operation.ino) };
      case 'record':
        return operation;
      default:
        return unreachable(operation);
    }
  }

  #place({ ino, parent }: { readonly ino: Ino; readonly parent: Ino }): { readonly ino: Ino; readonly parent: Ino } {
    return { ino: this.ino(ino), parent: this.ino(parent) };
  }

  #base({ ino, baseStamp }: { readonly ino: Ino; readonly baseStamp?: ContentStamp | undefined }): { readonly baseStamp?: ContentStamp } {
    return baseStamp ? { baseStamp: this.stamp(baseStamp, ino) } : {};
  }

  #create(operation: CreateOperation): CreateOperation {
    const { number } = operation;
    return { ...operation, ...this.#place(operation), ...(number !== undefined && { number: this.#number(number) }) };
  }

  #rename(operation: RenameOperation): RenameOperation {
    const { newParent, replacedIno, replacedStamp, whiteoutIno } = operation;
    return {
      ...operation,
      ...this.#place(operation),
      newParent: this.ino(newParent),
      ...(replacedIno !== undefined && { replacedIno: this.ino(replacedIno) }),
      ...(replacedIno !== undefined && replacedStamp && { replacedStamp: this.stamp(replacedStamp, replacedIno) }),
      ...(whiteoutIno !== undefined && { whiteoutIno: this.ino(whiteoutIno) }),
    };
  }

  #setattr(operation: SetattrOperation): SetattrOperation {
    const { ino, stamp } = operation;
    return { ...operation, ino: this.ino(ino), ...(stamp && { stamp: this.stamp(stamp, ino) }), ...this.#base(operation) };
  }
}

const numberFields = ['ino', 'parent', 'newParent', 'replacedIno', 'whiteoutIno', 'number', 'from', 'to'];

/** Whether an inode or entry has another number in `after` than in `before`, the same operation. */
export function hasOtherNumbers(before: Operation, after: Operation): boolean {
  const [one, other]: Readonly<Record<string, unknown>>[] = [{ ...before }, { ...after }];
  return numberFields.some((field) => one?.[field] !== other?.[field]);
}
