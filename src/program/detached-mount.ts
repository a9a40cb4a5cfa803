/**
 * Starts the process that serves a mount and waits until the mount answers, so that `sealdrive mount` reports the
 * outcome. The process starts as soon as there is a state directory, and loads its modules while the keys are being
 * found. The request, keys included, goes through the IPC pipe between the two. The process itself is in
 * serve-mount.ts.
 */
import { spawn } from 'node:child_process';
import { closeSync } from 'node:fs';
import { join } from 'node:path';
import { environmentToHandOn } from '../disk/environment.js';
import { openSync, readFileSync, statSync } from '../disk/files.js';
import type { FailureCode } from '../terminal/exit-code.js';
import { exitCodes, Failure } from '../terminal/exit-code.js';
import type { MountReport, MountRequest } from './mount-request.js';
import { plainEnvironment, plainOptions } from './runtime-guard.js';

/** The hidden command that the process runs. */
export const serveCommandName = 'serve-mount';

/** Seals, hashes and disk I/O share libuv's pool; its default of 4 is too small for a disk that takes more at once. */
export const threadPoolSize = '8';

/**
 * glibc gives each thread of the pool a heap of its own, and what is freed in one stays in it. After four minutes of
 * the same mixed work a daemon had 171 MiB, and 155 with two heaps in all; threads that only seal and read files do not
 * feel it.
 */
const mallocArenas = '2';

/** A mount that answers. */
export interface Mounted {
  readonly pid: number;
  /** The store cannot keep two devices apart. */
  readonly isSingleWriter: boolean;
}

/** A process that waits for its request. */
export interface ServingProcess {
  /**
   * To be called once. Resolves when the mount answers. Rejects with a Failure from what the process reports; the
   * process is gone then.
   */
  mount(request: MountRequest): Promise<Mounted>;
  /** Ends the process, since there will be no request. It has no effect once the mount has answered. */
  abandon(): void;
}

/** The state directory exists; `storeKind` is a scheme of open-store.ts. */
export function startServingProcess(stateDirectory: string, storeKind: string): ServingProcess {
  const crashLog = join(stateDirectory, 'daemon.crash');
  const fd = openSync(crashLog, 'a', 0o600);
  const sizeBefore = statSync(crashLog).size;
  const [, program = ''] = process.argv;
  const child = spawn(process.execPath, [...plainOptions(process.execArgv), program, serveCommandName, storeKind], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', 'ignore', fd, 'ipc'],
    serialization: 'advanced',
    env: {
      ...plainEnvironment(environmentToHandOn()),
      UV_THREADPOOL_SIZE: process.env['UV_THREADPOOL_SIZE'] ?? threadPoolSize,
      MALLOC_ARENA_MAX: process.env['MALLOC_ARENA_MAX'] ?? mallocArenas,
    },
  });
  closeSync(fd);
  let request: MountRequest | undefined;
  let isListening = false;
  const sendRequest = (): void => {
    if (isListening && request) child.send(request);
  };
  const ready = new Promise<Mounted>((resolve, reject) => {
    child.on('error', (error) => reject(new Failure('UNEXPECTED', 'the serving process cannot be started', { cause: error })));
    child.on('exit', (code, signal) => {
      const said = readFileSync(crashLog).subarray(sizeBefore).toString('utf8').trim().split('\n')[0];
      const how = signal === null ? `with exit code ${code}` : `by ${signal}`;
      reject(new Failure('UNEXPECTED', `the serving process ended ${how} before the mount answered${said ? `: ${said}` : ''}`));
    });
    child.on('message', (report: MountReport) => {
      if (report.type === 'listening') {
        isListening = true;
        sendRequest();
      } else if (report.type === 'ready') resolve({ pid: child.pid ?? 0, isSingleWriter: report.isSingleWriter });
      else reject(new Failure(report.code in exitCodes ? (report.code as FailureCode) : 'UNEXPECTED', report.message));
    });
  });
  // The caller of mount() gets the error; there may be none.
  ready.catch(() => {});
  const part = (): void => {
    // Without its pipe the process ends, unless it has a request.
    if (child.connected) child.disconnect();
    child.unref();
  };
  return {
    async mount(what) {
      const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
      // Until the mount is ready, stopping this command stops the process.
      process.on('SIGINT', forward);
      process.on('SIGTERM', forward);
      try {
        request = what;
        sendRequest();
        return await ready;
      } finally {
        process.off('SIGINT', forward);
        process.off('SIGTERM', forward);
        part();
      }
    },
    abandon: part,
  };
}
