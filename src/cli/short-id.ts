/** Ids on the command line: the beginning of one is enough where only one begins so. */
import { printable } from '../base/printable.js';
import { Failure } from '../terminal/exit-code.js';

/**
 * The one of `ids` that begins with `beginning`. Throws Failure `USAGE`; `noun` and `listing` (a command that shows
 * them) are for its message.
 */
export function idOf(ids: readonly string[], beginning: string, noun: string, listing: string): string {
  const [id, ...others] = beginning === '' ? [] : ids.filter((one) => one.startsWith(beginning));
  if (id !== undefined && others.length === 0) return id;
  const why = id === undefined ? `no ${noun} has` : `several ${noun}s have`;
  throw new Failure('USAGE', `${why} the id ${printable(beginning.slice(0, 16))}: "sealdrive ${listing}" shows them`);
}
