/**
 * `sealdrive pin PATH`, `unpin PATH`: keeps files and folders on this machine, so that they can be read without a
 * network.
 */
import { printable } from '../base/printable.js';
import type { PinStatus } from '../daemon/control-protocol.js';
import type { RunningMount } from '../program/control-client.js';
import { askDaemon, findMounts, requireAnswers } from '../program/control-client.js';
import { Failure } from '../terminal/exit-code.js';
import { formatBytes, plural, print, printJson } from '../terminal/terminal.js';
import type { PinState } from '../volume/pin-keeper.js';
import { jsonOption, severalWords } from './command-options.js';
import { defineCommand } from './define-command.js';
import { locateOnDrive } from './drive-path.js';
import { showPinProgress } from './progress.js';

interface PinArguments {
  readonly path: readonly string[] | undefined;
  readonly list: boolean;
  readonly background: boolean;
  readonly json: boolean;
}

interface UnpinArguments {
  readonly path: readonly string[];
  readonly json: boolean;
}

export const pinCommand = defineCommand<PinArguments>({
  command: 'pin [path..]',
  describe: 'Keep files and folders on this machine',
  builder: (yargs) =>
    yargs
      .parserConfiguration(severalWords)
      .positional('path', { type: 'string', array: true, describe: 'On a mounted drive' })
      .options({
        list: { type: 'boolean', default: false, describe: 'Show what is pinned' },
        background: { type: 'boolean', alias: 'b', default: false, describe: 'Do not wait until everything is here' },
        ...jsonOption,
      })
      .example('$0 pin ~/Drive/Music', 'fetches it, keeps it, and follows its changes'),
  handler: async (args) => {
    const paths = args.path ?? [];
    if (args.list || paths.length === 0) return listPins(args.json);
    const mounts = await findMounts();
    const pins: (PinStatus & { readonly mountPoint: string })[] = [];
    for (const path of paths) {
      const { mount, ino, parent, name } = await locateOnDrive(path, mounts);
      const display = showPinProgress(args.json ? 'silent' : 'auto');
      const request = { method: 'pin', ino, parent, name, wait: !args.background } as const;
      const result = await askDaemon(mount.record.socket, request, { onFetched: (progress) => display.update(progress) }).finally(() =>
        display.stop(),
      );
      for (const pin of result?.pins ?? []) pins.push({ ...pin, mountPoint: mount.record.mountPoint });
    }
    if (args.json) printJson({ pins });
    else for (const pin of pins) print(describePin(pin));
    if (!args.background) requireComplete(pins);
    return undefined;
  },
});

export const unpinCommand = defineCommand<UnpinArguments>({
  command: 'unpin <path..>',
  describe: 'Let pinned files and folders go when their space is needed',
  builder: (yargs) =>
    yargs
      .parserConfiguration(severalWords)
      .positional('path', { type: 'string', array: true, demandOption: true, describe: 'As it was pinned' })
      .options({ ...jsonOption }),
  handler: async (args) => {
    const mounts = await findMounts();
    for (const path of args.path) {
      const { mount, ino } = await locateOnDrive(path, mounts);
      await askDaemon(mount.record.socket, { method: 'unpin', ino });
      if (!args.json) print(`${printable(path)} is not pinned any more.`);
    }
    if (args.json) printJson({ unpinned: args.path });
  },
});

async function listPins(isJson: boolean): Promise<void> {
  const pins: (PinStatus & { readonly mountPoint: string })[] = [];
  const { answering, silent } = await findMounts();
  for (const { record } of answering) pins.push(...(await pinsOf(record)));
  if (isJson) requireAnswers(silent);
  if (isJson) printJson({ pins });
  else if (pins.length === 0 && silent.length === 0) print('Nothing is pinned.');
  else for (const pin of pins) print(describePin(pin));
  // Reported after what is known.
  requireAnswers(silent);
}

async function pinsOf({ socket, mountPoint }: RunningMount['record']): Promise<(PinStatus & { readonly mountPoint: string })[]> {
  const result = await askDaemon(socket, { method: 'pins' });
  return (result?.pins ?? []).map((pin) => ({ ...pin, mountPoint }));
}

const stateWords: Readonly<Record<PinState, string>> = {
  complete: 'all here',
  fetching: 'being fetched',
  waiting: 'waits for the store',
  full: 'the cache has no room for all of it',
  damaged: 'something in it cannot be read',
};

/** One line about a pin. */
export function describePin({ mountPoint, path, ino, state, files, bytes, hereBytes }: PinStatus & { readonly mountPoint: string }): string {
  const place = path === undefined ? `${mountPoint} (inode ${ino})` : `${mountPoint}${path === '/' ? '' : path}`;
  const share = state === 'complete' ? formatBytes(bytes) : `${formatBytes(hereBytes)} of ${formatBytes(bytes)}`;
  return `${printable(place)}: ${stateWords[state]}, ${plural(files, 'file')}, ${share}`;
}

function requireComplete(pins: readonly PinStatus[]): void {
  const states = new Set(pins.map(({ state }) => state));
  if (states.has('damaged')) throw new Failure('INTEGRITY', 'not everything that is pinned can be read; "sealdrive check --data" shows more');
  if (states.has('full'))
    throw new Failure('LOCAL_DISK', 'the cache has no room for all of it: mount with a larger --cache-size, or make room on its disk');
  if (states.has('waiting')) throw new Failure('PENDING', 'it is pinned, and the rest is fetched when the store answers');
}
