/** Executes changes of what the volume keeps beside its files (doc/past.md, "Snapshots"). */
import { equalBytes } from '../base/bytes.js';
import type { Execution } from './execution.js';
import type { RecordOperation } from './operation.js';
import type { ReadView } from './view.js';

/** Whether the value still is the one that the change was based on. */
export function isAsKnown(view: ReadView, { key, base }: RecordOperation): boolean {
  const value = view.get(key);
  return value === undefined || base === undefined ? value === base : equalBytes(value, base);
}

export function executeRecord({ view }: Execution, operation: RecordOperation): void {
  if (!isAsKnown(view, operation)) return;
  if (operation.value === undefined) view.delete(operation.key);
  else view.put(operation.key, operation.value);
}
