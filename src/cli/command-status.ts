/** `sealdrive status [DIR]`: what is mounted, and whether it is safe to close the lid. */
import { isPending } from '../daemon/control-protocol.js';
import type { DaemonStatus } from '../daemon/control-protocol.js';
import { jsonOption } from './command-options.js';
import { askDaemon, findMount, findMounts } from './control-client.js';
import { defineCommand } from './define-command.js';
import { showFlushProgress } from './progress.js';
import { emphasis, formatBytes, plural, print, printJson } from './terminal.js';

interface StatusArguments {
  readonly directory: string | undefined;
  readonly wait: boolean;
  readonly json: boolean;
}

export const statusCommand = defineCommand<StatusArguments>({
  command: 'status [directory]',
  describe: 'Show what is mounted and what is not in the store yet',
  builder: (yargs) =>
    yargs
      .positional('directory', { type: 'string', describe: 'One mount point, or the name of a volume (default: all mounts)' })
      .options({ wait: { type: 'boolean', default: false, describe: 'First wait until everything is in the store' }, ...jsonOption })
      .example('$0 status --json', 'for programs'),
  handler: async (args) => {
    let mounts = args.directory === undefined ? await findMounts() : [await findMount(args.directory)];
    if (args.wait) {
      const display = showFlushProgress(args.json ? 'silent' : 'auto');
      const onProgress = (progress: Parameters<typeof display.update>[0]): void => display.update(progress);
      try {
        for (const { record } of mounts) await askDaemon(record.socket, { method: 'flush' }, { onProgress });
      } finally {
        display.stop();
      }
      mounts = args.directory === undefined ? await findMounts() : [await findMount(args.directory)];
    }
    if (args.json) {
      printJson({ mounts: mounts.map(({ status, record }) => ({ ...status, stateDirectory: record.stateDirectory })) });
      return;
    }
    if (mounts.length === 0) print('Nothing is mounted.');
    for (const { status } of mounts) describe(status);
  },
});

function describe(status: DaemonStatus): void {
  const { pending, statistics } = status;
  const rows: [string, string][] = [
    ['volume', status.volumeId],
    ['store', status.store],
    ['content', `${statistics.files.toLocaleString('en-US')} files and folders, ${formatBytes(statistics.bytes)}`],
    [
      'pending',
      isPending(pending)
        ? `${plural(pending.operations, 'change')} to ${plural(pending.files, 'file')}, ${formatBytes(pending.dirtyBytes + pending.uploadBytes)} to upload`
        : 'nothing: everything is in the store',
    ],
  ];
  for (const [group, facts] of Object.entries(status.details)) {
    if (!shownAlready.has(group)) rows.push([group, describeFacts(facts)]);
  }
  const { reachable, trouble } = status.details['store'] ?? {};
  if (reachable === false) rows.push(['TROUBLE', `the store cannot be reached: ${trouble}`]);
  rows.push(['daemon', `pid ${status.pid}, driver ${status.driver}, version ${status.version}, since ${new Date(status.startedAtMs).toISOString()}`]);
  print(emphasis(`${status.mountPoint}${status.readOnly ? ' (read-only)' : ''}${status.state === 'stopping' ? ' (stopping)' : ''}`));
  for (const [name, value] of rows) print(`  ${name.padEnd(8)} ${value}`);
}

/** Groups of facts that the first lines tell. */
const shownAlready: ReadonlySet<string> = new Set(['volume', 'store']);

function describeFacts(facts: DaemonStatus['details'][string]): string {
  return Object.entries(facts)
    .map(([name, value]) => {
      if (typeof value === 'number' && name.endsWith('Bytes')) return `${name.slice(0, -'Bytes'.length)} ${formatBytes(value)}`;
      return `${name} ${value}`;
    })
    .join(', ');
}
