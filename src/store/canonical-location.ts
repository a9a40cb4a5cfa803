/**
 * One spelling for each place of a remote store, so that what is remembered about it does not depend on how its URL was
 * written: case and default port of the host, slashes, percent-encoding, order of parameters, and parameters that
 * change how a place is reached but not which one it is. It makes no request.
 */

const defaultPorts: Readonly<Record<string, string>> = {
  'http:': '80',
  'https:': '443',
  'webdav+http:': '80',
  'webdav+https:': '443',
  'sftp:': '22',
};

/** The canonical spelling of a URL that names a store; `undefined` for what is no URL with a host. */
export function canonicalUrl(location: string): string | undefined {
  if (!/^[a-z][a-z0-9+.-]*:\/\//i.test(location) || !URL.canParse(location)) return undefined;
  const url = new URL(location);
  if (url.hostname === '' || url.protocol === 'file:') return undefined;
  const { protocol } = url;
  const isBucket = protocol === 's3:';
  const port = url.port === defaultPorts[protocol] || url.port === '' ? '' : `:${url.port}`;
  const user = url.username === '' ? '' : `${encodeURIComponent(decoded(url.username))}@`;
  // A bucket is no host: some servers tell capital letters in it from small ones.
  const host = isBucket ? url.hostname : canonicalHost(url.hostname);
  const path = url.pathname
    .split('/')
    .filter((segment) => segment !== '')
    .map((segment) => encodeURIComponent(decoded(segment)))
    .join('/');
  const server = isBucket ? ` ${serverOfBucket(url.searchParams)}` : '';
  return `${protocol}//${user}${host}${port}/${path}${server}`;
}

/** Amazon's endpoints all lead to the same buckets. */
const amazon = /^https?:\/\/s3[.-][a-z0-9.-]*amazonaws\.com(\.cn)?$/;

/** Which server a bucket is on: the endpoint, or what the profile of the user's configuration says. */
function serverOfBucket(parameters: URLSearchParams): string {
  const endpoint = parameters.get('endpoint');
  if (endpoint === null) return parameters.has('profile') ? `profile=${parameters.get('profile')}` : '';
  if (!URL.canParse(endpoint)) return endpoint;
  const url = new URL(endpoint);
  const origin = `${url.protocol}//${canonicalHost(url.hostname)}${url.port === '' ? '' : `:${url.port}`}`;
  return amazon.test(origin) ? '' : `${origin}${url.pathname.replace(/\/+$/, '')}`;
}

/** Schemes of our own are left as they were written by the parser of URLs. */
function canonicalHost(hostname: string): string {
  const name = decoded(hostname).toLowerCase().replace(/\.$/, '');
  const asWeb = `https://${name}`;
  return URL.canParse(asWeb) ? new URL(asWeb).hostname : name;
}

/** As it is where it is not percent-encoded UTF-8. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
