/**
 * The process that serves a mount, from the request to its end: it hardens itself, has the parts composed, runs the
 * daemon, and returns the exit code. Both `mount --foreground` and the detached process run it.
 */
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { controlSocketPaths, ensurePrivateDirectory, registryTag } from '../access/state-directory.js';
import { toHex } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { createLogger, silentLogger } from '../base/logger.js';
import { systemRandom } from '../crypto/system-random.js';
import { isPending } from '../daemon/control-protocol.js';
import { Daemon } from '../daemon/daemon.js';
import { openLogFile } from '../daemon/log-file.js';
import { watchEventLoop } from '../daemon/loop-watch.js';
import { Registration } from '../daemon/mount-registry.js';
import { exitCodes, Failure } from '../terminal/exit-code.js';
import { tell, tellLines } from '../terminal/terminal.js';
import { isExact } from '../vfs/access-time-policy.js';
import { VolumeError } from '../volume/volume-error.js';
import { composeMount, hardenProcess, preloadMount } from './compose.js';
import { explain } from './explain.js';
import type { MountReport, MountRequest } from './mount-request.js';
import { findAddon } from './native-addon.js';
import { version } from './version.js';

/**
 * The heap is small (25 MB) and what it refers to is large: buffers of content come and go by the gigabyte. By itself
 * V8 marks the whole heap for every 14 MB of them, which took a third of the time of cold reads; three times as seldom
 * costs no memory that could be measured.
 */
const heapFlags = '--heap-growing-percent=200';

/** Serves until unmounted. Resolves with the exit code, and rejects with any error if it could not be mounted. */
export async function serveMount(request: MountRequest, onReady: (found: { readonly isSingleWriter: boolean }) => void): Promise<number> {
  const { options } = request;
  process.umask(0o077);
  setFlagsFromString(heapFlags);
  await ensurePrivateDirectory(request.stateDirectory);
  const logFile = openLogFile(options.logFile ?? join(request.stateDirectory, 'daemon.log'));
  const logger = createLogger((line) => logFile.write(line), options.debug || options.trace ? 'debug' : 'info');
  hardenProcess(logger);
  reportDefects(logger);
  const unwatch = options.debug ? watchEventLoop(logger) : () => {};
  logger.info('starting', { version, pid: process.pid, node: process.versions.node });
  try {
    const { parts, storeDescription, isSingleWriter } = await composeMount(request, logger);
    const id = toHex(systemRandom.bytes(8));
    await ensurePrivateDirectory(request.registryFolder);
    const sockets = controlSocketPaths(request.stateDirectory, request.registryFolder, id);
    let daemon: Daemon;
    try {
      daemon = await Daemon.start(parts, {
        mount: {
          mountPoint: request.mountPoint,
          source: `sealdrive:${parts.served.volume.id.slice(0, 16)}-${registryTag(request.registryFolder)}`,
          subtype: 'sealdrive',
          readOnly: parts.served.volume.readOnly,
          allowOther: options.allowOther,
          suid: options.suid,
          dev: options.dev,
          noatime: options.atime === 'noatime',
          strictatime: options.atime === 'strictatime',
          nodiratime: options.nodiratime,
          seesReadlinks: isExact(options.atime),
          defaultPermissions: true,
          writebackCache: !parts.served.volume.readOnly,
          ...(options.trace ? { trace: (line: string) => logger.debug(line) } : {}),
        },
        store: storeDescription,
        version,
        sockets,
        stopFlushTimeoutMs: options.stopTimeoutMs,
      });
    } catch (error) {
      await parts.served.close();
      throw error;
    }
    daemon.handleSignals();
    const record = {
      pid: process.pid,
      mountPoint: request.mountPoint,
      stateDirectory: request.stateDirectory,
      socket: sockets[0],
      volumeId: parts.served.volume.id,
      store: storeDescription,
    };
    const registration = Registration.add(request.registryFolder, id, record, findAddon());
    const watch = setInterval(() => void keepListed(daemon, registration, logger), listedPeriodMs).unref();
    // Our working directory must not be on the drive, which could not be unmounted then.
    process.chdir('/');
    onReady({ isSingleWriter });
    const end = await daemon.ended;
    clearInterval(watch);
    registration.remove();
    if (end.error !== undefined) return exitCodes[explain(end.error).code];
    return isPending(end.left) ? exitCodes.PENDING : 0;
  } catch (error) {
    logger.error('could not mount', {
      reason: describeError(error),
      stack: error instanceof Error && !(error instanceof Failure) ? error.stack : undefined,
    });
    throw error;
  } finally {
    unwatch();
    logFile.close();
  }
}

/** How soon a drive can be found again after somebody has removed its record or socket. */
const listedPeriodMs = 5000;

/** The folders of this user may be cleared away; the drive must still be found, shown and unmounted. */
async function keepListed(daemon: Daemon, registration: Registration, logger: Logger): Promise<void> {
  try {
    registration.makeFolder();
    if (registration.keep(await daemon.keepReachable())) logger.warn('the record of this mount was removed or is out of date; there is a new one');
  } catch (error) {
    logger.debug('this mount cannot be listed', { reason: describeError(error) });
  }
}

/**
 * After a broken invariant the process must end: the journal is whole at every moment, so that is safer than going on.
 */
function reportDefects(logger: Logger): void {
  const onDefect = (error: unknown): void => {
    logger.error('defect', { reason: describeError(error), stack: error instanceof Error ? error.stack : undefined });
    tellLines(error instanceof Error ? (error.stack ?? error.message) : describeError(error));
    process.exit(error instanceof VolumeError && error.code === 'FENCED' ? exitCodes.INTEGRITY : exitCodes.UNEXPECTED);
  };
  process.on('uncaughtException', onDefect);
  process.on('unhandledRejection', onDefect);
}

function report(message: MountReport): void {
  // The command may have been killed meanwhile, which is no reason to unmount.
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

/**
 * The detached process: takes its request from the pipe, reports over it, and keeps running when the pipe is closed.
 * `storeKind` is the kind of store that the volume is in.
 */
export async function serveDetachedMount(storeKind: string): Promise<number> {
  if (!process.send) {
    tell('sealdrive: this command is started by "sealdrive mount" only');
    return exitCodes.USAGE;
  }
  // Before the keys come through the pipe.
  hardenProcess(silentLogger);
  const request = await new Promise<MountRequest | undefined>((resolve) => {
    process.once('message', (message) => resolve(message as MountRequest));
    process.once('disconnect', () => resolve(undefined));
    if (!process.connected) resolve(undefined);
    report({ type: 'listening' });
    preloadMount(storeKind);
  });
  if (!request) return exitCodes.INTERRUPTED;
  try {
    return await serveMount(request, ({ isSingleWriter }) => {
      report({ type: 'ready', isSingleWriter });
    });
  } catch (error) {
    const failure = explain(error);
    report({ type: 'failed', code: failure.code, message: failure.message });
    return exitCodes[failure.code];
  }
}
