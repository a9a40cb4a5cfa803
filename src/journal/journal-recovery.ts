/**
 * Decides at a start which segments of the journal count (doc/concurrency.md, "Replay"). After a crash the records are
 * a prefix of those that were appended, with everything in it that was synced. Each record says how far the journal was
 * durable when it was written: so a torn tail, which a crash leaves, is distinguished from missing records, which are
 * damage.
 */
import { join } from 'node:path';
import { MalformedBytesError } from '../base/bytes.js';
import type { Logger } from '../base/logger.js';
import type { Disk } from '../disk/disk.js';
import { JournalError } from './journal-error.js';
import type { SegmentKey } from './segment.js';
import { scanSegment, segmentHeaderLength, segmentName, segmentNumberOf } from './segment.js';

/** A segment that takes no more records. */
export interface OldSegment {
  readonly number: number;
  readonly path: string;
  readonly size: number;
  /** Positions of its records: from `first`, before `end`. Equal when it has none. */
  readonly first: number;
  readonly end: number;
}

export interface Recovery {
  /** Segments with records that are needed, in order. Their files may not be on stable storage. */
  readonly kept: OldSegment[];
  /**
   * Segments that are to be removed once the decision is recorded; those without records first, which can be removed
   * before.
   */
  readonly dropped: readonly OldSegment[];
  /** The position after the last record that counts. */
  readonly end: number;
  /** Records before this position are not needed any more. */
  readonly oldest: number;
  readonly lastNumber: number;
}

interface FoundSegment extends OldSegment {
  /** The most that any record claims, including those behind something unreadable. */
  readonly durable: number;
  readonly oldest: number;
}

/** Whether the segment has nothing but its header. */
export const isEmpty = (segment: OldSegment): boolean => segment.size <= segmentHeaderLength;

/** Throws {@link JournalError} `CORRUPT` when a record is missing that was durable; disk errors. */
export async function recover(disk: Disk, directory: string, key: SegmentKey, logger: Logger): Promise<Recovery> {
  const numbers: number[] = [];
  for (const { name } of await disk.readDirectory(directory)) {
    const number = segmentNumberOf(name);
    if (number === undefined) logger.warn('a foreign file lies in the journal', {});
    else numbers.push(number);
  }
  numbers.sort((a, b) => a - b);
  const found: FoundSegment[] = [];
  for (const number of numbers) found.push(await inspect(disk, key, join(directory, segmentName(number)), number));
  const recovery = { ...chooseSegments(found), lastNumber: numbers.at(-1) ?? 0 };
  const { dropped, end } = recovery;
  const lost = dropped.reduce((sum, segment) => sum + (segment.first >= end ? segment.end - segment.first : 0), 0);
  if (lost > 0) logger.warn('the journal lost records that were never synced', { count: lost });
  return recovery;
}

/** A whole segment file, however large; owned by the caller. Throws disk errors. */
export async function readSegment(disk: Disk, path: string): Promise<Uint8Array> {
  const file = await disk.open(path, 'read');
  try {
    const bytes = Buffer.allocUnsafe((await file.stat()).size);
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}

async function inspect(disk: Disk, key: SegmentKey, path: string, number: number): Promise<FoundSegment> {
  const file = await readSegment(disk, path);
  let first = 0;
  let end = 0;
  let durable = 0;
  let oldest = 0;
  try {
    for (const { record, tail } of scanSegment(key, number, file)) {
      durable = Math.max(durable, record.durable);
      oldest = Math.max(oldest, record.oldest);
      if (tail) continue;
      if (end === 0) first = record.position;
      else if (record.position !== end) throw new MalformedBytesError('positions are not consecutive');
      end = record.position + 1;
    }
  } catch (error) {
    if (error instanceof MalformedBytesError) throw new JournalError('CORRUPT', `journal segment ${number} is damaged`, { cause: error });
    throw error;
  }
  return { number, path, size: file.byteLength, first, end, durable, oldest };
}

function chooseSegments(found: readonly FoundSegment[]): Omit<Recovery, 'lastNumber'> {
  const durable = found.reduce((most, segment) => Math.max(most, segment.durable), 0);
  const oldest = found.reduce((most, segment) => Math.max(most, segment.oldest), 0);
  const kept: OldSegment[] = [];
  const dropped: OldSegment[] = [];
  let end = oldest;
  for (const segment of found) {
    const isNeeded = segment.end > oldest && segment.end > segment.first;
    // A segment behind a gap follows records that a power loss took. Only records that were never synced can be lost
    // that way.
    if (!isNeeded || segment.first > end) dropped.push(segment);
    else if (kept.length > 0 && segment.first < end) throw new JournalError('CORRUPT', `journal segment ${segment.number} repeats records`);
    else {
      kept.push(segment);
      end = segment.end;
    }
  }
  if (end < durable) throw new JournalError('CORRUPT', `journal records from ${end} to ${durable - 1} are missing`);
  return { kept, dropped, end, oldest };
}
