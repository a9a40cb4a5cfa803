/**
 * A server for stores of one kind, for tests that run on every kind: a real server on loopback (or a directory), with
 * the locations of its stores, the environment that a program needs to use them, and ways to crash and hang it.
 * Abilities of a single server are in that server's own file.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { systemClock } from '../../src/base/clock.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { openStore } from '../../src/store/open-store.js';
import { Lighttpd, skipWebdav } from './lighttpd.js';
import { Rgw, skipS3 } from './rgw.js';
import { Serve } from './serve.js';
import { Sshd, skipSftp } from './sshd.js';

export interface StoreServer {
  readonly kind: StoreKind;
  /** The port on loopback; 0 for the directory. */
  readonly port: number;
  /** The environment variables that a program needs to use its stores, besides its own. */
  readonly environment: Readonly<Record<string, string>>;
  /**
   * The location of the store called `name` (lower case), as the command line takes it, once it can be used; `port`: of
   * a proxy in front.
   */
  location(name: string, port?: number): Promise<string>;
  /** Crashes the process that clients talk to with kill -9. */
  kill(): Promise<void>;
  /** Starts it again after {@link kill}, with its data. */
  restart(): Promise<void>;
  /** Makes every request hang, or continue. */
  hold(isHeld: boolean): void;
  stop(): Promise<void>;
}

type Starter = (folder: string) => Promise<Omit<StoreServer, 'kind'>>;

const nothing = async (): Promise<void> => {};

const starters = {
  directory: {
    skip: (): string | undefined => undefined,
    async start(folder) {
      return { port: 0, environment: {}, location: async (name) => join(folder, name), kill: nothing, restart: nothing, hold() {}, stop: nothing };
    },
  },
  s3: {
    skip: skipS3,
    async start(folder) {
      const rgw = await Rgw.start(folder);
      await rgw.makeBucket('volumes');
      return {
        port: rgw.port,
        environment: { AWS_ACCESS_KEY_ID: rgw.user.accessKeyId, AWS_SECRET_ACCESS_KEY: rgw.user.secretAccessKey },
        location: async (name, port = rgw.port) => `s3://volumes/${name}?endpoint=http://127.0.0.1:${port}`,
        kill: () => rgw.killGateway(),
        restart: () => rgw.restartGateway(),
        hold: (isHeld) => rgw.holdStorage(isHeld),
        stop: () => rgw.stop(),
      };
    },
  },
  webdav: {
    skip: skipWebdav,
    async start(folder) {
      const lighttpd = await Lighttpd.start(folder);
      return {
        port: lighttpd.port,
        environment: {},
        location: async (name, port = lighttpd.port) => `webdav+http://127.0.0.1:${port}/open/${name}`,
        kill: () => lighttpd.stop(),
        restart: () => lighttpd.restart(),
        hold: (isHeld) => lighttpd.hold(isHeld),
        stop: () => lighttpd.stop(),
      };
    },
  },
  sftp: {
    skip: skipSftp,
    async start(folder) {
      const sshd = await Sshd.start(folder);
      return {
        port: sshd.port,
        environment: {},
        location: async (name, port = sshd.port) =>
          `sftp://${sshd.user}@127.0.0.1:${port}${sshd.root}/${name}?key=${sshd.keyPath}&known_hosts=${sshd.knownHostsPath}`,
        kill: () => sshd.stop(),
        restart: () => sshd.restart(),
        hold: (isHeld) => sshd.hold(isHeld),
        stop: () => sshd.stop(),
      };
    },
  },
  http: {
    skip: (): string | undefined => undefined,
    async start(folder) {
      const serve = await Serve.start(folder);
      const port = Number(new URL(serve.origin).port);
      const made = new Map<string, string>();
      const locationOf = async (name: string): Promise<string> => {
        const known = made.get(name);
        if (known !== undefined) return known;
        const { location, tokenPath } = serve.volume(name);
        const authorization = `Bearer ${(await readFile(tokenPath, 'utf8')).trim()}`;
        // A token is known to a server within a second.
        while ((await fetch(`${serve.origin}/${name}?info`, { headers: { authorization } })).status === 401) await wait(50);
        made.set(name, location);
        return location;
      };
      return {
        port,
        environment: {},
        location: async (name, through = port) => (await locationOf(name)).replace(serve.origin, `http://127.0.0.1:${through}`),
        kill: () => serve.kill(),
        restart: () => serve.restart(),
        hold: (isHeld) => serve.signal(isHeld ? 'SIGSTOP' : 'SIGCONT'),
        stop: () => serve.kill(),
      };
    },
  },
} as const satisfies Readonly<Record<string, { readonly skip: () => string | undefined; readonly start: Starter }>>;

export type StoreKind = keyof typeof starters;

export const storeKinds = Object.keys(starters) as readonly StoreKind[];

/** The reason why there can be no such server here; throws where TEST_REQUIRE names the kind. */
export const whyNoStore = (kind: StoreKind): string | undefined => starters[kind].skip();

/** `folder` must be empty; the caller removes it after `stop`. */
export async function startStoreServer(kind: StoreKind, folder: string): Promise<StoreServer> {
  await mkdir(folder, { recursive: true });
  return { kind, ...(await starters[kind].start(folder)) };
}

/** The kinds named by words such as those of TEST_STORES; all when there are none. Throws for an unknown word. */
export function storeKindsOf(words: string | undefined): readonly StoreKind[] {
  if (words === undefined || words === '') return storeKinds;
  return words.split(',').map((word) => {
    const kind = storeKinds.find((one) => one === word);
    if (kind === undefined) throw new Error(`there is no kind of store called ${word}; there is ${storeKinds.join(', ')}`);
    return kind;
  });
}

/** The total size of the objects that a store lists, in bytes. */
export async function bytesStored(server: StoreServer, location: string): Promise<number> {
  const store = await openStore(location, {
    disk: systemDisk,
    random: systemRandom,
    clock: systemClock,
    env: { ...process.env, ...server.environment },
  });
  let bytes = 0;
  try {
    for await (const { key, size } of store.list('')) bytes += size ?? (await store.head(key)) ?? 0;
  } finally {
    await store.close();
  }
  return bytes;
}
