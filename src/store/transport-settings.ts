/**
 * The settings of a store's transport, the same for every kind that speaks HTTP (doc/stores.md, "Over the network"):
 * the authorities trusted for TLS, the credentials for a proxy, and the limits of bandwidth.
 */
import { describeError } from '../base/errors.js';
import { readNamedFile } from '../disk/whole-file.js';
import type { HttpTransportOptions } from './http-transport.js';
import { proxyFor } from './http-transport.js';
import type { OpenRemoteOptions } from './location-url.js';
import { StoreLocationError } from './location-url.js';
import type { NetrcSources } from './netrc.js';
import { loadHttpCredentials } from './netrc.js';
import { StoreError } from './object-store.js';

/** Parameters of a store's URL. */
export const transportParameterNames = ['ca', 'tls'] as const;

/** The only value of `tls=`; it says what it does. */
const unverified = 'insecure-no-verification';

/**
 * For the transport to `origin`. Throws {@link StoreLocationError}, and {@link StoreError} for certificates that cannot
 * be read.
 */
export async function readTransportSettings(
  parameters: Readonly<Record<string, string>>,
  origin: URL,
  { env, home, bandwidth }: OpenRemoteOptions,
  example: string,
): Promise<HttpTransportOptions> {
  const proxyAuthorization = await loadProxyAuthorization(origin, { env, home });
  return { env, bandwidth, proxyAuthorization, ...(await readTlsParameters(parameters, origin, example)) };
}

async function readTlsParameters(
  { ca, tls }: Readonly<Record<string, string>>,
  origin: URL,
  example: string,
): Promise<Pick<HttpTransportOptions, 'authorities' | 'isUnverified'>> {
  if (tls === undefined) return ca === undefined ? {} : { authorities: await readAuthorities(ca) };
  const wrong = (what: string): StoreLocationError => new StoreLocationError('MALFORMED', `${what} (write ${example})`);
  if (tls !== unverified) throw wrong(`tls= has one value, ${unverified}: anybody in between can then be the store, and gets its credentials`);
  if (ca !== undefined) throw wrong('ca= and tls= exclude each other');
  if (origin.protocol === 'http:') throw wrong('tls= is for https');
  return { isUnverified: true };
}

/** The text of a file of certificates. */
async function readAuthorities(path: string): Promise<string> {
  const file = await readNamedFile(path).catch((error: unknown) => {
    throw new StoreError('NOT_A_STORE', `the certificates in ${path} cannot be read: ${describeError(error)}`, { cause: error });
  });
  if (!file) throw new StoreError('NOT_A_STORE', `there is no file of certificates ${path}`);
  const text = file.bytes.toString('utf8');
  if (!text.includes('-----BEGIN CERTIFICATE-----')) throw new StoreError('NOT_A_STORE', `${path} holds no certificate in PEM form`);
  return text;
}

/** The value of `Proxy-Authorization` on the way to `origin`; `undefined`: there is no proxy, or nothing to tell it. */
async function loadProxyAuthorization(origin: URL, sources: NetrcSources): Promise<string | undefined> {
  const proxy = proxyFor(origin, sources.env);
  if (!proxy || proxy.username !== '') return undefined;
  try {
    const credentials = await loadHttpCredentials(proxy.host, undefined, sources);
    if (!credentials) return undefined;
    if (credentials.kind === 'bearer') return `Bearer ${credentials.token}`;
    return `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`;
  } catch (error) {
    // Most proxies ask for nothing: a file that cannot be used is no reason to give up.
    if (error instanceof StoreError) return undefined;
    throw error;
  }
}

/** The end of a store's description. */
export const tlsRemark = ({ isUnverified }: Pick<HttpTransportOptions, 'isUnverified'> = {}): string =>
  isUnverified === true ? ', whose certificate is NOT verified' : '';
