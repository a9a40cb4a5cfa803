/** `sealdrive limit [DIR]`: limits how much of the network a mounted drive takes, from now until it is unmounted. */
import { printable } from '../base/printable.js';
import { askDaemon, findMount } from '../program/control-client.js';
import { Failure } from '../terminal/exit-code.js';
import { rate, readOptional } from '../terminal/option-kind.js';
import { formatBytes, print, printJson } from '../terminal/terminal.js';
import { jsonOption } from './command-options.js';
import { defineCommand } from './define-command.js';

interface LimitArguments {
  readonly directory: string | undefined;
  readonly upload: string | undefined;
  readonly download: string | undefined;
  readonly json: boolean;
}

export const limitCommand = defineCommand<LimitArguments>({
  command: 'limit [directory]',
  describe: 'Limit how much of the network a mounted drive takes, or show the limits',
  builder: (yargs) =>
    yargs
      .positional('directory', { type: 'string', describe: 'The mount point, or the name of a volume (not needed when there is one mount)' })
      .options({
        upload: { type: 'string', describe: 'Bytes a second to the store, for instance 1M; off: no limit' },
        download: { type: 'string', describe: 'Bytes a second from the store; off: no limit' },
        ...jsonOption,
      })
      .example('$0 limit --upload 500K', 'until it is unmounted; "mount --upload-limit" and the config file set it for longer'),
  handler: async (args) => {
    const upload = readOptional(rate, args.upload, 'upload');
    const download = readOptional(rate, args.download, 'download');
    const { record } = await findMount(args.directory);
    const limits = await askDaemon(record.socket, {
      method: 'limit',
      ...(upload === undefined ? {} : { upload }),
      ...(download === undefined ? {} : { download }),
    });
    if (!limits) throw new Failure('MOUNT_POINT', 'the daemon is gone: mount again');
    if (args.json) {
      printJson({ mountPoint: record.mountPoint, ...limits });
      return;
    }
    const shown = (limit: number | null): string => (limit === null ? 'no limit' : `${formatBytes(limit)} a second`);
    print(`${printable(record.mountPoint)}: upload ${shown(limits.upload)}, download ${shown(limits.download)}`);
  },
});
