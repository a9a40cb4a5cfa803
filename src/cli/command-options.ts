/** Options that several commands share, and what becomes of them. */
import { Failure } from './exit-code.js';
import { parseBytes, parseDurationMs } from './terminal.js';

export const jsonOption = { json: { type: 'boolean', default: false, describe: 'Print JSON for programs (errors too)' } } as const;
export const stateOption = {
  'state-dir': {
    type: 'string',
    normalize: true,
    describe: 'Where local state lies (default: $XDG_STATE_HOME/sealdrive)',
  },
} as const;

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
