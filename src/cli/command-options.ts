/**
 * Options that several commands share, as yargs takes them. What the options of `mount` mean is in
 * access/mount-options.ts.
 */
import type { Options } from 'yargs';
import type { MountOption } from '../access/mount-options.js';
import { mountOptionRows } from '../access/mount-options.js';
import { optionOf } from '../terminal/option-kind.js';

export const jsonOption = { json: { type: 'boolean', default: false, describe: 'Print JSON for programs (errors too)' } } as const;
export const stateOption = {
  'state-dir': {
    type: 'string',
    normalize: true,
    describe: 'Where local state lies (default: $XDG_STATE_HOME/sealdrive)',
  },
} as const;

/** Every option of the table, for `mount`. */
export const mountTableOptions: Readonly<Record<string, Options>> = Object.fromEntries(
  mountOptionRows.map(([name, row]) => [
    optionOf(name),
    {
      ...describeOption(row, row.group),
      ...(row.alias === undefined ? {} : { alias: row.alias }),
      ...(row.default === undefined ? {} : { default: row.default }),
    },
  ]),
);

/** The options that the config file takes, for `volume add`, where none has a default. */
export const settingTableOptions: Readonly<Record<string, Options>> = Object.fromEntries(
  mountOptionRows.filter(([, row]) => row.isSetting).map(([name, row]) => [optionOf(name), describeOption(row, 'Settings:')]),
);

function describeOption({ kind, describe, usual }: MountOption, group: string | undefined): Options {
  return {
    ...kind.input,
    describe,
    ...(usual === undefined ? {} : { defaultDescription: usual }),
    ...(group === undefined ? {} : { group }),
  };
}

/**
 * For commands that take several words in one place. In other commands the last of several values counts; here, options
 * that take a value need {@link lastOf} for that.
 */
export const severalWords = { 'duplicate-arguments-array': true } as const;

export const lastOf = (value: string | readonly string[] | undefined): string | undefined =>
  typeof value === 'string' || value === undefined ? value : value.at(-1);
