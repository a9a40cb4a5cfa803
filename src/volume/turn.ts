/**
 * A wait for something on this machine, not for the store (doc/concurrency.md, "One instant").
 */
import { PageFault } from '../base/page-fault.js';

/** Like any page fault, it makes an operation run again from its start, but `patience.ts` does not limit it. */
export class Turn extends PageFault {}
