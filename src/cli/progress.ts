/**
 * Shows the progress of a transfer, with its rate and the time that remains: a bar on a terminal, an occasional line
 * elsewhere, nothing if silent.
 */
import { SingleBar } from 'cli-progress';
import { formatBytes, plural, tell } from '../terminal/terminal.js';
import type { PinProgress } from '../volume/pin-keeper.js';
import type { FlushProgress } from '../volume/volume.js';
import { TransferRate } from './transfer-rate.js';

export interface ProgressDisplay<Progress> {
  update(progress: Progress): void;
  stop(): void;
}

interface Transfer {
  readonly doneBytes: number;
  readonly allBytes: number;
  /** What else there is to say, for people. */
  readonly note: string;
}

const lineIntervalMs = 5000;

export type DisplayKind = 'auto' | 'silent';

export function showFlushProgress(kind: DisplayKind): ProgressDisplay<FlushProgress> {
  return show(kind, 'Uploading', ({ uploadedBytes, dirtyBytes, uploadBytes, files, operations }) => ({
    doneBytes: uploadedBytes,
    allBytes: uploadedBytes + dirtyBytes + uploadBytes,
    note: files > 0 ? `${plural(files, 'file')} left` : `${plural(operations, 'change')} left`,
  }));
}

export function showPinProgress(kind: DisplayKind): ProgressDisplay<PinProgress> {
  return show(kind, 'Fetching', ({ bytes, hereBytes, files, hereFiles }) => ({
    doneBytes: hereBytes,
    allBytes: bytes,
    note: `${hereFiles.toLocaleString('en-US')} of ${plural(files, 'file')}`,
  }));
}

function show<Progress>(kind: DisplayKind, verb: string, transferOf: (progress: Progress) => Transfer): ProgressDisplay<Progress> {
  if (kind === 'silent') return { update() {}, stop() {} };
  const display = process.stderr.isTTY ? createBar(verb) : createLines(verb);
  return { update: (progress) => display.update(transferOf(progress)), stop: () => display.stop() };
}

function createBar(verb: string): ProgressDisplay<Transfer> {
  const bar = new SingleBar({
    format: `${verb} [{bar}] {percentage}%  {done} of {all}, {note}{pace}`,
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  const rate = new TransferRate();
  let started = false;
  return {
    update({ doneBytes, allBytes, note }) {
      const pace = describePace(rate, doneBytes, allBytes);
      const facts = { done: formatBytes(doneBytes), all: formatBytes(allBytes), note, pace };
      if (!started) bar.start(Math.max(allBytes, 1), doneBytes, facts);
      started = true;
      bar.setTotal(Math.max(allBytes, 1));
      bar.update(doneBytes, facts);
    },
    stop() {
      if (started) bar.stop();
    },
  };
}

function createLines(verb: string): ProgressDisplay<Transfer> {
  const rate = new TransferRate();
  let nextMs = performance.now() + lineIntervalMs;
  return {
    update({ doneBytes, allBytes, note }) {
      const pace = describePace(rate, doneBytes, allBytes);
      if (performance.now() < nextMs) return;
      nextMs = performance.now() + lineIntervalMs;
      tell(`${verb}: ${formatBytes(doneBytes)} of ${formatBytes(allBytes)}, ${note}${pace}`);
    },
    stop() {},
  };
}

function describePace(rate: TransferRate, doneBytes: number, allBytes: number): string {
  rate.note(performance.now(), doneBytes);
  const perSecond = rate.perSecond;
  if (perSecond === undefined || perSecond <= 0) return '';
  return `, ${formatBytes(Math.round(perSecond))}/s, ${formatSeconds((allBytes - doneBytes) / perSecond)} left`;
}

/** For people: `2 h 5 min`, `3 min 20 s`, `8 s`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.ceil(seconds));
  if (whole >= 3600) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return whole >= 60 ? `${Math.floor(whole / 60)} min ${whole % 60} s` : `${whole} s`;
}
