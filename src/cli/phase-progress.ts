/**
 * Shows the progress of work in several phases: a bar on a terminal, an occasional line elsewhere, nothing if silent.
 */
import { SingleBar } from 'cli-progress';
import { tell } from '../terminal/terminal.js';

export interface PhaseProgress {
  /** `total`: undefined when it is not known. */
  update(phase: string, done: number, total: number | undefined): void;
  stop(): void;
}

const lineIntervalMs = 5000;

/** `labels` are the names of the phases, in the form `Reading commits`. */
export function showPhases(kind: 'auto' | 'silent', labels: Readonly<Record<string, string>>): PhaseProgress {
  if (kind === 'silent') return { update() {}, stop() {} };
  return process.stderr.isTTY ? createBar(labels) : createLines(labels);
}

function createBar(labels: Readonly<Record<string, string>>): PhaseProgress {
  const bar = new SingleBar({
    format: '{label} [{bar}] {done}{of}',
    stream: process.stderr,
    hideCursor: true,
    clearOnComplete: true,
  });
  let started = false;
  return {
    update(phase, done, total) {
      const facts = {
        label: labels[phase] ?? phase,
        done: done.toLocaleString('en-US'),
        of: total === undefined ? '' : ` of ${total.toLocaleString('en-US')}`,
      };
      if (!started) bar.start(1, 0, facts);
      started = true;
      bar.setTotal(Math.max(1, total ?? done * 2));
      bar.update(done, facts);
    },
    stop() {
      if (started) bar.stop();
    },
  };
}

function createLines(labels: Readonly<Record<string, string>>): PhaseProgress {
  let nextMs = performance.now() + lineIntervalMs;
  return {
    update(phase, done, total) {
      if (performance.now() < nextMs) return;
      nextMs = performance.now() + lineIntervalMs;
      const of = total === undefined ? '' : ` of ${total.toLocaleString('en-US')}`;
      tell(`${labels[phase] ?? phase}: ${done.toLocaleString('en-US')}${of}`);
    },
    stop() {},
  };
}
