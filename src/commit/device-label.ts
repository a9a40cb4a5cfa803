/**
 * Devices and their times as text, for `status` and log lines. Both come from other devices, so they must neither
 * control a terminal nor make the program throw.
 */
import { replaceUnprintable } from '../base/printable.js';

export const deviceLabel = (index: number, name: string): string => `device ${index} (${replaceUnprintable(name, '?')})`;

/** The last time that a Date can hold; a commit can hold later ones. */
const dateMs = 8.64e15;

/** `timeMs` since 1970. */
export const isoTime = (timeMs: number): string => new Date(Math.min(Math.max(timeMs, -dateMs), dateMs)).toISOString();
