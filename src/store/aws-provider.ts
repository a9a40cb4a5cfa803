/**
 * S3 credentials that a service hands out and that expire: roles of instances and containers, web identity, assumed
 * roles, SSO, `credential_process`. Amazon's own package fetches and renews them; it is not part of Sealdrive and is
 * loaded only where it is needed (doc/stores.md, "S3"). The package reads `process.env` and the AWS files itself, and
 * connects to the addresses that these name.
 */

import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import { StoreError } from './object-store.js';
import type { LoadCredentials } from './s3-credentials.js';

const packageName = '@aws-sdk/credential-provider-node';
/** STS answers within a second, and a `credential_process` may have to ask somebody. */
const answerMs = 30_000;

interface HandedOut {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
  readonly expiration?: Date;
}

/**
 * What is used of the package. A call is cheap: it remembers what it got, and renews it in the background some minutes
 * before it ends.
 */
interface ProviderPackage {
  readonly defaultProvider: (init: {
    readonly profile?: string;
    readonly ignoreCache?: boolean;
    readonly clientConfig?: { readonly region: string };
  }) => (options?: { readonly forceRefresh?: boolean }) => Promise<HandedOut>;
}

export interface AwsProviderOptions {
  readonly profile?: string | undefined;
  /** Where STS is asked, unless the profile says. */
  readonly region: string;
  readonly clock?: Clock | undefined;
  /** Default: the package. */
  readonly load?: () => Promise<ProviderPackage>;
}

/** Makes no request. Throws {@link StoreError} `DENIED` when the package is not installed. */
export async function openAwsProvider(options: AwsProviderOptions): Promise<LoadCredentials> {
  const { profile, region, clock = systemClock, load = () => import('@aws-sdk/credential-provider-node') } = options;
  // The package announces which Node.js its later versions will need. A user who mounts a drive cannot change that.
  process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED ??= 'true';
  const { defaultProvider } = await load().catch((error: unknown) => {
    throw explainAbsence(error);
  });
  const provide = defaultProvider({ ...(profile === undefined ? {} : { profile }), ignoreCache: true, clientConfig: { region } });
  return async (isRefused) => {
    const { accessKeyId, secretAccessKey, sessionToken, expiration } = await inTime(provide({ forceRefresh: isRefused }), profile, clock);
    return { credentials: { accessKeyId, secretAccessKey, sessionToken, expiresMs: expiration?.getTime() } };
  };
}

function explainAbsence(error: unknown): StoreError {
  if (!(error instanceof Error && 'code' in error && error.code === 'ERR_MODULE_NOT_FOUND')) {
    return new StoreError('DENIED', `${packageName} cannot be loaded: ${describeError(error)}`, { cause: error });
  }
  return new StoreError(
    'DENIED',
    `these S3 credentials come from a role, SSO or a program, which takes a package that is not installed: run "npm install ${packageName}" where Sealdrive is installed ` +
      `(with -g if Sealdrive was), or write keys into ~/.aws/credentials`,
    { cause: error },
  );
}

async function inTime(work: Promise<HandedOut>, profile: string | undefined, clock: Clock): Promise<HandedOut> {
  const done = new AbortController();
  const late = clock.sleep(answerMs, done.signal).then(() => {
    throw new StoreError('UNAVAILABLE', 'getting S3 credentials from AWS takes too long');
  });
  late.catch(() => {});
  try {
    return await Promise.race([work, late]);
  } catch (error) {
    throw error instanceof StoreError ? error : explainRefusal(error, profile);
  } finally {
    done.abort();
  }
}

const passingCodes = new Set(['ECONNREFUSED', 'ECONNRESET', 'ENOTFOUND', 'EAI_AGAIN', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENETUNREACH', 'EPIPE']);

/**
 * What the package throws, as the store layer says it. Its words are cut: an answer may say anything, and the failure
 * of a program repeats its command.
 */
function explainRefusal(error: unknown, profile: string | undefined): StoreError {
  let isPassing = false;
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const { name, code, $metadata } = at as Error & { readonly code?: unknown; readonly $metadata?: { readonly httpStatusCode?: number } };
    const status = $metadata?.httpStatusCode ?? 0;
    isPassing ||= name === 'TimeoutError' || passingCodes.has(String(code)) || status === 429 || status >= 500;
  }
  const name = error instanceof Error ? error.name.replaceAll(/[^\w.]+/g, '').slice(0, 60) : 'unknown';
  const said = error instanceof Error ? error.message.replace(/^Command failed[^]*/, 'the credential_process of the profile failed') : '';
  const whose = profile === undefined ? '' : ` for profile ${profile}`;
  const words = said
    .replaceAll(/[^\x20-\x7e]+/g, ' ')
    .trim()
    .slice(0, 200);
  return new StoreError(isPassing ? 'UNAVAILABLE' : 'DENIED', `AWS hands out no S3 credentials${whose} (${name})${words === '' ? '' : `: ${words}`}`);
}
