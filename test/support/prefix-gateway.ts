/**
 * A gateway below a path in front of another S3 server, like Supabase's storage and many reverse proxies. It forwards
 * requests for `/PREFIX/...` to `/...` in one of two ways: it checks the signature over the whole path, prefix
 * included, and signs the request again (`signs`), or it only removes the prefix (`strips`).
 */

import type { ServerResponse } from 'node:http';
import { request as sendRequest } from 'node:http';
import { sha256Hex } from '../../src/store/request-digest.js';
import type { AwsCredentials } from '../../src/store/sigv4.js';
import { signRequest } from '../../src/store/sigv4.js';
import { complain } from './scripted-bucket.js';
import type { ScriptedRequest } from './scripted-server.js';
import { ScriptedServer } from './scripted-server.js';

export interface PrefixGatewayOptions {
  /** Percent-encoded; begins with a slash and does not end in one. */
  readonly prefix: string;
  readonly way: 'signs' | 'strips';
  /** The origin of the server behind it: `http://host:port`. */
  readonly origin: string;
  readonly credentials: AwsCredentials;
}

export function startPrefixGateway(options: PrefixGatewayOptions): Promise<ScriptedServer> {
  return ScriptedServer.start((request, answer) => pass(request, answer, options));
}

function pass(request: ScriptedRequest, answer: ServerResponse, options: PrefixGatewayOptions): void {
  const { prefix, way, origin } = options;
  const [path = '', search = ''] = request.target.split('?');
  if (!path.startsWith(`${prefix}/`)) return complain(answer, 404, 'NotFound');
  if (way === 'signs' && !isSigned(request, path, search, options)) return complain(answer, 403, 'SignatureDoesNotMatch');
  const inner = path.slice(prefix.length);
  const { body } = request;
  const headers = way === 'signs' ? signAnew(request, inner, search, options) : plainHeaders(request, (name) => name !== 'host');
  // The server behind it sees the requested host name, as behind any reverse proxy that is set up for S3.
  const { hostname, port } = new URL(origin);
  const passed = sendRequest(
    {
      hostname,
      port,
      method: request.method,
      path: search === '' ? inner : `${inner}?${search}`,
      headers: { ...headers, host: request.headers.host ?? '' },
    },
    (inside) => {
      answer.writeHead(inside.statusCode ?? 500, inside.headers);
      inside.pipe(answer);
    },
  );
  passed.on('error', () => answer.destroy());
  passed.end(body);
}

function plainHeaders(request: ScriptedRequest, isKept: (name: string) => boolean): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const [name, value] of Object.entries(request.headers)) if (typeof value === 'string' && isKept(name)) headers[name] = value;
  return headers;
}

const queryOf = (search: string): [string, string][] => [...new URLSearchParams(search.replaceAll('+', '%2B'))];

function signedWith(request: ScriptedRequest, path: string, search: string, credentials: AwsCredentials): Record<string, string> {
  const names = (/SignedHeaders=([^,]+)/.exec(request.headers.authorization ?? '')?.[1] ?? '').split(';');
  const date = String(request.headers['x-amz-date'] ?? '');
  const timeSec = Date.parse(date.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z')) / 1000;
  const payloadHash = String(request.headers['x-amz-content-sha256'] ?? '');
  const headers = plainHeaders(request, (name) => names.includes(name) && name !== 'x-amz-date' && name !== 'x-amz-security-token');
  return signRequest(
    { method: request.method, path, query: queryOf(search), headers, payloadHash },
    { credentials, region: 'us-east-1', service: 's3', timeSec },
  );
}

function isSigned(request: ScriptedRequest, path: string, search: string, { credentials }: PrefixGatewayOptions): boolean {
  return signedWith(request, path, search, credentials)['authorization'] === request.headers.authorization;
}

function signAnew(request: ScriptedRequest, path: string, search: string, { credentials }: PrefixGatewayOptions): Record<string, string> {
  const kept = plainHeaders(request, (name) => ['content-type', 'content-md5', 'content-length', 'if-none-match', 'range', 'host'].includes(name));
  const payloadHash = sha256Hex(request.body);
  const signed = { ...kept, 'x-amz-content-sha256': payloadHash };
  return signRequest(
    { method: request.method, path, query: queryOf(search), headers: signed, payloadHash },
    { credentials, region: 'us-east-1', service: 's3', timeSec: Math.floor(Date.now() / 1000) },
  );
}
