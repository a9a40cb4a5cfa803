/**
 * Opens the {@link S3Store} that an `s3:` URL names, together with the AWS variables and files (doc/stores.md, "S3").
 * No request is made: a drive mounts without a network.
 */
import type { Clock } from '../base/clock.js';
import { openAwsProvider } from './aws-provider.js';
import { type OpenRemoteOptions, parseLocation, pathSegments, StoreLocationError } from './location-url.js';
import { StoreError } from './object-store.js';
import type { AwsSources, LoadCredentials } from './s3-credentials.js';
import { loadAwsSettings } from './s3-credentials.js';
import { S3Store } from './s3-store.js';
import { readTransportSettings, transportParameterNames } from './transport-settings.js';

const s3Example = 's3://bucket/prefix?endpoint=https://host&region=REGION&style=path&profile=NAME';

interface OpenedSettings {
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
  readonly loadOf: (region: string) => Promise<LoadCredentials>;
}

/**
 * What the variables and files say, and where credentials come from: from there, or with `credentials=aws` from
 * wherever AWS hands some out.
 */
async function openSettings(sources: AwsSources, isHandedOut: boolean, clock: Clock | undefined): Promise<OpenedSettings> {
  const { profile } = sources;
  const { credentials, region, endpoint } = await loadAwsSettings(sources, { isHandedOut });
  const loadOf = async (signingRegion: string): Promise<LoadCredentials> => {
    if (!credentials) return openAwsProvider({ profile, region: region ?? signingRegion, clock });
    return async () => {
      const { credentials: keys } = await loadAwsSettings(sources);
      if (!keys) throw new StoreError('DENIED', 'the S3 credentials are not keys any more: mount again');
      return { credentials: keys };
    };
  };
  return { region, endpoint, loadOf };
}

/**
 * The store that an `s3:` URL names; no request is made: a drive mounts without a network. Throws {@link
 * StoreLocationError} and {@link StoreError}.
 */
export async function openS3Store(location: string, options: OpenRemoteOptions): Promise<S3Store> {
  const { env, home } = options;
  const { url, parameters } = parseLocation(location, s3Example, [
    'endpoint',
    'region',
    'style',
    'profile',
    'credentials',
    ...transportParameterNames,
  ]);
  const wrong = (what: string): StoreLocationError => new StoreLocationError('MALFORMED', `${what} (write ${s3Example})`);
  if (url.port !== '') throw wrong('the endpoint of an S3 store stands after endpoint=');
  if (!['aws', undefined].includes(parameters['credentials'])) throw wrong('credentials= takes aws: they are left out otherwise');
  const sources = { env, home, profile: parameters['profile'] };
  const settings = await openSettings(sources, parameters['credentials'] === 'aws', options.clock);
  const region = parameters['region'] ?? settings.region ?? 'us-east-1';
  if (!/^[a-z0-9-]{1,40}$/.test(region)) throw wrong('this is no region');
  const given = parameters['endpoint'] ?? settings.endpoint;
  let endpoint: URL;
  try {
    endpoint = new URL(given ?? `https://s3.${region}.amazonaws.com`);
  } catch {
    throw wrong('the endpoint is no URL');
  }
  const isPlain = endpoint.search === '' && endpoint.hash === '' && endpoint.username === '' && endpoint.password === '';
  if (!['http:', 'https:'].includes(endpoint.protocol) || !isPlain) {
    throw wrong('the endpoint is an address such as https://host:port, or one with a path: https://host/storage/v1/s3');
  }
  // As a path of the store's own: what could be read in two ways is refused.
  pathSegments(endpoint, s3Example);
  // Amazon's certificates cover one label before its name.
  const style = parameters['style'] ?? (given === undefined && !url.hostname.includes('.') ? 'virtual' : 'path');
  if (style !== 'path' && style !== 'virtual') throw wrong('the style is path or virtual');
  return new S3Store({
    bucket: url.hostname,
    prefix: pathSegments(url, s3Example).join('/'),
    endpoint,
    region,
    style,
    loadSettings: await settings.loadOf(region),
    disk: options.disk,
    ...(options.clock ? { clock: options.clock } : {}),
    transport: await readTransportSettings(parameters, endpoint, options, s3Example),
  });
}
