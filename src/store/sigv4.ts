/**
 * AWS Signature Version 4 in the Authorization header, as S3 and compatible servers check it (Amazon S3 API Reference,
 * "Authenticating Requests"). It signs every header that it is given. It sends nothing, and the caller hashes the
 * payload.
 */
import { toHex } from '../base/bytes.js';
import { hmacSha256, sha256Hex } from './request-digest.js';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** Of temporary credentials. */
  readonly sessionToken?: string | undefined;
  /** When temporary credentials end, in milliseconds since 1970, where that is known. */
  readonly expiresMs?: number | undefined;
}

export interface SignableRequest {
  readonly method: string;
  /** Encoded, as it is sent: for S3 every byte but the unreserved ones and `/` is percent-encoded, once. */
  readonly path: string;
  /** Names and values before encoding. */
  readonly query: readonly (readonly [name: string, value: string])[];
  /** Lower-case names; `host` is among them. */
  readonly headers: Readonly<Record<string, string>>;
  /** Lower-case hex of the payload's SHA-256, or `UNSIGNED-PAYLOAD`. */
  readonly payloadHash: string;
}

export interface SigningScope {
  readonly credentials: AwsCredentials;
  readonly region: string;
  readonly service: string;
  /** Whole seconds since 1970. */
  readonly timeSec: number;
}

export const unsignedPayload = 'UNSIGNED-PAYLOAD';

/** Percent-encoding of everything but the unreserved characters of RFC 3986. */
export function encodeUnreserved(text: string): string {
  return encodeURIComponent(text).replaceAll(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** The query as it is sent and signed: encoded and in order. */
export function encodeQuery(query: SignableRequest['query']): string {
  return query
    .map(([name, value]) => [encodeUnreserved(name), encodeUnreserved(value)] as const)
    .toSorted(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : 1))
    .map(([name, value]) => `${name}=${value}`)
    .join('&');
}

/** `20130524T000000Z`. */
export function amzDate(timeSec: number): string {
  return `${new Date(timeSec * 1000).toISOString().slice(0, 19).replaceAll(/[-:]/g, '')}Z`;
}

/** The headers to send: those of the request, `x-amz-date`, the session token if there is one, and `authorization`. */
export function signRequest(request: SignableRequest, scope: SigningScope): Record<string, string> {
  const { credentials, region, service, timeSec } = scope;
  const date = amzDate(timeSec);
  const headers: Record<string, string> = { ...request.headers, 'x-amz-date': date };
  if (credentials.sessionToken !== undefined) headers['x-amz-security-token'] = credentials.sessionToken;
  const signed = Object.entries(headers).toSorted(([a], [b]) => (a < b ? -1 : 1));
  const signedHeaders = signed.map(([name]) => name).join(';');
  const canonical = [
    request.method,
    request.path,
    encodeQuery(request.query),
    ...signed.map(([name, value]) => `${name}:${value.trim().replaceAll(/ +/g, ' ')}`),
    '',
    signedHeaders,
    request.payloadHash,
  ].join('\n');
  const day = date.slice(0, 8);
  const scopeText = `${day}/${region}/${service}/aws4_request`;
  const toSign = ['AWS4-HMAC-SHA256', date, scopeText, sha256Hex(canonical)].join('\n');
  let key = hmacSha256(`AWS4${credentials.secretAccessKey}`, day);
  for (const part of [region, service, 'aws4_request']) key = hmacSha256(key, part);
  const signature = toHex(hmacSha256(key, toSign));
  headers['authorization'] =
    `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scopeText},SignedHeaders=${signedHeaders},Signature=${signature}`;
  return headers;
}
