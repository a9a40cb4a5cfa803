/**
 * Which SFTP store an `sftp:` URL names, and how to log in there: with the keys, agent, passwords and known hosts that
 * `ssh` would use, as far as they need nobody to answer questions (doc/stores.md, "SFTP").
 */
import { join } from 'node:path';
import { systemClock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import { readNamedFile } from '../disk/whole-file.js';
import { knownKeysOf } from './known-hosts.js';
import { type OpenRemoteOptions, parseLocation, pathSegments, StoreLocationError } from './location-url.js';
import { loadHttpCredentials } from './netrc.js';
import { StoreError } from './object-store.js';
import { isPlainKey } from './sftp-connection.js';
import { SftpStore } from './sftp-store.js';

const example = 'sftp://user@host/path?key=FILE&known_hosts=FILE';
const usualKeys = ['id_ed25519', 'id_ecdsa', 'id_rsa'];

/**
 * The store that an `sftp:` URL names; no connection is made. Throws {@link StoreLocationError} and {@link StoreError}.
 */
export async function openSftpStore(location: string, options: OpenRemoteOptions): Promise<SftpStore> {
  const { url, parameters } = parseLocation(location, example, ['key', 'known_hosts'], { user: true });
  const user = decodeURIComponent(url.username);
  if (user === '') throw new StoreLocationError('MALFORMED', `the URL names no user (write ${example})`);
  const segments = pathSegments(url, example);
  const path = segments[0] === '~' ? ['.', ...segments.slice(1)].join('/') : `/${segments.join('/')}`;
  if (segments.length === 0 || path === '.') throw new StoreLocationError('MALFORMED', `a store needs a directory of its own (write ${example})`);
  const { env, home } = options;
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const port = url.port === '' ? 22 : Number(url.port);
  return new SftpStore({
    path,
    where: `${user}@${url.host}`,
    disk: options.disk,
    random: options.random,
    bandwidth: options.bandwidth,
    async loadTarget() {
      const knownHosts = parameters['known_hosts'];
      const places = knownHosts === undefined ? [join(home, '.ssh', 'known_hosts'), '/etc/ssh/ssh_known_hosts'] : [knownHosts];
      const texts = await Promise.all(places.map((place) => readOptional(place)));
      const guarded = env['CREDENTIALS_DIRECTORY'] ? [join(env['CREDENTIALS_DIRECTORY'], 'ssh-key')] : [];
      const keyFiles = parameters['key'] === undefined ? [...guarded, ...usualKeys.map((name) => join(home, '.ssh', name))] : [parameters['key']];
      const keys = await Promise.all(keyFiles.map((place) => readOptional(place)));
      if (parameters['key'] !== undefined && keys[0] === undefined) throw new StoreError('DENIED', `there is no key file ${parameters['key']}`);
      const privateKeys = keys.filter((key) => key !== undefined).filter((key) => isPlainKey(key));
      const credentials = await loadHttpCredentials(url.host, user, { env, home });
      return {
        host,
        port,
        user,
        knownKeys: texts.flatMap((text) => (text === undefined ? [] : knownKeysOf(text.toString('utf8'), host, port))),
        privateKeys,
        // A key that was named is the only one to be offered, unless it can be used through an agent only.
        agent: parameters['key'] === undefined || privateKeys.length === 0 ? env['SSH_AUTH_SOCK'] || undefined : undefined,
        password: credentials?.kind === 'password' ? credentials.password : undefined,
        clock: options.clock ?? systemClock,
        connectMs: 20_000,
        idleMs: 30_000,
      };
    },
  });
}

/** `undefined` when there is no such file. */
async function readOptional(path: string): Promise<Buffer | undefined> {
  const file = await readNamedFile(path).catch((error: unknown) => {
    throw new StoreError('DENIED', `${path} cannot be read: ${describeError(error)}`, { cause: error });
  });
  return file?.bytes;
}
