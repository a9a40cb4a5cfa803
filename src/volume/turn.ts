/** A wait for something on this machine, not for the store. */
import { PageFault } from '../base/page-fault.js';

/** Like any page fault, it makes an operation run again from its start; but no patience bounds it (`patience.ts`). */
export class Turn extends PageFault {}
