/** What a caller does with the volume at one instant (doc/concurrency.md, "One instant"). */
import type { Operation } from '../operation/operation.js';
import type { ReadView } from '../operation/view.js';

/** A pure function that reads the state and returns what to do. */
export type Plan<T> = (view: ReadView) => { readonly operation: Operation | undefined; readonly result: T };
