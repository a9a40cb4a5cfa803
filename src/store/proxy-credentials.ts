/** What a proxy in between is told who we are with, from a netrc file: for openers of stores (doc/stores.md, "Over the network"). */
import { proxyFor } from './http-transport.js';
import type { NetrcSources } from './netrc.js';
import { loadHttpCredentials } from './netrc.js';
import { StoreError } from './object-store.js';

/** The value of `Proxy-Authorization` on the way to `origin`; `undefined`: there is no proxy, or nothing to tell it. Throws {@link StoreError}. */
export async function loadProxyAuthorization(origin: URL, sources: NetrcSources): Promise<string | undefined> {
  const proxy = proxyFor(origin, sources.env);
  if (!proxy || proxy.username !== '') return undefined;
  try {
    const credentials = await loadHttpCredentials(proxy.host, undefined, sources);
    if (!credentials) return undefined;
    if (credentials.kind === 'bearer') return `Bearer ${credentials.token}`;
    return `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`;
  } catch (error) {
    // Most proxies ask for nothing: a file that cannot be used is no reason to stay at home.
    if (error instanceof StoreError) return undefined;
    throw error;
  }
}
