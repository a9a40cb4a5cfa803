/** Times of the past as they are typed: `2h ago`, `2026-08-22 10:00`, the name of a snapshot, `@SEQUENCE`. */
import { byteStringOf } from '../base/bytes.js';
import { printable } from '../base/printable.js';
import type { PastTime } from '../daemon/past-protocol.js';
import { Failure } from '../terminal/exit-code.js';
import { parseDurationMs } from '../terminal/option-kind.js';

const snapshotPattern = /^\d{4}-\d\d-\d\dT\d\d\.\d\d\.\d\dZ/;
const datePattern = /^\d{4}-\d\d-\d\d/;
const weekMs = 7 * 86_400_000;

export const timeHelp = '"2h ago", "2026-08-22 10:00" (of this machine, or with a zone), the name of a snapshot, or @NUMBER of a commit';

/** Throws Failure `USAGE`. */
export function readPastTime(word: string, nowMs: number): PastTime {
  const [, number] = /^@(\d{1,15})$/.exec(word) ?? [];
  if (number !== undefined) return { sequence: Number(number) };
  if (snapshotPattern.test(word)) return { snapshot: byteStringOf(word) };
  const timeMs = readTimeMs(word, nowMs);
  if (timeMs === undefined) throw new Failure('USAGE', `${printable(word)} is no time: give ${timeHelp}`);
  return { timeMs };
}

/** The time in ms since 1970; `undefined`: it is none. */
export function readTimeMs(word: string, nowMs: number): number | undefined {
  const agoMs = parseDurationMs(word.replace(/\s*ago\s*$/, ''));
  if (agoMs !== undefined) return nowMs - agoMs;
  const [, weeks] = /^\s*(\d+)\s*w(\s*ago)?\s*$/.exec(word) ?? [];
  if (weeks !== undefined) return nowMs - Number(weeks) * weekMs;
  const parsed = datePattern.test(word) ? Date.parse(word.replace(' ', 'T')) : Number.NaN;
  return Number.isNaN(parsed) ? undefined : parsed;
}
