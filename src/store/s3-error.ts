/**
 * The one table from S3's error codes and statuses to {@link StoreError} (Amazon S3 API Reference, "Error responses").
 */
import type { Clock } from '../base/clock.js';
import { unavailableError } from './http-objects.js';
import type { HttpAnswer } from './http-transport.js';
import type { StoreErrorCode } from './object-store.js';
import { StoreError } from './object-store.js';
import { childText, isNode, tryParseXml } from './xml-answer.js';

/** The code and message of an error answer, cut to what fits in a line; a server may write anything there. */
export interface S3Complaint {
  readonly code: string;
  readonly message: string;
  readonly region: string | undefined;
}

const plain = (text: string | undefined, lengthMax: number): string => (text ?? '').replaceAll(/[^\x20-\x7e]+/g, ' ').slice(0, lengthMax);

export function complaintOf(answer: HttpAnswer): S3Complaint {
  const root = tryParseXml(answer.body)?.['Error'];
  const error = isNode(root) ? root : {};
  const code = childText(error, 'Code') ?? '';
  return {
    code: /^[A-Za-z0-9.]{1,64}$/.test(code) ? code : '',
    message: plain(childText(error, 'Message'), 200),
    region: plain(childText(error, 'Region') ?? answer.headers['x-amz-bucket-region'], 40) || undefined,
  };
}

/** Those that may pass by themselves whatever their status is. */
const passing = new Set([
  'SlowDown',
  'RequestTimeout',
  'InternalError',
  'ServiceUnavailable',
  'OperationAborted',
  'ConditionalRequestConflict',
  'RequestLimitExceeded',
  'Throttling',
  'ThrottlingException',
  'ThrottledException',
  'TooManyRequests',
  'TooManyRequestsException',
  'RequestThrottled',
  'RequestThrottledException',
  'BandwidthLimitExceeded',
  'PriorRequestNotComplete',
  'KMS.ThrottlingException',
  'KMS.InternalException',
  'KMS.KMSInternalException',
  'KMS.DependencyTimeoutException',
]);

/**
 * The store says that it did not get what was sent: the way there has damaged or shortened it, and the next attempt may
 * fare better.
 */
const damaged = new Set(['XAmzContentSHA256Mismatch', 'XAmzContentChecksumMismatch', 'BadDigest', 'IncompleteBody']);

const noKey = 'these credentials do not permit it';
const badToken = 'the session token is not valid: get new credentials';
const oldToken = 'the session token has expired: get new credentials';
const wrongClock = "this machine's clock differs too much from the store's: set it";
const locked = 'the store is locked for everybody: ask whoever runs it';
const account = 'there is a problem with the account: ask whoever runs the store';
const archived =
  'the object was moved to an archive: restore it there (RestoreObject, "aws s3api restore-object"), and end the lifecycle rule that archives what lies here';
const keyRefused = 'the key that the store encrypts this object with cannot be used: enable it in the key service (KMS), or permit its use';
const retained = 'a retention (Object Lock) keeps it from being removed until it ends';

/** What does not pass by itself, so that nobody waits for it: what somebody has to do is said. */
const known: Readonly<Record<string, readonly [code: StoreErrorCode, reason: string]>> = {
  InvalidAccessKeyId: ['DENIED', 'the store does not know this access key'],
  SignatureDoesNotMatch: ['DENIED', 'the secret key is not the one of this access key'],
  ExpiredToken: ['DENIED', oldToken],
  ExpiredTokenException: ['DENIED', oldToken],
  TokenRefreshRequired: ['DENIED', oldToken],
  InvalidToken: ['DENIED', badToken],
  InvalidTokenId: ['DENIED', badToken],
  InvalidClientTokenId: ['DENIED', badToken],
  RequestTimeTooSkewed: ['DENIED', wrongClock],
  RequestExpired: ['DENIED', wrongClock],
  AccessDenied: ['DENIED', noKey],
  AccessDeniedException: ['DENIED', noKey],
  AllAccessDisabled: ['DENIED', locked],
  AccountProblem: ['DENIED', account],
  InvalidPayer: ['DENIED', account],
  NotSignedUp: ['DENIED', account],
  OptInRequired: ['DENIED', account],
  UnauthorizedAccess: ['DENIED', account],
  UserSuspended: ['DENIED', account],
  InvalidSecurity: ['DENIED', noKey],
  CredentialsNotSupported: ['DENIED', noKey],
  MissingAuthenticationToken: ['DENIED', noKey],
  ObjectLocked: ['DENIED', retained],
  ObjectUnderRetention: ['DENIED', retained],
  FileImmutable: ['DENIED', retained],
  QuotaExceeded: ['FULL', 'the quota is used up'],
  InsufficientStorage: ['FULL', 'there is no room left'],
  XMinioStorageFull: ['FULL', 'there is no room left'],
  EntityTooLarge: ['PROTOCOL', 'the store takes no objects of this size'],
  NoSuchBucket: ['NOT_A_STORE', 'there is no such bucket: make it first, or check its name'],
  InvalidBucketName: ['NOT_A_STORE', 'this is no name for a bucket'],
  InvalidObjectState: ['REFUSED', archived],
  ObjectNotInActiveTierError: ['REFUSED', archived],
  KMSDisabled: ['REFUSED', keyRefused],
  KMSNotConfigured: ['REFUSED', keyRefused],
};

function knownEntry(code: string): readonly [code: StoreErrorCode, reason: string] | undefined {
  if (Object.hasOwn(known, code)) return known[code];
  // `KMS.DisabledException` and its kin: a key that is disabled, waits for its deletion, is gone, or is not ours.
  return code.startsWith('KMS.') ? ['REFUSED', keyRefused] : undefined;
}

export function s3Error(answer: HttpAnswer, doing: string, clock: Clock): StoreError {
  const { status } = answer;
  const complaint = complaintOf(answer);
  const entry = knownEntry(complaint.code);
  const details = complaint.code === '' ? `status ${status}` : `${complaint.code}, status ${status}`;
  if (passing.has(complaint.code) || status === 429 || (status >= 500 && status !== 501 && status !== 507 && entry === undefined)) {
    return unavailableError(answer, doing, clock, details);
  }
  if (damaged.has(complaint.code)) return new StoreError('UNAVAILABLE', `${doing}: it did not arrive as it was sent (${details})`);
  if ((status >= 300 && status < 400) || complaint.code === 'AuthorizationHeaderMalformed') {
    const advice =
      complaint.region === undefined ? 'check the endpoint and the region' : `the bucket lies in another region: write region=${complaint.region}`;
    return new StoreError('NOT_A_STORE', `${doing}: the store redirects to another address (${details}); ${advice}`);
  }
  if (entry) return new StoreError(entry[0], `${doing}: ${entry[1]} (${details})`);
  if (status === 401 || status === 403) return new StoreError('DENIED', `${doing}: the store refuses (${details})`);
  if (status === 407) return new StoreError('DENIED', `${doing}: the proxy wants credentials`);
  if (status === 507) return new StoreError('FULL', `${doing}: there is no room left (${details})`);
  const message = complaint.message === '' ? '' : `: ${complaint.message}`;
  return new StoreError('PROTOCOL', `${doing}: the store answers ${details}${message}`);
}
