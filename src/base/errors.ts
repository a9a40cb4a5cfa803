/**
 * The shape that every layer's operating error has: one class a layer, a union of stable codes, and always the cause.
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
