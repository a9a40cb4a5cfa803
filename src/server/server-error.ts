/** Errors that keep a server from starting or running, for its operator. */
import { CodedError } from '../base/errors.js';

/**
 * - `TOKENS`: the token file cannot be used
 * - `TLS`: the certificate or its key cannot be used
 * - `LISTEN`: the server cannot listen at the address
 */
export class ServerError extends CodedError<'TOKENS' | 'TLS' | 'LISTEN'> {}
