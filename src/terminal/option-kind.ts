/**
 * The kinds of values that options take: how the command line reads one, what it means, and the message when it is
 * invalid. The config file of named volumes takes the same words. The options themselves are in access/mount-options.ts
 * and cli/command-*.ts (doc/cli.md, "Options of mount").
 */
import { resolve } from 'node:path';
import { Failure } from './exit-code.js';

/** A value as it is typed, or as it stands in the config file. */
export type OptionWord = string | number | boolean;

/** `Unit` is the suffix of the value's name: `Ms` for a time. */
export interface OptionKind<Value, Unit extends string = string> {
  /** How yargs reads the word. */
  readonly input: { readonly type?: 'string' | 'number' | 'boolean'; readonly choices?: readonly string[]; readonly normalize?: true };
  /** For messages: `takes ...`. */
  readonly takes: string;
  readonly unit: Unit;
  /** Returns `undefined` when the word is not of this kind. */
  readonly parse: (word: unknown) => Value | undefined;
  /**
   * Why a value of this kind is refused all the same, for a message that begins with the option; `undefined` when it is
   * accepted.
   */
  flaw?(value: Value): string | undefined;
}

export const textKind = <Value, Unit extends string>(
  takes: string,
  unit: Unit,
  parse: (text: string) => Value | undefined,
): OptionKind<Value, Unit> => ({
  input: { type: 'string' },
  takes,
  unit,
  parse: (word) => (typeof word === 'string' ? parse(word) : undefined),
});

export const text = textKind('a text', '', (word) => word);

/** Bytes. */
export const size = textKind('a size such as "10G" or "512M"', '', parseBytes);

/** Milliseconds. */
export const duration = textKind('a time such as "30s" or "5m"', 'Ms', parseDurationMs);

/** Slower than this, a pack would take days. */
const rateMin = 1024;

/** Bytes a second; `null`: no limit. */
export const rate = textKind('bytes a second such as "5M" (at least 1K), or "off"', '', (word): number | null | undefined => {
  if (word === 'off') return null;
  const bytes = parseBytes(word.replace(/\/s$/, ''));
  return bytes === undefined || bytes < rateMin ? undefined : bytes;
});

/** An absolute path; a relative one starts at the working directory. */
export const path: OptionKind<string, ''> = { ...textKind('a path', '', (word) => resolve(word)), input: { type: 'string', normalize: true } };

export const flag: OptionKind<boolean, ''> = {
  input: { type: 'boolean' },
  takes: 'true or false',
  unit: '',
  parse: (word) => (typeof word === 'boolean' ? word : undefined),
};

export const count: OptionKind<number, ''> = {
  input: { type: 'number' },
  takes: 'a number from 1 to 256',
  unit: '',
  parse: (word) => (typeof word === 'number' && Number.isInteger(word) && word >= 1 && word <= 256 ? word : undefined),
};

export const choice = <const Name extends string>(names: readonly Name[]): OptionKind<Name, ''> => ({
  input: { choices: names },
  takes: `one of ${names.map((name) => `"${name}"`).join(', ')}`,
  unit: '',
  parse: (word) => names.find((name) => name === word),
});

/** `kind` without the values that `isRefused` names; `message` follows the option's name. */
export const refusing = <Value, Unit extends string>(
  kind: OptionKind<Value, Unit>,
  isRefused: (value: Value) => boolean,
  message: string,
): OptionKind<Value, Unit> => ({
  ...kind,
  flaw: (value) => (isRefused(value) ? message : undefined),
});

/** `option` is spelt as on the command line, without its dashes. Throws Failure `USAGE`. */
export function readOption<Value>(kind: OptionKind<Value>, word: OptionWord, option: string): Value {
  const value = kind.parse(word);
  if (value === undefined) throw new Failure('USAGE', `--${option} takes ${kind.takes}, not ${word}`);
  const flaw = kind.flaw?.(value);
  if (flaw !== undefined) throw new Failure('USAGE', `--${option} ${flaw}`);
  return value;
}

/** Like {@link readOption}, for an option that may be left out. */
export function readOptional<Value>(kind: OptionKind<Value>, word: OptionWord | undefined, option: string): Value | undefined {
  return word === undefined ? undefined : readOption(kind, word, option);
}

/** `cacheSize` as `cache-size`. */
export const optionOf = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

const powers = 'kmgtp';

/** `10G`, `512M`, `1.5 TiB`, `4096`: bytes, in powers of 1024; `undefined` when it is no size. */
export function parseBytes(word: string): number | undefined {
  const [, digits, prefix] = /^\s*(\d+(?:\.\d+)?)\s*([kmgtp]?)(?:i?b)?\s*$/i.exec(word) ?? [];
  if (digits === undefined) return undefined;
  const power = prefix ? powers.indexOf(prefix.toLowerCase()) + 1 : 0;
  const bytes = Math.floor(Number(digits) * 1024 ** power);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

const unitMs: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `30`, `30s`, `5m`, `1h`: milliseconds; `undefined` when it is no duration. */
export function parseDurationMs(word: string): number | undefined {
  const [, digits, unit = 's'] = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?\s*$/.exec(word) ?? [];
  const scaleMs = unitMs[unit];
  return digits === undefined || scaleMs === undefined ? undefined : Math.round(Number(digits) * scaleMs);
}
