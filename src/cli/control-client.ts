/** The command line's side of the control socket: finds the daemon of a mount point and asks it. */
import { connect } from 'node:net';
import { resolve } from 'node:path';
import type {
  ControlErrorCode,
  ControlReply,
  ControlRequest,
  DaemonStatus,
  FilesResult,
  LimitResult,
  PinsResult,
  SubtreesResult,
  UnmountResult,
} from '../daemon/control-protocol.js';
import { readMountRecords } from '../daemon/mount-registry.js';
import type { MountRecord } from '../daemon/mount-registry.js';
import type { PinProgress } from '../volume/pin-keeper.js';
import type { FlushProgress } from '../volume/volume.js';
import { Failure } from './exit-code.js';
import type { FailureCode } from './exit-code.js';
import { resolveMountPoint } from './mount-point.js';
import { findNamedVolume, volumeIdOf } from './named-volume.js';
import { registryFolder } from './state-directory.js';
import { expandHome } from './volume-config.js';

const replySizeMax = 1024 * 1024;

const failureCodes: Readonly<Record<ControlErrorCode, FailureCode>> = {
  PENDING: 'PENDING',
  BUSY: 'MOUNT_POINT',
  STOPPING: 'IN_USE',
  PROTOCOL: 'UNEXPECTED',
  INTEGRITY: 'INTEGRITY',
  FULL: 'LOCAL_DISK',
  UNAVAILABLE: 'STORE',
  NOT_FOUND: 'USAGE',
  FAILED: 'UNEXPECTED',
};

export interface AskOptions {
  readonly onProgress?: (progress: FlushProgress) => void;
  readonly onFetched?: (progress: PinProgress) => void;
  readonly signal?: AbortSignal;
}

interface Results {
  readonly status: DaemonStatus;
  readonly flush: Record<string, never>;
  readonly unmount: UnmountResult;
  readonly pin: PinsResult;
  readonly unpin: Record<string, never>;
  readonly limit: LimitResult;
  readonly pins: PinsResult;
  readonly files: FilesResult & SubtreesResult;
}

/**
 * Sends one request and waits for its answer, and for the daemon's end after an unmount. `undefined`: nobody listens there, the daemon is
 * gone. Throws Failure with what the daemon answered, and the signal's reason when aborted.
 */
export function askDaemon<Method extends ControlRequest['method']>(
  socketPath: string,
  request: Extract<ControlRequest, { method: Method }>,
  options: AskOptions = {},
): Promise<Results[Method] | undefined> {
  return new Promise((settle, reject) => {
    const socket = connect(socketPath);
    let received = '';
    let result: Results[Method] | undefined;
    let failure: Error | undefined;
    let connected = false;
    const onAbort = (): void => {
      failure = options.signal?.reason as Error;
      socket.destroy();
    };
    options.signal?.addEventListener('abort', onAbort, { once: true });
    socket.setEncoding('utf8');
    socket.on('connect', () => {
      connected = true;
      socket.write(`${JSON.stringify(request)}\n`);
    });
    socket.on('data', (text: string) => {
      received += text;
      if (received.length > replySizeMax) socket.destroy(new Error('the daemon says too much'));
      for (let end = received.indexOf('\n'); end >= 0; end = received.indexOf('\n')) {
        // The peer is our own daemon, reached through a directory that only this user can write.
        const reply = JSON.parse(received.slice(0, end)) as ControlReply;
        received = received.slice(end + 1);
        if ('progress' in reply) options.onProgress?.(reply.progress);
        else if ('fetched' in reply) options.onFetched?.(reply.fetched);
        else if ('error' in reply) failure = new Failure(failureCodes[reply.error.code] ?? 'UNEXPECTED', reply.error.message);
        else result = reply.result as Results[Method];
      }
    });
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (!connected && (error.code === 'ECONNREFUSED' || error.code === 'ENOENT')) return;
      failure ??= new Failure(error.code === 'EACCES' ? 'MOUNT_POINT' : 'UNEXPECTED', 'the daemon cannot be asked', { cause: error });
    });
    socket.on('close', () => {
      options.signal?.removeEventListener('abort', onAbort);
      if (failure) reject(failure);
      else if (result !== undefined || !connected) settle(result);
      else reject(new Failure('UNEXPECTED', 'the daemon ended before it answered; its log is in the state directory'));
    });
  });
}

export interface RunningMount {
  readonly record: MountRecord;
  readonly status: DaemonStatus;
}

/** The mounts of this user whose daemons answer. */
export async function findMounts(): Promise<RunningMount[]> {
  const mounts: RunningMount[] = [];
  for (const record of readMountRecords(registryFolder())) {
    const status = await askDaemon(record.socket, { method: 'status' }, { signal: AbortSignal.timeout(5000) }).catch(() => undefined);
    // Another daemon may have the socket of a dead one's record.
    if (status && status.pid === record.pid) mounts.push({ record, status });
  }
  return mounts;
}

/**
 * The mounts of a named volume, that at its usual place first; `undefined`: `word` names none. Several are possible with several state
 * directories.
 */
export function mountsOfName(word: string, mounts: readonly RunningMount[]): RunningMount[] | undefined {
  const volume = findNamedVolume(word);
  if (!volume) return undefined;
  const id = volumeIdOf(volume);
  const usual = volume.settings.mountPoint === undefined ? undefined : expandHome(volume.settings.mountPoint);
  const found = mounts.filter(({ record }) => record.volumeId === id);
  return found.toSorted((a, b) => Number(b.record.mountPoint === usual) - Number(a.record.mountPoint === usual));
}

/** The running mount at `directory` (or of the volume of that name), or the only one there is. Throws Failure `MOUNT_POINT` when there is none, or several to choose from. */
export async function findMount(directory: string | undefined): Promise<RunningMount> {
  const mounts = await findMounts();
  if (directory === undefined) {
    if (mounts.length === 1) return mounts[0];
    if (mounts.length === 0) throw new Failure('MOUNT_POINT', 'nothing is mounted');
    throw new Failure('USAGE', `there are ${mounts.length} mounts: say which, for instance ${mounts[0].record.mountPoint}`);
  }
  const named = mountsOfName(directory, mounts);
  if (named?.[0]) return named[0];
  if (named) throw new Failure('MOUNT_POINT', `the volume ${directory} is not mounted; "sealdrive mount ${directory}" mounts it`);
  const names = new Set([resolve(directory), await resolveMountPoint(directory).catch(() => '')]);
  const found = mounts.find((mount) => names.has(mount.record.mountPoint));
  if (!found) throw new Failure('MOUNT_POINT', `no Sealdrive of yours is mounted at ${resolve(directory)}; "sealdrive status" lists what is`);
  return found;
}
