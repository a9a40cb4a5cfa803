/**
 * Opens the object store that a person names (`/path`, `dir:/path`, a URL). This is the only list of the kinds of
 * stores; the caller adds retries and limits.
 */
import { resolve } from 'node:path';
import type { Clock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { Bandwidth } from '../base/rate-limit.js';
import type { Disk } from '../disk/disk.js';
import { knownHome } from '../disk/environment.js';
import { DirectoryStore } from './directory-store.js';
import { filePathOf, type OpenRemoteOptions, StoreLocationError } from './location-url.js';
import type { ObjectStore } from './object-store.js';

export interface OpenStoreOptions {
  readonly disk: Disk;
  readonly random: Random;
  readonly clock?: Clock;
  /** Make the place where the store can (a directory), instead of refusing when there is none. */
  readonly create?: boolean;
  /** Environment variables, for the kinds that find credentials or proxies there. Default: none. */
  readonly env?: OpenRemoteOptions['env'];
  /** What remote stores keep to with the bodies of objects. Default: no limit. */
  readonly bandwidth?: Bandwidth | undefined;
}

interface Kind {
  readonly example: string;
  readonly open: (location: string, options: OpenStoreOptions) => Promise<ObjectStore>;
  readonly load?: () => Promise<unknown>;
}

/**
 * By scheme: how it is written, and how it is opened. What only one kind needs is loaded with it, so that small
 * commands start fast.
 */
const kinds: ReadonlyMap<string, Kind> = new Map<string, Kind>(
  Object.entries({
    dir: { example: '/path or dir:/path', open: (location, options) => openDirectory(location.slice('dir:'.length), options) },
    file: {
      example: 'file:///path',
      open: (location, options) => openDirectory(filePathOf(location), options),
    },
    s3: {
      example: 's3://bucket/prefix?endpoint=https://host',
      open: async (location, options) => openRemote((await import('./s3-location.js')).openS3Store, location, options),
      load: () => import('./s3-location.js'),
    },
    https: { example: 'https://host/VOLUME', open: openHttp, load: () => import('./http-store.js') },
    http: { example: 'http://localhost:port/VOLUME', open: openHttp, load: () => import('./http-store.js') },
    'webdav+https': { example: 'webdav+https://host/path', open: openWebdav, load: () => import('./webdav-store.js') },
    'webdav+http': { example: 'webdav+http://host/path', open: openWebdav, load: () => import('./webdav-store.js') },
    sftp: {
      example: 'sftp://user@host/path',
      open: async (location, options) => openRemote((await import('./sftp-location.js')).openSftpStore, location, options),
      load: () => import('./sftp-location.js'),
    },
  }),
);

async function openHttp(location: string, options: OpenStoreOptions): Promise<ObjectStore> {
  return openRemote((await import('./http-store.js')).openHttpStore, location, options);
}

async function openWebdav(location: string, options: OpenStoreOptions): Promise<ObjectStore> {
  return openRemote((await import('./webdav-store.js')).openWebdavStore, location, options);
}

/** What the modules of remote stores export: it makes no request. */
type RemoteOpener = (location: string, options: OpenRemoteOptions) => Promise<RemoteStore>;
type RemoteStore = ObjectStore & {
  /** Makes the place where the kind of store can, and says what is wrong with it. */
  create(): Promise<void>;
};

/** An unknown user has no home directory, and no credentials in one. */
const homeOrNowhere = (): string => knownHome() ?? '/nonexistent';

async function openRemote(open: RemoteOpener, location: string, options: OpenStoreOptions): Promise<ObjectStore> {
  const store = await open(location, { ...options, env: options.env ?? {}, home: homeOrNowhere() });
  if (!options.create) return store;
  try {
    await store.create();
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}

function openDirectory(path: string, options: OpenStoreOptions): Promise<ObjectStore> {
  if (path === '') throw new StoreLocationError('MALFORMED', 'the store needs a path');
  const absolute = path === '~' || path.startsWith('~/') ? resolve(homeOrNowhere(), `.${path.slice(1)}`) : resolve(path);
  return options.create ? DirectoryStore.create(absolute, options) : DirectoryStore.open(absolute, options);
}

/** Which kind of store a location names: what {@link preloadStore} takes. Throws as {@link requireKnownKind}. */
export const storeKindOf = (location: string): string => requireKnownKind(location) ?? 'dir';

/** Loads what stores of a kind need, so that opening one takes less time. */
export async function preloadStore(kind: string): Promise<void> {
  await kinds.get(kind)?.load?.();
}

/**
 * The scheme of a location; `undefined`: it is a path. Throws {@link StoreLocationError} for a kind of store that we do
 * not know.
 */
export function requireKnownKind(location: string): string | undefined {
  const scheme = /^([a-z][a-z0-9+.-]*):/.exec(location)?.[1];
  if (scheme === undefined || kinds.has(scheme)) return scheme;
  const examples = [...kinds.values()].map(({ example }) => example).join(', ');
  // The location itself stays out of the message: it may hold credentials.
  throw new StoreLocationError('UNKNOWN_SCHEME', `there is no kind of store called ${scheme}: (write ${examples}; a path with a colon as ./path)`);
}

/**
 * Opens the store that `location` names; a relative path counts from the working directory.
 * Throws {@link StoreLocationError} for what cannot be understood and `StoreError` for what cannot be opened.
 */
export async function openStore(location: string, options: OpenStoreOptions): Promise<ObjectStore> {
  const scheme = requireKnownKind(location);
  const kind = scheme === undefined ? undefined : kinds.get(scheme);
  return kind ? kind.open(location, options) : openDirectory(location, options);
}
