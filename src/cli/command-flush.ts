/** `sealdrive flush [DIR]`: returns when everything written until now is in the store. */

import { askDaemon, findMount, handedTo } from '../program/control-client.js';
import { Failure } from '../terminal/exit-code.js';
import { duration, readOptional } from '../terminal/option-kind.js';
import { print, printJson } from '../terminal/terminal.js';
import { jsonOption } from './command-options.js';
import { defineCommand } from './define-command.js';
import { showFlushProgress } from './progress.js';

interface FlushArguments {
  readonly directory: string | undefined;
  readonly timeout: string | undefined;
  readonly json: boolean;
}

export const flushCommand = defineCommand<FlushArguments>({
  command: 'flush [directory]',
  describe: 'Wait until everything is in the store',
  builder: (yargs) =>
    yargs
      .positional('directory', { type: 'string', describe: 'The mount point, or the name of a volume (not needed when there is one mount)' })
      .options({ timeout: { type: 'string', describe: 'Give up after this time, for instance 5m (exit code 9)' }, ...jsonOption })
      .example('$0 flush && systemctl suspend', 'sleep when all is safe'),
  handler: async (args) => {
    const timeoutMs = readOptional(duration, args.timeout, 'timeout');
    const { record, status } = await findMount(args.directory);
    const display = showFlushProgress(args.json ? 'silent' : 'auto');
    const signal = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
    try {
      const done = await askDaemon(record.socket, { method: 'flush' }, { onProgress: (progress) => display.update(progress), signal });
      if (!done) throw new Failure('NO_ANSWER', `the drive at ${record.mountPoint} was let go of meanwhile: mount again to see what is left`);
    } catch (error) {
      if (signal?.aborted) {
        throw new Failure('PENDING', 'not everything is in the store yet: what is left is safe on this machine and goes on uploading', {
          cause: error,
        });
      }
      throw error;
    } finally {
      display.stop();
    }
    const client = handedTo(status);
    if (args.json) printJson({ mountPoint: record.mountPoint, flushed: true, handedTo: client ?? null });
    else if (client === undefined) print('Everything is in the store.');
    else print(`Everything is handed to ${client}, which carries it to the other machines: wait until it has.`);
  },
});
