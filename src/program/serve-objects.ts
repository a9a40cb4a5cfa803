/**
 * The life of `sealdrive serve`: the server is composed here (compose.ts does it for mounts), controlled by signals,
 * and ended in good order (doc/server.md, "Running").
 */

import { basename, dirname } from 'node:path';
import { localFolderOf } from '../access/volume-store.js';
import { systemClock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { createLogger } from '../base/logger.js';
import { printable, printableJson } from '../base/printable.js';
import { systemRandom } from '../crypto/system-random.js';
import { ConfinedFolder } from '../disk/confined-folder.js';
import { environment } from '../disk/environment.js';
import { readFile } from '../disk/file-promises.js';
import { systemDisk } from '../disk/system-disk.js';
import { ensureDirectoryPath } from '../disk/whole-file.js';
import { loadNative } from '../fuse/native.js';
import { AccessLog } from '../server/access-log.js';
import type { Certificate } from '../server/http-listener.js';
import { MetricsServer } from '../server/metrics-server.js';
import type { ServerLimits } from '../server/object-server.js';
import { ObjectServer } from '../server/object-server.js';
import { ServerError } from '../server/server-error.js';
import { TokenTable } from '../server/token-file.js';
import { UploadFolder } from '../server/upload.js';
import { DirectoryStore } from '../store/directory-store.js';
import { LimitedStore } from '../store/limited-store.js';
import type { ObjectStore } from '../store/object-store.js';
import { openStore } from '../store/open-store.js';
import { RetryingStore } from '../store/retrying-store.js';
import { Failure } from '../terminal/exit-code.js';
import { write } from '../terminal/terminal.js';

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface ServeRequest {
  readonly base: string;
  readonly listen: Address;
  readonly certificate: { readonly certPath: string; readonly keyPath: string } | undefined;
  readonly isBehindProxy: boolean;
  readonly tokensPath: string;
  readonly quota: number | undefined;
  readonly limits: ServerLimits;
  /** `undefined`: what suits the base. */
  readonly pollMs: number | undefined;
  /** For uploads, where the base is no directory. */
  readonly spool: string;
  /** A path, or `-`. */
  readonly accessLog: string | undefined;
  readonly metrics: Address | undefined;
  readonly stopTimeoutMs: number;
  readonly isDebug: boolean;
}

/** What is being served, for the caller. */
export interface Serving {
  readonly description: string;
  readonly url: string;
  readonly metricsPort: number | undefined;
  readonly tokenCount: number;
}

/** More than one device has, and few enough for a small store. */
const baseLimits = { readsMax: 64, writesMax: 32 };
/** Clients wait half a minute for an answer, and try again by themselves. */
const baseDeadlineMs = 10_000;
/** How long closing the base and the access log may take. */
const endMs = 5000;
const localPollMs = 500;
const remotePollMs = 1000;

/**
 * Serves until a signal ends it. Resolves with whether every request was answered. Throws Failure, StoreError and
 * ServerError before `onReady`.
 */
export async function serveObjects(request: ServeRequest, onReady: (serving: Serving) => void): Promise<boolean> {
  const logger = createLogger((line) => write(2, line), request.isDebug ? 'debug' : 'info');
  const certificate = request.certificate && (await readCertificate(request.certificate));
  const tokens = await TokenTable.open(request.tokensPath, { clock: systemClock, logger });
  const { base, uploads, isLocal } = await openBase(request, logger);
  const ends: (() => void | Promise<void>)[] = [() => base.close()];
  try {
    await refuseVolume(base);
    const accessLog = openAccessLog(request.accessLog);
    ends.push(() => accessLog?.close());
    const folder = localFolderOf(request.base);
    const server = await ObjectServer.start({
      base,
      tokens,
      uploads,
      clock: systemClock,
      logger,
      listen: request.listen,
      certificate,
      isBehindProxy: request.isBehindProxy,
      pollMs: request.pollMs ?? (isLocal ? localPollMs : remotePollMs),
      quota: request.quota,
      freeSpace: folder === undefined ? undefined : async () => (await systemDisk.space(folder)).free,
      limits: request.limits,
      ...(accessLog ? { onAccess: (entry) => accessLog.write(`${printableJson(entry)}\n`) } : {}),
    });
    ends.push(() => server.cut());
    const metrics = request.metrics && (await MetricsServer.start(request.metrics, () => server.measure().text(), base));
    if (metrics) ends.push(() => metrics.stop());
    const notify = serviceNotifier();
    const reload = async (): Promise<void> => {
      notify(`RELOADING=1\nMONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`);
      await tokens.refresh();
      try {
        if (request.certificate) server.setCertificate(await readCertificate(request.certificate));
        accessLog?.reopen();
        logger.info('reloaded');
      } catch (error) {
        logger.error('not all of it could be read again; what could not stays as it was', { reason: describeError(error) });
      }
      notify('READY=1');
    };
    const onReload = (): void => void reload();
    process.on('SIGHUP', onReload);
    const stopped = waitForEnd(() => server.cut());
    const { host } = request.listen;
    onReady({
      description: base.description,
      url: `${certificate ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${server.port}`,
      metricsPort: metrics?.port,
      tokenCount: tokens.size,
    });
    notify('READY=1');
    logger.info('serving', { port: server.port, tokens: tokens.size });
    await stopped;
    notify('STOPPING=1');
    const isWhole = await server.stop(request.stopTimeoutMs);
    logger.info('stopped', { cut: !isWhole });
    process.off('SIGHUP', onReload);
    return isWhole;
  } finally {
    // A base that does not answer must not keep the process from ending.
    const ended = (async () => {
      for (const end of ends.toReversed()) await end();
    })();
    await Promise.race([ended, systemClock.sleep(endMs)]);
  }
}

async function openBase(
  request: ServeRequest,
  logger: Logger,
): Promise<{ readonly base: ObjectStore; readonly uploads: UploadFolder; readonly isLocal: boolean }> {
  const store = await openStore(request.base, { disk: systemDisk, random: systemRandom, clock: systemClock, env: environment(), create: true });
  let uploads: UploadFolder;
  if (store instanceof DirectoryStore) uploads = uploadFolder(store.temporaryFolder);
  else {
    try {
      await ensureDirectoryPath(systemDisk, request.spool);
    } catch (error) {
      await store.close();
      throw new Failure('LOCAL_DISK', `the folder for uploads ${printable(request.spool)} cannot be made: name another one with --spool`, {
        cause: error,
      });
    }
    uploads = uploadFolder(request.spool);
    await uploads.check().catch(async (error: unknown) => {
      await store.close();
      throw new Failure('LOCAL_DISK', `the folder for uploads cannot be used: ${describeError(error)}`, { cause: error });
    });
    await uploads.removeStale(systemClock);
  }
  if (store.local) return { base: store, uploads, isLocal: true };
  const limited = new LimitedStore(store, baseLimits);
  const base = new RetryingStore(limited, { clock: systemClock, random: systemRandom, disk: systemDisk, logger, deadlineMs: baseDeadlineMs });
  return { base, uploads, isLocal: false };
}

/** The path to it is trusted; the folder itself may have been replaced by a link. */
function uploadFolder(path: string): UploadFolder {
  return new UploadFolder(new ConfinedFolder(systemDisk, dirname(path)), basename(path), systemDisk, systemRandom);
}

/** If a volume itself were served, and not the folder that it lies in, it would have no name. */
async function refuseVolume(base: ObjectStore): Promise<void> {
  for await (const _ of base.list('keys/')) {
    throw new Failure(
      'USAGE',
      `${printable(base.description)} is a volume itself: make an empty base, and move the volume into it under the name that it is to have`,
    );
  }
}

async function readCertificate({ certPath, keyPath }: { readonly certPath: string; readonly keyPath: string }): Promise<Certificate> {
  try {
    return { cert: await readFile(certPath, 'utf8'), key: await readFile(keyPath, 'utf8') };
  } catch (error) {
    throw new ServerError('TLS', `the certificate or its key cannot be read: ${describeError(error)}`, { cause: error });
  }
}

interface LineSink {
  write(line: string): void;
  reopen(): void;
  close(): void;
}

function openAccessLog(path: string | undefined): LineSink | undefined {
  if (path === undefined) return undefined;
  if (path === '-') return { write: (line) => write(1, line), reopen: () => {}, close: () => {} };
  try {
    return new AccessLog(path);
  } catch (error) {
    throw new Failure('LOCAL_DISK', `the access log ${printable(path)} cannot be opened: ${describeError(error)}`, { cause: error });
  }
}

/** Resolves at the first signal to end; at the second `hurry` is called. */
function waitForEnd(hurry: () => void): Promise<void> {
  return new Promise((resolve) => {
    let count = 0;
    const onSignal = (): void => {
      if (++count === 1) resolve();
      else hurry();
    };
    process.on('SIGTERM', onSignal);
    process.on('SIGINT', onSignal);
  });
}

/** Notifies systemd, if it started us. */
function serviceNotifier(): (message: string) => void {
  if (!process.env['NOTIFY_SOCKET']) return () => {};
  const addon = loadNative();
  return (message) => void addon.notifySystemd(message);
}
