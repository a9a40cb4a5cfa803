/**
 * The base of every layer's operating error: one class per layer, a union of stable codes, and always the cause.
 * Messages never hold secrets or plaintext names.
 */
export class CodedError<Code extends string> extends Error {
  readonly code: Code;

  constructor(code: Code, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.name = new.target.name;
  }
}

/**
 * An error that is an ordinary answer, such as "no such attribute". It captures no stack, which would cost more than
 * the operation.
 */
export class AnswerError<Code extends string> extends CodedError<Code> {
  constructor(code: Code, message: string, options?: { cause?: unknown }) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super(code, message, options);
    Error.stackTraceLimit = limit;
  }
}

/** An error and its causes in one line, for logs and for people. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at !== undefined && parts.length < 8; at = at instanceof Error ? at.cause : undefined) {
    const text = at instanceof Error ? at.message || at.name : typeof at === 'string' ? at : 'an unknown value was thrown';
    if (!parts.includes(text)) parts.push(text);
  }
  return parts.join(': ');
}
