/** `sealdrive status [PATH..]`: shows what is mounted, what is not in the store yet, and the state of single files. */
import { printable } from '../base/printable.js';
import type { DaemonStatus, PinStatus, SubtreesResult } from '../daemon/control-protocol.js';
import { isPending } from '../daemon/control-protocol.js';
import type { FoundMounts, RunningMount, SilentMount } from '../program/control-client.js';
import { askDaemon, findMount, findMounts, handedTo, mountsOfName, requireAnswers } from '../program/control-client.js';
import { exitCodes, Failure } from '../terminal/exit-code.js';
import { duration, readOptional } from '../terminal/option-kind.js';
import { formatBytes, plural, print, printHeading, printJson } from '../terminal/terminal.js';
import type { FileState } from '../volume/file-status.js';
import { jsonOption, lastOf, severalWords } from './command-options.js';
import { describePin } from './command-pin.js';
import { defineCommand } from './define-command.js';
import type { DrivePath } from './drive-path.js';
import { locateOnDrive } from './drive-path.js';
import { showFlushProgress } from './progress.js';

interface StatusArguments {
  readonly path: readonly string[] | undefined;
  readonly wait: boolean;
  readonly timeout: string | undefined;
  readonly json: boolean;
}

type Subtree = NonNullable<SubtreesResult['subtrees'][number]>;

export const statusCommand = defineCommand<StatusArguments>({
  command: 'status [path..]',
  describe: 'Show what is mounted and what is not in the store yet',
  builder: (yargs) =>
    yargs
      .parserConfiguration(severalWords)
      .positional('path', {
        type: 'string',
        array: true,
        describe: 'Mount points, names of volumes, or files and folders on a drive (default: all mounts)',
      })
      .options({
        wait: { type: 'boolean', default: false, describe: 'First wait until everything is in the store, also while the store is offline' },
        timeout: { type: 'string', describe: 'With --wait: give up after this time, for instance 5m (exit code 9)', coerce: lastOf },
        ...jsonOption,
      })
      .example('$0 status --json', 'for programs')
      .example('$0 status ~/Drive/thesis', 'whether it is in the store, and how much of it is on this machine'),
  handler: async (args) => {
    const timeoutMs = readOptional(duration, args.timeout, 'timeout');
    const paths = args.path ?? [];
    const mounts = await findMounts();
    const { whole, parts } = await sort(paths, mounts);
    if (args.wait) {
      const used = paths.length === 0 ? mounts.answering : [...new Set([...whole, ...parts.map(({ mount }) => mount)])];
      await waitUntilStored(used, timeoutMs, args.json);
      if (paths.length === 0) requireAnswers(mounts.silent);
    }
    const { answering, silent } = args.wait ? await findMounts() : mounts;
    if (args.wait) requireStillThere(whole, answering);
    const chosen = paths.length === 0 ? answering : answering.filter(({ record }) => whole.some((mount) => mount.record.socket === record.socket));
    const mute = paths.length === 0 ? silent : [];
    const pins = new Map<string, readonly PinStatus[]>();
    for (const { record } of chosen) pins.set(record.socket, (await askDaemon(record.socket, { method: 'pins' }))?.pins ?? []);
    const files = await askFiles(parts);
    if (chosen.some(({ status }) => isStale(status))) process.exitCode = exitCodes.STALE;
    if (chosen.some(({ status }) => hasStopped(status))) process.exitCode = exitCodes.INTEGRITY;
    if (chosen.some(({ status }) => isLocalDiskLost(status))) process.exitCode = exitCodes.LOCAL_DISK;
    if (mute.length > 0) process.exitCode = exitCodes.NO_ANSWER;
    if (args.json) {
      const about = chosen.map(({ status, record }) => ({ ...status, stateDirectory: record.stateDirectory, pins: pins.get(record.socket) ?? [] }));
      printJson({
        ...(whole.length > 0 || paths.length === 0 ? { mounts: about } : {}),
        ...(mute.length > 0 ? { silent: mute.map(aboutSilent) } : {}),
        ...(parts.length > 0 ? { files: files.map(({ at: { path }, subtree }) => ({ path, ...subtree })) } : {}),
      });
      return;
    }
    if (paths.length === 0 && answering.length + silent.length === 0) print('Nothing is mounted.');
    for (const { status, record, isHere } of chosen) describe(status, pins.get(record.socket) ?? [], isHere);
    for (const one of mute) describeSilent(one);
    for (const { at, subtree } of files) print(describeFile(at, subtree));
  },
});

/** For programs. */
function aboutSilent({ mountPoint, reason, isDead, record }: SilentMount): object {
  const { pid, volumeId, stateDirectory, store } = record ?? {};
  return { mountPoint, reason, isDead, pid, volumeId, stateDirectory, store };
}

function describeSilent({ mountPoint, reason, record }: SilentMount): void {
  printHeading(`${printable(mountPoint)} (${record ? 'does not answer' : 'nobody answers'})`);
  print(`  ${'UNKNOWN'.padEnd(8)} what is not in the store yet is not known: ${reason}`);
}

/**
 * Throws Failure `NO_ANSWER` when a drive that was waited for can no longer be asked: it is not known whether anything
 * is left.
 */
function requireStillThere(waited: readonly RunningMount[], answering: readonly RunningMount[]): void {
  const lost = waited.find(({ record }) => !answering.some((mount) => mount.record.socket === record.socket && mount.record.pid === record.pid));
  if (lost) throw new Failure('NO_ANSWER', `the drive at ${lost.record.mountPoint} was let go of meanwhile: mount again to see what is left`);
}

/** Which paths mean a whole drive, and which a part of one. Throws Failure. */
async function sort(paths: readonly string[], mounts: FoundMounts): Promise<{ whole: RunningMount[]; parts: DrivePath[] }> {
  const whole: RunningMount[] = [];
  const parts: DrivePath[] = [];
  for (const path of paths) {
    if (await mountsOfName(path, mounts.answering)) whole.push(await findMount(path, mounts));
    else {
      // A drive is found without touching it: it may not answer.
      const mount = await findMount(path, mounts).catch((error: unknown) => {
        if (error instanceof Failure && error.code === 'MOUNT_POINT') return undefined;
        throw error;
      });
      if (mount) whole.push(mount);
      else parts.push(await locateOnDrive(path, mounts));
    }
  }
  return { whole, parts };
}

async function askFiles(parts: readonly DrivePath[]): Promise<{ readonly at: DrivePath; readonly subtree: Subtree }[]> {
  const files: { at: DrivePath; subtree: Subtree }[] = [];
  for (const at of parts) {
    const result = await askDaemon(at.mount.record.socket, { method: 'files', inos: [at.ino], deep: true });
    const subtree = result?.subtrees[0];
    if (!subtree) throw new Failure('USAGE', `there is no ${printable(at.path)} any more`);
    files.push({ at, subtree });
  }
  return files;
}

const pauseMs = 1000;

/** Keeps waiting while the store does not answer. Throws Failure `PENDING`. */
async function waitUntilStored(mounts: readonly RunningMount[], timeoutMs: number | undefined, isJson: boolean): Promise<void> {
  const display = showFlushProgress(isJson ? 'silent' : 'auto');
  const signal = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  try {
    for (const { record } of mounts) {
      for (;;) {
        try {
          const done = await askDaemon(record.socket, { method: 'flush' }, { onProgress: (progress) => display.update(progress), signal });
          if (!done) throw new Failure('NO_ANSWER', `the drive at ${record.mountPoint} was let go of meanwhile: mount again to see what is left`);
          break;
        } catch (error) {
          if (signal?.aborted)
            throw new Failure('PENDING', 'not everything is in the store yet: what is left is safe on this machine', { cause: error });
          if (!(error instanceof Failure && error.code === 'PENDING')) throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, pauseMs));
      }
    }
  } finally {
    display.stop();
  }
}

const isStale = (status: DaemonStatus): boolean => status.details['freshness']?.['stale'] === true;

/** Nothing is written to the store any more. */
const hasStopped = (status: DaemonStatus): boolean => status.details['commit']?.['stopped'] === true;

/** The state directory is gone, or its disk failed: nothing that is written from now on is kept. */
const isLocalDiskLost = (status: DaemonStatus): boolean => status.details['device']?.['failure'] !== undefined;

function describe(status: DaemonStatus, pins: readonly PinStatus[], isHere: boolean): void {
  const client = handedTo(status);
  const { pending, statistics } = status;
  const rows: [string, string][] = [
    ['volume', status.volumeId],
    ['store', printable(status.store)],
    ['content', `${statistics.files.toLocaleString('en-US')} files and folders, ${formatBytes(statistics.bytes)}`],
    [
      'pending',
      isPending(pending)
        ? `${plural(pending.operations, 'change')} to ${plural(pending.files, 'file')}, ${formatBytes(pending.dirtyBytes + pending.uploadBytes)} to upload`
        : client === undefined
          ? 'nothing: everything is in the store'
          : `nothing: everything is handed to ${client}`,
    ],
  ];
  for (const [group, facts] of Object.entries(status.details)) {
    if (!shownAlready.has(group)) rows.push([group, describeFacts(facts)]);
  }
  for (const pin of pins) rows.push(['pinned', describePin({ ...pin, mountPoint: status.mountPoint })]);
  const { reachable, lastError, offlineSeconds } = status.details['store'] ?? {};
  if (offlineSeconds !== undefined)
    rows.push(['OFFLINE', `the store has not answered for ${offlineSeconds} s; what waits goes there when it is back`]);
  else if (hasStopped(status)) rows.push(['STOPPED', `nothing more goes into the store: ${printable(String(lastError))}`]);
  else if (reachable === false) rows.push(['RETRYING', `the store cannot be reached: ${printable(String(lastError))}`]);
  if (isLocalDiskLost(status))
    rows.push(['BROKEN', 'this drive keeps nothing that is written any more, and says so to programs: unmount it, and mount it again']);
  if (isStale(status))
    rows.push(['STALE', 'no other device gave a sign of life for longer than --max-staleness: the store may be withholding changes']);
  rows.push(['daemon', `pid ${status.pid}, driver ${status.driver}, version ${status.version}, since ${new Date(status.startedAtMs).toISOString()}`]);
  const remarks = `${status.readOnly ? ' (read-only)' : ''}${status.state === 'stopping' ? ' (stopping)' : ''}${isHere ? '' : ' (in another container)'}`;
  printHeading(`${printable(status.mountPoint)}${remarks}`);
  for (const [name, value] of rows) print(`  ${name.padEnd(8)} ${value}`);
}

/** Groups of facts that are in the first lines already. */
const shownAlready: ReadonlySet<string> = new Set(['volume', 'store']);

function describeFacts(facts: DaemonStatus['details'][string]): string {
  return Object.entries(facts)
    .map(([name, value]) => {
      if (typeof value === 'number' && name.endsWith('Bytes')) return `${name.slice(0, -'Bytes'.length)} ${formatBytes(value)}`;
      return `${name} ${typeof value === 'string' ? printable(value) : value}`;
    })
    .join(', ');
}

const fileStates: readonly FileState[] = ['stored', 'uploading', 'pending', 'local'];
const stateWords: Readonly<Record<FileState, string>> = {
  stored: 'in the store',
  uploading: 'being uploaded',
  pending: 'changed here, not in the store yet',
  local: 'only here',
};

function describeFile({ path, isDirectory }: DrivePath, { files, contentBytes, hereBytes, states, isPinned }: Subtree): string {
  const share = contentBytes === 0 ? 100 : Math.floor((hereBytes / contentBytes) * 100);
  const pinned = isPinned ? ', pinned' : '';
  const present = fileStates.filter((state) => states[state] > 0);
  const counts = isDirectory && present.length > 1;
  const standing = present.map((state) => (counts ? `${states[state]} ${stateWords[state]}` : stateWords[state])).join(', ');
  const count = isDirectory ? `${plural(files, 'file')}, ` : '';
  return `${printable(path)}: ${standing}; ${count}${formatBytes(contentBytes)}, ${share} % on this machine${pinned}`;
}
