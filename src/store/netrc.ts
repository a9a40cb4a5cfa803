/**
 * Credentials of HTTP stores from files in the form of netrc (the GNU inetutils manual, "The .netrc file"), which curl
 * and others read, with one more word for tokens: `machine HOST[:PORT] login NAME password SECRET` or `machine
 * HOST[:PORT] bearer TOKEN`. They never come from a URL.
 */
import { isAbsolute, join } from 'node:path';
import { describeError } from '../base/errors.js';
import { readNamedFile } from '../disk/whole-file.js';
import { StoreError } from './object-store.js';

export type HttpCredentials =
  | { readonly kind: 'password'; readonly user: string; readonly password: string }
  | { readonly kind: 'bearer'; readonly token: string };

export interface NetrcSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly home: string;
}

interface Entry {
  machine: string | undefined;
  login?: string;
  password?: string;
  bearer?: string;
}

/** Words of a netrc file: quoted ones may hold spaces, `#` at the start of a word begins a comment. */
function words(text: string): string[] {
  const found: string[] = [];
  for (const match of text.matchAll(/#[^\n]*|"((?:[^"\\]|\\.)*)"|(\S+)/g)) {
    if (match[1] !== undefined) found.push(match[1].replaceAll(/\\(.)/g, '$1'));
    else if (match[2] !== undefined) found.push(match[2]);
  }
  return found;
}

/** The entries of a netrc file in their order; macros are skipped. */
export function parseNetrc(text: string): Entry[] {
  const entries: Entry[] = [];
  const list = words(text.replaceAll(/^macdef[^\n]*\n(?:[^\n]+\n)*/gm, ''));
  for (let at = 0; at < list.length; at++) {
    const word = list[at];
    if (word === 'default') entries.push({ machine: undefined });
    else if (word === 'machine') entries.push({ machine: list[++at] ?? '' });
    else {
      const entry = entries.at(-1);
      const value = list[++at];
      if (entry && value !== undefined && (word === 'login' || word === 'password' || word === 'bearer')) entry[word] = value;
    }
  }
  return entries;
}

/**
 * Those for `host` (a URL's host, with the port where it is not the usual one); `user` chooses among several.
 * `undefined`: there are none. Throws {@link StoreError} `DENIED` for a file that others can read or that cannot be
 * read.
 */
export async function loadHttpCredentials(host: string, user: string | undefined, sources: NetrcSources): Promise<HttpCredentials | undefined> {
  const { env, home } = sources;
  const own = join(isAbsolute(env['XDG_CONFIG_HOME'] ?? '') ? (env['XDG_CONFIG_HOME'] ?? '') : join(home, '.config'), 'sealdrive', 'netrc');
  const files = [env['NETRC'] || join(home, '.netrc')];
  files.unshift(own);
  // The service manager restricts who can read these.
  const guarded = env['CREDENTIALS_DIRECTORY'] ? join(env['CREDENTIALS_DIRECTORY'], 'netrc') : undefined;
  if (guarded !== undefined) files.unshift(guarded);
  const name = host.replace(/:\d+$/, '');
  for (const path of files) {
    const text = await readSecretFile(path, path !== guarded);
    if (text === undefined) continue;
    for (const entry of parseNetrc(text)) {
      if (entry.machine !== undefined && entry.machine !== host && entry.machine !== name) continue;
      if (user !== undefined && entry.login !== user) continue;
      if (entry.bearer !== undefined) return { kind: 'bearer', token: entry.bearer };
      if (entry.login !== undefined && entry.password !== undefined) return { kind: 'password', user: entry.login, password: entry.password };
    }
  }
  return undefined;
}

/**
 * `undefined` when there is no such file. With `isPrivate` one that others can read is refused. Throws {@link
 * StoreError} `DENIED`.
 */
export async function readSecretFile(path: string, isPrivate: boolean): Promise<string | undefined> {
  const file = await readNamedFile(path).catch((error: unknown) => {
    throw new StoreError('DENIED', `the credentials in ${path} cannot be read: ${describeError(error)}`, { cause: error });
  });
  if (isPrivate && file && (file.mode & 0o077) !== 0) {
    throw new StoreError('DENIED', `other users can read the credentials in ${path}: chmod 600 it`);
  }
  return file?.bytes.toString('utf8');
}
