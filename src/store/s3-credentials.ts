/**
 * S3 credentials from the variables and files that every AWS tool reads (AWS CLI User Guide, "Configuration and
 * credential file settings"), or from a systemd credential; never from a URL. Keys in these places are read here; those
 * that a service or a program hands out are left to aws-provider.ts (doc/stores.md, "S3").
 */
import { join } from 'node:path';
import type { Clock } from '../base/clock.js';
import { readSecretFile } from './netrc.js';
import { StoreError } from './object-store.js';
import type { AwsCredentials } from './sigv4.js';

export interface AwsSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The home directory. */
  readonly home: string;
  /** A named profile, which then wins over the variables. */
  readonly profile?: string | undefined;
}

export interface AwsSettings {
  /** `undefined`: no keys stand anywhere, and AWS has to be asked for some. */
  readonly credentials: AwsCredentials | undefined;
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
}

/**
 * Gets credentials that requests are signed with. `isRefused`: the store does not take those that were got before.
 * Rejects with {@link StoreError}.
 */
export type LoadCredentials = (isRefused: boolean) => Promise<{ readonly credentials: AwsCredentials }>;

/** Credentials that end sooner are got anew before the store says so. */
const renewAheadMs = 5 * 60 * 1000;

/** The credentials in use: got once, kept until the store refuses them or their end is near. */
export class CredentialSource {
  readonly #load: LoadCredentials;
  readonly #clock: Clock;
  #loaded: Promise<AwsCredentials> | undefined;

  constructor(load: LoadCredentials, clock: Clock) {
    this.#load = load;
    this.#clock = clock;
  }

  /** Rejects with {@link StoreError}. */
  async current(): Promise<AwsCredentials> {
    const credentials = await (this.#loaded ?? this.#loadAnew(false));
    const leftMs = (credentials.expiresMs ?? Infinity) - this.#clock.now().sec * 1000;
    if (leftMs > renewAheadMs) return credentials;
    try {
      return await this.#loadAnew(false);
    } catch (error) {
      // The provider then has some minutes more to answer.
      if (leftMs > 0) return credentials;
      throw error;
    }
  }

  /**
   * Other credentials than the ones that were refused; `undefined` when there are none. Rejects with {@link
   * StoreError}.
   */
  async replacementOf(refused: AwsCredentials): Promise<AwsCredentials | undefined> {
    const isNew = ({ accessKeyId, sessionToken }: AwsCredentials): boolean =>
      accessKeyId !== refused.accessKeyId || sessionToken !== refused.sessionToken;
    // Of many requests that were refused the first one has got new ones already.
    const now = await this.#loaded?.catch(() => undefined);
    if (now && isNew(now)) return now;
    const renewed = await this.#loadAnew(true);
    return isNew(renewed) ? renewed : undefined;
  }

  #loadAnew(isRefused: boolean): Promise<AwsCredentials> {
    const loaded = this.#load(isRefused).then(({ credentials }) => credentials);
    this.#loaded = loaded;
    // What failed is tried again by the next request: someone may have written the file meanwhile.
    loaded.catch(() => {
      if (this.#loaded === loaded) this.#loaded = undefined;
    });
    return loaded;
  }
}

type Section = Readonly<Record<string, string>>;

/** Sections of an AWS configuration file by their names; lines that say nothing to us are left out, nested ones too. */
export function parseProfiles(text: string): ReadonlyMap<string, Section> {
  const sections = new Map<string, Record<string, string>>();
  let section: Record<string, string> | undefined;
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;]|$)/.test(line)) continue;
    const name = /^\s*\[\s*([^\]]+?)\s*\]/.exec(line)?.[1];
    if (name !== undefined) {
      section = sections.get(name) ?? {};
      sections.set(name, section);
      continue;
    }
    // An indented line belongs to a nested setting (`s3 =` and what follows).
    const [, setting, value = ''] = /^([A-Za-z_][\w-]*)\s*=\s*(.*?)\s*$/.exec(line) ?? [];
    if (setting !== undefined && section) section[setting.toLowerCase()] = value;
  }
  return sections;
}

async function readProfiles(path: string): Promise<ReadonlyMap<string, Section>> {
  return parseProfiles((await readSecretFile(path, false)) ?? '');
}

function credentialsOf(section: Section, where: string): AwsCredentials | undefined {
  const accessKeyId = section['aws_access_key_id'];
  const secretAccessKey = section['aws_secret_access_key'];
  if (!accessKeyId && !secretAccessKey) return undefined;
  if (!accessKeyId || !secretAccessKey) throw new StoreError('DENIED', `${where} holds one half of a key only`);
  return { accessKeyId, secretAccessKey, sessionToken: section['aws_session_token'] || undefined };
}

/** What a profile says when its credentials are not keys but come from a service or a program. */
const handedOutSettings = ['role_arn', 'credential_process', 'web_identity_token_file', 'sso_session', 'sso_start_url', 'login_session'];
const assumesRole = (section: Section): boolean => Boolean(section['role_arn'] && (section['source_profile'] || section['credential_source']));
/** Where a container or a cluster says how its role is asked for. */
const handedOutVariables = ['AWS_WEB_IDENTITY_TOKEN_FILE', 'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI', 'AWS_CONTAINER_CREDENTIALS_FULL_URI'];

/**
 * Reads them anew each time, since tools replace temporary credentials. `asked.isHandedOut`: keys are not looked for,
 * whatever stands there. Throws {@link StoreError} `DENIED` when there are none, and no way to get some.
 */
export async function loadAwsSettings(sources: AwsSources, asked: { readonly isHandedOut?: boolean } = {}): Promise<AwsSettings> {
  const { env, home } = sources;
  const profile = sources.profile ?? (env['AWS_PROFILE'] || 'default');
  const credentialsPath = env['AWS_SHARED_CREDENTIALS_FILE'] || join(home, '.aws', 'credentials');
  const configPath = env['AWS_CONFIG_FILE'] || join(home, '.aws', 'config');
  const systemdPath = env['CREDENTIALS_DIRECTORY'] ? join(env['CREDENTIALS_DIRECTORY'], 'aws-credentials') : undefined;

  const config = (await readProfiles(configPath)).get(profile === 'default' ? 'default' : `profile ${profile}`) ?? {};
  const fromEnvironment = (): AwsCredentials | undefined =>
    credentialsOf(
      {
        aws_access_key_id: env['AWS_ACCESS_KEY_ID'] ?? '',
        aws_secret_access_key: env['AWS_SECRET_ACCESS_KEY'] ?? '',
        aws_session_token: env['AWS_SESSION_TOKEN'] ?? '',
      },
      'the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)',
    );
  const isAsked = asked.isHandedOut === true;
  let credentials = sources.profile === undefined && !isAsked ? fromEnvironment() : undefined;
  if (!credentials && !isAsked && systemdPath !== undefined) {
    credentials = credentialsOf((await readProfiles(systemdPath)).get(profile) ?? {}, `profile ${profile} in ${systemdPath}`);
  }
  const shared = credentials ? {} : ((await readProfiles(credentialsPath)).get(profile) ?? {});
  const settings: Section = { ...config, ...shared };
  // As for every AWS tool: the keys of a profile that assumes a role are what the role is asked for with.
  if (!credentials && !isAsked && !assumesRole(settings)) {
    credentials = credentialsOf(shared, `profile ${profile} in ${credentialsPath}`) ?? credentialsOf(config, `profile ${profile} in ${configPath}`);
  }
  const isHandedOut =
    isAsked || handedOutSettings.some((name) => settings[name]) || (sources.profile === undefined && handedOutVariables.some((name) => env[name]));
  if (!credentials && !isHandedOut) {
    throw new StoreError(
      'DENIED',
      `there are no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them as [${profile}] into ${credentialsPath}; ` +
        `on an instance of AWS that has a role, write credentials=aws into the store's URL`,
    );
  }
  return {
    credentials,
    region: env['AWS_REGION'] || env['AWS_DEFAULT_REGION'] || config['region'] || undefined,
    endpoint: env['AWS_ENDPOINT_URL_S3'] || env['AWS_ENDPOINT_URL'] || config['endpoint_url'] || undefined,
  };
}
