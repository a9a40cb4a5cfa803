/** Why a volume cannot be repaired now (doc/cli.md, "check, repair, salvage"). A failing store is a StoreError. */
import { CodedError } from '../base/errors.js';

/**
 * - `BEYOND_REPAIR`: the newest state cannot be read as a whole, which is a case for salvage
 * - `RACING`: other devices commit faster than this one can examine
 * - `FORKED`: the store has another history than this device, so its commits cannot be put back
 */
export class RepairError extends CodedError<'BEYOND_REPAIR' | 'RACING' | 'FORKED'> {}
