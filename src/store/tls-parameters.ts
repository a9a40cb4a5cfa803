/** How a store's URL says whom to trust over TLS (doc/stores.md, "Over the network"): the same for every kind that speaks HTTP. */

import type { HttpTransportOptions } from './http-transport.js';
import { readAuthorities } from './http-transport.js';
import { StoreLocationError } from './location-url.js';

export const tlsParameterNames = ['ca', 'tls'] as const;

/** The only value of `tls=`: whoever writes it is to see what it does. */
const unverified = 'insecure-no-verification';

/** Throws {@link StoreLocationError}, and StoreError for certificates that cannot be read. */
export async function readTlsParameters(
  parameters: Readonly<Record<string, string>>,
  url: URL,
  example: string,
): Promise<Pick<HttpTransportOptions, 'authorities' | 'isUnverified'>> {
  const { ca, tls } = parameters;
  if (tls === undefined) return ca === undefined ? {} : { authorities: await readAuthorities(ca) };
  const wrong = (what: string): StoreLocationError => new StoreLocationError('MALFORMED', `${what} (write ${example})`);
  if (tls !== unverified) throw wrong(`tls= has one value, ${unverified}: anybody in between can then be the store, and gets its credentials`);
  if (ca !== undefined) throw wrong('ca= and tls= exclude each other');
  if (url.protocol === 'http:') throw wrong('tls= is for https');
  return { isUnverified: true };
}

/** What the description of a store ends in. */
export const tlsRemark = ({ isUnverified }: Pick<HttpTransportOptions, 'isUnverified'> = {}): string =>
  isUnverified === true ? ', whose certificate is NOT verified' : '';
