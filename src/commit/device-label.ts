/** Devices and their times in words, for `status` and the log. Both come from other devices: they must neither steer a terminal nor end a program. */
import { replaceUnprintable } from '../base/printable.js';

export const deviceLabel = (index: number, name: string): string => `device ${index} (${replaceUnprintable(name, '?')})`;

/** A Date ends before the numbers that a commit may hold. */
const dateMs = 8.64e15;

/** `timeMs` since 1970. */
export const isoTime = (timeMs: number): string => new Date(Math.min(Math.max(timeMs, -dateMs), dateMs)).toISOString();
