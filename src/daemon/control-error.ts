/** Why a request of the control socket fails, in words for people (`control-protocol.ts` has the codes). */
import { CodedError } from '../base/errors.js';
import type { ControlErrorCode } from './control-protocol.js';

export class ControlError extends CodedError<ControlErrorCode> {}
