/**
 * The targets that bench/network.ts compares: drives on one S3 gateway behind one network link, and a plain client of
 * the gateway. Each can be started, used, mounted again without local state, and asked whether everything is in the
 * store.
 */
import { execFile, spawn } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Drive, detach, isMounted, processesWith, runWithInput } from '../test/mount/drive-process.js';
import type { RgwUser } from '../test/support/rgw.js';
import { freePort } from '../test/support/server-process.js';

const run = promisify(execFile);

export interface NetworkTarget {
  readonly name: string;
  /** The folder for the work. */
  readonly directory: string;
  /** Creates it, without mounting. */
  make(): Promise<void>;
  mount(): Promise<void>;
  unmount(): Promise<void>;
  /** Removes all local state except keys and configuration, as on another machine. Only while unmounted. */
  forget(): Promise<void>;
  /**
   * Resolves when all that was written is in the store; since when, in the milliseconds of performance.now().
   * `hasBegun`: something was sent there; it is true where nothing was written.
   */
  settle(hasBegun: () => Promise<boolean>): Promise<number>;
  processes(): Promise<number[]>;
  /** Works in every state. */
  stop(): Promise<void>;
}

export interface TargetOptions {
  readonly scratch: string;
  /** The address of the gateway through the link. */
  readonly endpoint: string;
  readonly user: RgwUser;
  /** An existing, empty bucket for this target. */
  readonly bucket: string;
}

/**
 * Credentials are in the AWS files that the environment of this process names. Unlocked with a key file, so that
 * mounting measures the mount and not Argon2id.
 */
export function sealdriveTarget({ scratch, endpoint, bucket }: TargetOptions): NetworkTarget {
  const drive = new Drive({ scratch: join(scratch, 'sealdrive'), store: `s3://${bucket}?endpoint=${endpoint}`, withKeyFile: true });
  return {
    name: 'sealdrive',
    directory: drive.directory,
    async make() {
      await mkdir(join(scratch, 'sealdrive'));
      await drive.init();
    },
    mount: () => drive.mount(),
    unmount: () => drive.unmount(),
    forget: () => drive.forget(),
    async settle() {
      await drive.flush();
      return performance.now();
    },
    processes: () => drive.processes(),
    stop: () => drive.destroy(),
  };
}

/**
 * Flags that a careful user would find: many transfers, no wait before uploads, the server's times (the store's own
 * would cost one request per file in listings), long-lived listings, large parts for multipart uploads, and no polling
 * for changes.
 */
export const rcloneFlags = [
  '--vfs-cache-mode=full',
  '--vfs-write-back=100ms',
  '--vfs-fast-fingerprint',
  '--use-server-modtime',
  '--transfers=16',
  '--checkers=16',
  '--dir-cache-time=24h',
  '--attr-timeout=1h',
  '--poll-interval=0',
  '--buffer-size=32M',
  '--vfs-read-ahead=64M',
  '--s3-no-check-bucket',
  '--s3-chunk-size=16M',
  '--s3-upload-concurrency=8',
] as const;

const queueingMs = 500;

export function rcloneTarget({ scratch, endpoint, user, bucket }: TargetOptions): NetworkTarget {
  const own = join(scratch, 'rclone');
  const [directory, cache, config] = [join(own, 'mount'), join(own, 'cache'), join(own, 'rclone.conf')];
  const environment = { ...process.env, XDG_STATE_HOME: own, HOME: own };
  const processes = (): Promise<number[]> => processesWith(`XDG_STATE_HOME=${own}`);
  let port = 0;
  return {
    name: 'rclone',
    directory,
    async make() {
      await mkdir(directory, { recursive: true });
      const password = (await runWithInput(['rclone', 'obscure', '-'], 'bench passphrase\n', environment)).trim();
      const remote = `type = s3\nprovider = Ceph\nendpoint = ${endpoint}\naccess_key_id = ${user.accessKeyId}\nsecret_access_key = ${user.secretAccessKey}\n`;
      await writeFile(config, `[far]\n${remote}\n[crypt]\ntype = crypt\nremote = far:${bucket}\npassword = ${password}\n`);
    },
    async mount() {
      port = await freePort();
      const remote = ['--rc', `--rc-addr=127.0.0.1:${port}`, '--rc-no-auth'];
      const files = [`--config=${config}`, `--cache-dir=${cache}`, `--log-file=${join(own, 'log')}`];
      // Not as a daemon, which would open its remote control port twice.
      const child = spawn('rclone', ['mount', 'crypt:', directory, ...remote, ...files, ...rcloneFlags], { env: environment, stdio: 'ignore' });
      while (!(await isMounted(directory))) {
        if (child.exitCode !== null) throw new Error(`rclone has mounted nothing: ${await readFile(join(own, 'log'), 'utf8')}`);
        await wait(5);
      }
    },
    async unmount() {
      await run('fusermount3', ['-u', directory]);
      while ((await processes()).length > 0) await wait(5);
    },
    forget: () => rm(cache, { recursive: true, force: true }),
    async settle(hasBegun) {
      let idleSinceMs: number | undefined;
      for (;;) {
        const answer = await fetch(`http://127.0.0.1:${port}/vfs/stats`, { method: 'POST' });
        const { diskCache } = (await answer.json()) as { diskCache: { uploadsInProgress: number; uploadsQueued: number; erroredFiles: number } };
        if (diskCache.erroredFiles > 0) throw new Error(`rclone failed: ${(await readFile(join(own, 'log'), 'utf8')).slice(-1000)}`);
        // A file enters its queue some time after it was closed: if only a part of it was local, after the rest was
        // fetched.
        const isIdle = diskCache.uploadsInProgress + diskCache.uploadsQueued === 0 && (await hasBegun());
        idleSinceMs = isIdle ? (idleSinceMs ?? performance.now()) : undefined;
        if (idleSinceMs !== undefined && performance.now() - idleSinceMs > queueingMs) return idleSinceMs;
        await wait(20);
      }
    },
    processes,
    async stop() {
      await detach(directory);
      for (const pid of await processes()) process.kill(pid, 'SIGKILL');
    },
  };
}

/**
 * Runs a command in the mount, in a process of its own, and discards its output. Resolves with the milliseconds that it
 * took.
 */
export function timed(command: string, argument: readonly string[]): Promise<number> {
  const began = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(command, argument, { cwd: '/', stdio: ['ignore', 'ignore', 'inherit'] });
    child.once('error', reject);
    child.once('close', (code) => (code === 0 ? resolve(performance.now() - began) : reject(new Error(`${command} ended with ${code}`))));
  });
}
