/** Options that several commands share, and what becomes of them. */

import type { StoreTuning } from '../access/volume-store.js';
import { localFolderOf } from '../access/volume-store.js';
import { Failure } from '../terminal/exit-code.js';
import { parseBytes, parseDurationMs } from '../terminal/terminal.js';

export const jsonOption = { json: { type: 'boolean', default: false, describe: 'Print JSON for programs (errors too)' } } as const;
export const stateOption = {
  'state-dir': {
    type: 'string',
    normalize: true,
    describe: 'Where local state lies (default: $XDG_STATE_HOME/sealdrive)',
  },
} as const;

/** How a mount uses its store. Sizes are bytes a second. */
export const tuningOptions = {
  'upload-limit': { type: 'string', describe: 'Bytes a second to the store, for instance 5M', group: 'Network:' },
  'download-limit': { type: 'string', describe: 'Bytes a second from the store', group: 'Network:' },
  'reads-at-once': { type: 'number', describe: 'Requests that read, at once (default: 24)', group: 'Network:' },
  'writes-at-once': { type: 'number', describe: 'Requests that write, at once (default: 8)', group: 'Network:' },
  'poll-interval': {
    type: 'string',
    describe: 'How often to look for what other devices did while the drive is in use (default: 2s; a folder: 250ms)',
    group: 'Network:',
  },
} as const;

export interface TuningArguments {
  readonly store: string;
  readonly uploadLimit: string | undefined;
  readonly downloadLimit: string | undefined;
  readonly readsAtOnce: number | undefined;
  readonly writesAtOnce: number | undefined;
  readonly pollInterval: string | undefined;
}

export const noTuning = {
  uploadLimit: undefined,
  downloadLimit: undefined,
  readsAtOnce: undefined,
  writesAtOnce: undefined,
  pollInterval: undefined,
} as const satisfies Omit<TuningArguments, 'store'>;

const pollIntervalMinMs = 100;

/** Throws Failure `USAGE`. */
export function tuningOf(args: TuningArguments): StoreTuning {
  const uploadLimit = rateOf(args.uploadLimit, 'upload-limit');
  const downloadLimit = rateOf(args.downloadLimit, 'download-limit');
  if ((uploadLimit !== undefined || downloadLimit !== undefined) && localFolderOf(args.store) !== undefined) {
    throw new Failure('USAGE', '--upload-limit and --download-limit are for stores with a network in between, not for a folder');
  }
  const pollIntervalMs = durationMsOf(args.pollInterval, 'poll-interval');
  if (pollIntervalMs !== undefined && pollIntervalMs < pollIntervalMinMs) throw new Failure('USAGE', '--poll-interval is at least 100ms');
  return {
    uploadLimit,
    downloadLimit,
    readsAtOnce: countOf(args.readsAtOnce, 'reads-at-once'),
    writesAtOnce: countOf(args.writesAtOnce, 'writes-at-once'),
    pollIntervalMs,
  };
}

/** Slower than this, a pack would take days. */
const rateMin = 1024;

/** Bytes a second; `undefined`: no limit. Throws Failure `USAGE`. */
export function rateOf(text: string | undefined, option: string): number | undefined {
  if (text === undefined || text === 'off') return undefined;
  const rate = parseBytes(text.replace(/\/s$/, ''));
  if (rate === undefined || rate < rateMin) throw new Failure('USAGE', `--${option} takes bytes a second such as 5M (at least 1K), or off`);
  return rate;
}

function countOf(count: number | undefined, option: string): number | undefined {
  if (count === undefined || (Number.isInteger(count) && count >= 1 && count <= 256)) return count;
  throw new Failure('USAGE', `--${option} takes a number from 1 to 256`);
}

/** For commands that take several words in one place: elsewhere the last of several counts. Options of theirs that take a value need {@link lastOf}. */
export const severalWords = { 'duplicate-arguments-array': true } as const;

export const lastOf = (value: string | readonly string[] | undefined): string | undefined =>
  typeof value === 'string' || value === undefined ? value : value.at(-1);

export function bytesOf(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  const bytes = parseBytes(text);
  if (bytes === undefined) throw new Failure('USAGE', `--${option} takes a size such as 10G or 512M, not ${text}`);
  return bytes;
}

export function durationMsOf(text: string | undefined, option: string): number | undefined {
  if (text === undefined) return undefined;
  const ms = parseDurationMs(text);
  if (ms === undefined) throw new Failure('USAGE', `--${option} takes a time such as 30s or 5m, not ${text}`);
  return ms;
}
