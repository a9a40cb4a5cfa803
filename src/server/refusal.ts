/** A refusal of the server as an error, thrown to the code that writes the answer (doc/server.md, "Protocol"). */
import { AnswerError } from '../base/errors.js';
import type { StoreErrorCode } from '../store/object-store.js';
import { StoreError } from '../store/object-store.js';

export const refusalStatuses = {
  BAD_REQUEST: 400,
  NO_TOKEN: 401,
  FORBIDDEN: 403,
  READ_ONLY: 403,
  ABSENT: 404,
  METHOD: 405,
  CONFLICT: 409,
  LENGTH_REQUIRED: 411,
  EXISTS: 412,
  TOO_LARGE: 413,
  UNSUPPORTED: 415,
  RANGE: 416,
  EXPECTATION: 417,
  TOKEN_BUSY: 429,
  DEFECT: 500,
  BASE_ANSWER: 502,
  BUSY: 503,
  STOPPING: 503,
  UNAVAILABLE: 503,
  NO_ROOM: 507,
} as const;

export type RefusalCode = keyof typeof refusalStatuses;

export class Refusal extends AnswerError<RefusalCode> {
  /** What `retry-after` says. */
  readonly retryAfterSec: number | undefined;

  /** The message is for our own log: the answer holds the code alone. */
  constructor(code: RefusalCode, message: string, options: { readonly cause?: unknown; readonly retryAfterSec?: number } = {}) {
    super(code, message, 'cause' in options ? { cause: options.cause } : undefined);
    this.retryAfterSec = options.retryAfterSec;
  }

  get status(): number {
    return refusalStatuses[this.code];
  }
}

const ofStore: Readonly<Record<StoreErrorCode, RefusalCode>> = {
  UNAVAILABLE: 'UNAVAILABLE',
  // Clients learn nothing about our own rights in the base: for them it does not work now.
  DENIED: 'UNAVAILABLE',
  NOT_A_STORE: 'UNAVAILABLE',
  REFUSED: 'BASE_ANSWER',
  FULL: 'NO_ROOM',
  READ_ONLY: 'READ_ONLY',
  PROTOCOL: 'BASE_ANSWER',
};

/** Anything thrown as what is answered. */
export function refusalOf(error: unknown): Refusal {
  if (error instanceof Refusal) return error;
  if (!(error instanceof StoreError)) return new Refusal('DEFECT', 'a defect of the server', { cause: error });
  const askedMs = Math.min(error.retryAfterMs ?? 2000, 60_000);
  const code = ofStore[error.code];
  return new Refusal(code, 'the base store failed', {
    cause: error,
    ...(code === 'UNAVAILABLE' ? { retryAfterSec: Math.max(1, Math.ceil(askedMs / 1000)) } : {}),
  });
}
