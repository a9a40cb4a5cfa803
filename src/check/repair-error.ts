/** Why a volume cannot be mended now. The store failing is StoreError. */
import { CodedError } from '../base/errors.js';

/**
 * `BEYOND_REPAIR`: the newest state cannot be read as a whole; salvage is for that. `RACING`: others commit faster than this can examine.
 * `FORKED`: the store has another history than this device, which stands in the way of what it would put back.
 */
export class RepairError extends CodedError<'BEYOND_REPAIR' | 'RACING' | 'FORKED'> {}
