/**
 * Where S3 credentials come from: the variables and files that every AWS tool reads (AWS CLI User Guide, "Configuration and credential file
 * settings"), or a file of systemd's credentials. Never a URL. What needs a program or a service of its own (instance and container
 * roles, SSO, `credential_process`) is not supported: tools that write temporary credentials into the files work (doc/stores.md, "S3").
 */
import { join } from 'node:path';
import { describeError } from '../base/log.js';
import { readFile } from '../disk/file-promises.js';
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
  readonly credentials: AwsCredentials;
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
}

type Section = Readonly<Record<string, string>>;

/** Sections of an AWS configuration file by their names; lines that say nothing to us are left out, nested ones too. */
export function parseProfiles(text: string): ReadonlyMap<string, Section> {
  const sections = new Map<string, Record<string, string>>();
  let section: Record<string, string> | undefined;
  for (const line of text.split(/\r?\n/)) {
    if (/^\s*([#;]|$)/.test(line)) continue;
    const header = /^\s*\[\s*([^\]]+?)\s*\]/.exec(line);
    if (header) {
      section = sections.get(header[1]) ?? {};
      sections.set(header[1], section);
      continue;
    }
    // An indented line belongs to a nested setting (`s3 =` and what follows).
    const setting = /^([A-Za-z_][\w-]*)\s*=\s*(.*?)\s*$/.exec(line);
    if (setting && section) section[setting[1].toLowerCase()] = setting[2];
  }
  return sections;
}

async function readProfiles(path: string): Promise<ReadonlyMap<string, Section>> {
  try {
    return parseProfiles(await readFile(path, 'utf8'));
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return new Map();
    throw new StoreError('DENIED', `the credentials in ${path} cannot be read: ${describeError(error)}`, { cause: error });
  }
}

function credentialsOf(section: Section, where: string): AwsCredentials | undefined {
  const accessKeyId = section['aws_access_key_id'];
  const secretAccessKey = section['aws_secret_access_key'];
  if (!accessKeyId && !secretAccessKey) return undefined;
  if (!accessKeyId || !secretAccessKey) throw new StoreError('DENIED', `${where} holds one half of a key only`);
  return { accessKeyId, secretAccessKey, sessionToken: section['aws_session_token'] || undefined };
}

/** Reads them anew each time, since tools replace temporary credentials. Throws {@link StoreError} `DENIED` when there are none. */
export async function loadAwsSettings(sources: AwsSources): Promise<AwsSettings> {
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
  let credentials = sources.profile === undefined ? fromEnvironment() : undefined;
  for (const path of systemdPath === undefined ? [credentialsPath] : [systemdPath, credentialsPath]) {
    if (credentials) break;
    const section = (await readProfiles(path)).get(profile);
    credentials = section && credentialsOf(section, `profile ${profile} in ${path}`);
  }
  credentials ??= credentialsOf(config, `profile ${profile} in ${configPath}`);
  if (!credentials) {
    throw new StoreError(
      'DENIED',
      `there are no S3 credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them as [${profile}] into ${credentialsPath}`,
    );
  }
  return {
    credentials,
    region: env['AWS_REGION'] || env['AWS_DEFAULT_REGION'] || config['region'] || undefined,
    endpoint: env['AWS_ENDPOINT_URL_S3'] || env['AWS_ENDPOINT_URL'] || config['endpoint_url'] || undefined,
  };
}
