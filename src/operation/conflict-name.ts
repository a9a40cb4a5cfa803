/**
 * Makes the name that the later of two files gets: `name (conflict DEVICE DATE).ext` (doc/conflicts.md, "Names"). It
 * does not check that the name is free. Works on byte strings: names need not be UTF-8, but valid UTF-8 stays valid.
 */
import type { ByteString } from '../base/brand.js';
import { byteStringOf } from '../base/bytes.js';
import type { Timespec } from '../base/clock.js';
import { cleanDeviceName } from '../commit/device-name.js';

const nameMax = 255;
const extensionMax = 16;
const deviceMax = 48;

/** At most `length` bytes, not cut inside a UTF-8 sequence. */
function truncateBytes(bytes: ByteString, length: number): ByteString {
  if (bytes.length <= length) return bytes;
  let end = Math.max(0, length);
  // A continuation byte is 10xxxxxx. A sequence has at most three of them, so bytes that are not UTF-8 lose little.
  for (let back = 0; back < 3 && end > 0 && (bytes.charCodeAt(end) & 0xc0) === 0x80; back++) end--;
  return bytes.slice(0, end);
}

/**
 * The day in UTC, so that every device makes the same name. Times outside the calendar's range count as its first day.
 */
function dateOf(time: Timespec): string {
  const date = new Date(time.sec * 1000);
  return Number.isNaN(date.getTime()) ? '1970-01-01' : date.toISOString().replace(/T.*/, '');
}

/** The part of a conflict name made from a device's name, without anything that troubles a file name or a terminal. */
function deviceLabel(name: string): ByteString {
  return truncateBytes(byteStringOf(cleanDeviceName(name).replaceAll(/[()]/g, '_')), deviceMax);
}

/** `attempt` counts from 1; from 2 on it is part of the name. */
export function conflictName(name: ByteString, deviceName: string, time: Timespec, isDirectory: boolean, attempt: number): ByteString {
  const dot = isDirectory ? -1 : name.lastIndexOf('.');
  const hasExtension = dot > 0 && name.length - dot <= extensionMax;
  const stem = hasExtension ? name.slice(0, dot) : name;
  const extension = hasExtension ? name.slice(dot) : '';
  const mark = ` (conflict ${deviceLabel(deviceName)} ${dateOf(time)}${attempt > 1 ? ` ${attempt}` : ''})`;
  return truncateBytes(stem, nameMax - mark.length - extension.length) + mark + extension;
}
