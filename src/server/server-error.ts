/** What keeps a server from starting or going on: for the person who runs it. */
import { CodedError } from '../base/errors.js';

/** - `TOKENS`: the token file cannot be used; - `TLS`: certificate or key cannot; - `LISTEN`: the address cannot be listened on */
export class ServerError extends CodedError<'TOKENS' | 'TLS' | 'LISTEN'> {}
