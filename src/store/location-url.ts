/**
 * Parses the URLs that name remote stores, strictly. A URL is never repeated in a message, since it may hold a secret.
 */
import { fileURLToPath } from 'node:url';
import type { Clock } from '../base/clock.js';
import { CodedError } from '../base/errors.js';
import type { Random } from '../base/random.js';
import type { Bandwidth } from '../base/rate-limit.js';
import type { Disk } from '../disk/disk.js';

/** The text names no known store; the message is for the person who wrote it. */
export class StoreLocationError extends CodedError<'UNKNOWN_SCHEME' | 'MALFORMED'> {}

export interface LocationUrl {
  readonly url: URL;
  /** Only those that were allowed. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** What opening a remote store by its URL takes. */
export interface OpenRemoteOptions {
  /** Environment variables, for credentials and proxies. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The home directory, where credentials are looked for. */
  readonly home: string;
  /** For bodies that are files, and for files of keys and certificates. */
  readonly disk: Disk;
  readonly random: Random;
  readonly clock?: Clock | undefined;
  /** Limits the bodies of objects. Default: no limit. */
  readonly bandwidth?: Bandwidth | undefined;
}

/**
 * `example` shows how it is written. Passwords in URLs are refused: they end up in histories, process lists and logs.
 * Throws {@link StoreLocationError}.
 */
export function parseLocation(location: string, example: string, allowed: readonly string[], options: { readonly user?: boolean } = {}): LocationUrl {
  const wrong = (what: string): StoreLocationError => new StoreLocationError('MALFORMED', `${what} (write ${example})`);
  let url: URL;
  try {
    url = new URL(location);
  } catch {
    // The error of the parser repeats the text.
    throw wrong('this is no URL');
  }
  if (url.password !== '' || (url.username !== '' && options.user !== true)) {
    throw wrong('a URL holds no credentials: doc/stores.md says where they belong');
  }
  if (url.hostname === '') throw wrong('the URL names no host or bucket');
  if (url.hash !== '') throw wrong('a # in the URL must be written as %23');
  const parameters: Record<string, string> = {};
  for (const [name, value] of url.searchParams) {
    if (!allowed.includes(name)) throw wrong(`the URL has parameters that are not known here; known are ${allowed.join(', ')}`);
    if (Object.hasOwn(parameters, name)) throw wrong(`the URL has ${name} twice`);
    parameters[name] = value;
  }
  return { url, parameters };
}

/** The path that a file: URL names. Throws {@link StoreLocationError}. */
export function filePathOf(location: string): string {
  try {
    return fileURLToPath(location);
  } catch (error) {
    throw new StoreLocationError('MALFORMED', 'a file: store is written as file:///path, and one whose path is not UTF-8 as dir:/path', {
      cause: error,
    });
  }
}

/** The segments of a URL's path, decoded; empty ones and dots are refused. */
export function pathSegments(url: URL, example: string): string[] {
  const segments = url.pathname.split('/').slice(1);
  if (segments.at(-1) === '') segments.pop();
  return segments.map((segment) => {
    let decoded: string | undefined;
    try {
      decoded = decodeURIComponent(segment);
    } catch {
      decoded = undefined;
    }
    // oxlint-disable-next-line no-control-regex
    if (decoded === undefined || ['', '.', '..'].includes(decoded) || /[/\u0000-\u001f\u007f]/.test(decoded)) {
      throw new StoreLocationError('MALFORMED', `the path of the URL has a part that cannot be used (write ${example})`);
    }
    return decoded;
  });
}
