/**
 * One bucket and its signed requests: its address (path-style or virtual-hosted, below an endpoint that may have a
 * path), the credentials that sign, and the checksum that every body carries. It interprets only the answers after
 * which a request is signed again (doc/stores.md, "S3").
 */
import { assert } from '../base/assert.js';
import type { Clock } from '../base/clock.js';
import type { Disk } from '../disk/disk.js';
import { bodyPieces } from './file-body.js';
import type { ObjectRequest } from './http-objects.js';
import type { HttpAnswer, HttpTransportOptions } from './http-transport.js';
import { HttpTransport } from './http-transport.js';
import type { FileBody } from './object-store.js';
import { base64OfHex, sha256Hex, startMd5, startSha256 } from './request-digest.js';
import type { LoadCredentials } from './s3-credentials.js';
import { CredentialSource } from './s3-credentials.js';
import { complaintOf } from './s3-error.js';
import type { AwsCredentials } from './sigv4.js';
import { encodeQuery, encodeUnreserved, signRequest, unsignedPayload } from './sigv4.js';

export interface S3BucketOptions {
  readonly bucket: string;
  /** With a path where the service lies below one: `https://host/storage/v1/s3`. */
  readonly endpoint: URL;
  readonly region: string;
  /** Where the bucket's name stands: in the path, or in front of the endpoint's name. */
  readonly style: 'path' | 'virtual';
  readonly loadSettings: LoadCredentials;
  /** Reads file bodies. */
  readonly disk: Disk;
  readonly transport?: HttpTransportOptions;
}

export interface S3Request extends ObjectRequest {
  /** Below the bucket; `undefined` for the bucket itself. */
  readonly key?: string | undefined;
  readonly query?: readonly (readonly [string, string])[];
}

const pieceSize = 256 * 1024;
const emptyHash = sha256Hex('');
/** More than this, and a server refuses the signature. */
const skewWorthwhileMs = 30_000;

export class S3Bucket {
  /** For people: `S3 bucket NAME ... at PLACE`. */
  readonly place: string;
  readonly #options: S3BucketOptions;
  readonly #clock: Clock;
  readonly #transport: HttpTransport;
  readonly #credentials: CredentialSource;
  /** The endpoint's own path, encoded; empty, or it begins with a slash and does not end in one. */
  readonly #basePath: string;
  /** Below {@link #basePath}; encoded, ends in a slash. */
  readonly #bucketPath: string;
  /** How far the store's clock is ahead of ours; known once it refused a request because of the difference. */
  #skewMs = 0;
  /**
   * False below a proxy that takes the endpoint's path away: the server behind it checks the signature of what it gets.
   */
  #signsBasePath = true;

  /** Makes no request. */
  constructor(options: S3BucketOptions, clock: Clock) {
    const { bucket, endpoint, style } = options;
    this.#options = options;
    this.#clock = clock;
    this.#credentials = new CredentialSource(options.loadSettings, clock);
    const origin = style === 'virtual' ? new URL(`${endpoint.protocol}//${bucket}.${endpoint.host}`) : endpoint;
    this.#transport = new HttpTransport(origin, { clock, disk: options.disk, ...options.transport });
    this.#basePath = endpointPath(endpoint);
    this.#bucketPath = style === 'virtual' ? '/' : `/${encodeUnreserved(bucket)}/`;
    this.place = `${endpoint.host}${this.#basePath}`;
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }

  /**
   * One request, sent a second time when new credentials, the store's own time or a signature over another path are
   * likely to help. Throws {@link StoreError}.
   */
  async request(request: S3Request): Promise<HttpAnswer> {
    request.signal?.throwIfAborted();
    const credentials = await this.#credentials.current();
    const signsBasePath = this.#signsBasePath;
    const answer = await this.#send(request, credentials, signsBasePath);
    if (answer.status !== 403 && answer.status !== 400 && answer.status !== 401) return answer;
    const { code } = complaintOf(answer);
    // An answer to HEAD has no body to say why.
    const isMute = request.method === 'HEAD' && answer.status === 403;
    if (code === 'RequestTimeTooSkewed' || code === 'RequestExpired' || isMute) {
      const storeMs = Date.parse(answer.headers['date'] ?? '');
      const skewMs = storeMs - this.#clock.now().sec * 1000;
      if (Number.isFinite(skewMs) && Math.abs(skewMs - this.#skewMs) > skewWorthwhileMs) {
        // The time of a signature is no secret, and a wrong one harms nobody but the store that told it.
        this.#skewMs = skewMs;
        return this.#send(request, credentials, signsBasePath);
      }
    }
    if (this.#basePath !== '' && (code === 'SignatureDoesNotMatch' || isMute)) {
      const again = await this.#send(request, credentials, !signsBasePath);
      const isRefused = complaintOf(again).code === 'SignatureDoesNotMatch' || (isMute && again.status === 403);
      if (!isRefused) this.#signsBasePath = !signsBasePath;
      return isRefused ? answer : again;
    }
    if (['ExpiredToken', 'TokenRefreshRequired', 'InvalidAccessKeyId', 'InvalidToken'].includes(code)) {
      const renewed = await this.#credentials.replacementOf(credentials);
      if (renewed) return this.#send(request, renewed, this.#signsBasePath);
    }
    return answer;
  }

  async #send(s3Request: S3Request, credentials: AwsCredentials, signsBasePath: boolean): Promise<HttpAnswer> {
    const { region } = this.#options;
    const { key, query = [], ...request } = s3Request;
    const { body } = request;
    const path = this.#bucketPath + (key === undefined ? '' : key.split('/').map(encodeUnreserved).join('/'));
    const { payloadHash, checksum } = body === undefined ? { payloadHash: emptyHash, checksum: {} } : await this.#digests(body);
    const { host, ...headers } = signRequest(
      {
        method: request.method,
        path: signsBasePath ? this.#basePath + path : path,
        query,
        headers: { host: this.#transport.host, 'x-amz-content-sha256': payloadHash, ...checksum, ...request.headers },
        payloadHash,
      },
      { credentials, region, service: 's3', timeSec: Math.floor((this.#clock.now().sec * 1000 + this.#skewMs) / 1000) },
    );
    assert(host === this.#transport.host, 'the signature is for the host that gets the request');
    const target = this.#basePath + path;
    return this.#transport.request({
      ...request,
      target: query.length === 0 ? target : `${target}?${encodeQuery(query)}`,
      headers,
    });
  }

  /**
   * What is signed of the body, and the header by which the server finds that it did not arrive as it was sent. Buckets
   * with a default retention (Object Lock) take no body without such a header. All servers know `Content-MD5`, and many
   * no other: SHA-256 is for builds of Node.js that refuse MD5. Over TLS the signature leaves large bodies out, but not
   * their checksum.
   */
  async #digests(body: Uint8Array | FileBody): Promise<{ readonly payloadHash: string; readonly checksum: Readonly<Record<string, string>> }> {
    const md5 = startMd5();
    const isSigned = this.#options.endpoint.protocol !== 'https:' || isSmall(body);
    const sha256 = isSigned || !md5 ? startSha256() : undefined;
    for await (const piece of bodyPieces(this.#options.disk, body, pieceSize)) {
      md5?.update(piece);
      sha256?.update(piece);
    }
    const sha256Digest = sha256?.finish();
    return {
      payloadHash: isSigned && sha256Digest !== undefined ? sha256Digest : unsignedPayload,
      checksum: checksumHeader(md5?.finish(), sha256Digest),
    };
  }
}

const isSmall = (body: Uint8Array | FileBody): boolean => body instanceof Uint8Array && body.byteLength <= pieceSize;

/** From lower-case hex: MD5 where there is one. */
export function checksumHeader(md5: string | undefined, sha256: string | undefined): Readonly<Record<string, string>> {
  if (md5 !== undefined) return { 'content-md5': base64OfHex(md5) };
  return sha256 === undefined ? {} : { 'x-amz-checksum-sha256': base64OfHex(sha256) };
}

/**
 * The path of an endpoint as it is sent and signed: each segment percent-encoded once, without a slash at its end.
 * Throws URIError for what is no encoding.
 */
export function endpointPath(endpoint: URL): string {
  const segments = endpoint.pathname.replace(/^\/+|\/+$/g, '').split('/');
  return segments.map((segment) => (segment === '' ? '' : `/${encodeUnreserved(decodeURIComponent(segment))}`)).join('');
}
