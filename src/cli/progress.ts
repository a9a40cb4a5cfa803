/** Shows how far a flush has come: a bar on a terminal, a line now and then elsewhere, nothing when asked to be silent. */
import { SingleBar } from 'cli-progress';
import type { FlushProgress } from '../volume/volume.js';
import { formatBytes, tell } from './terminal.js';

export interface ProgressDisplay {
  update(progress: FlushProgress): void;
  stop(): void;
}

const lineIntervalMs = 5000;

export function showFlushProgress(kind: 'auto' | 'silent'): ProgressDisplay {
  if (kind === 'silent') return { update() {}, stop() {} };
  return process.stderr.isTTY ? createBar() : createLines();
}

const remaining = (progress: FlushProgress): number => progress.dirtyBytes + progress.uploadBytes;

function createBar(): ProgressDisplay {
  const bar = new SingleBar({
    format: 'Uploading [{bar}] {percentage}%  {done} of {all}  {operations} changes left',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  let started = false;
  return {
    update(progress) {
      const all = progress.uploadedBytes + remaining(progress);
      const facts = { done: formatBytes(progress.uploadedBytes), all: formatBytes(all), operations: progress.operations };
      if (!started) bar.start(Math.max(all, 1), progress.uploadedBytes, facts);
      started = true;
      bar.setTotal(Math.max(all, 1));
      bar.update(progress.uploadedBytes, facts);
    },
    stop() {
      if (started) bar.stop();
    },
  };
}

function createLines(): ProgressDisplay {
  let nextMs = performance.now() + lineIntervalMs;
  return {
    update(progress) {
      if (performance.now() < nextMs) return;
      nextMs = performance.now() + lineIntervalMs;
      tell(`uploading: ${formatBytes(progress.uploadedBytes)} done, ${formatBytes(remaining(progress))} and ${progress.operations} changes left`);
    },
    stop() {},
  };
}
