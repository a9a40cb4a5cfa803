/**
 * Authentication to an HTTP server: basic (RFC 7617), digest (RFC 7616) and bearer (RFC 6750). Nothing is sent before
 * the server has asked for it, and a password crosses an unprotected connection to this machine only.
 */
import { toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import type { HttpCredentials } from './netrc.js';
import { authenticationHash } from './request-digest.js';

export interface Challenge {
  /** Lower case. */
  readonly scheme: string;
  /** Lower-case names. */
  readonly parameters: Readonly<Record<string, string>>;
}

/** The challenges of a `WWW-Authenticate` header (RFC 9110, 11.6.1). What does not fit the grammar is left out. */
export function parseChallenges(header: string): Challenge[] {
  const challenges: { scheme: string; parameters: Record<string, string> }[] = [];
  const pattern = /[\s,]*([\w!#$%&'*+.^`|~-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))|(?=\s|,|$))/gy;
  for (let match = pattern.exec(header); match; match = pattern.exec(header)) {
    const [, written = '', quoted, token] = match;
    const name = written.toLowerCase();
    if (quoted === undefined && token === undefined) challenges.push({ scheme: name, parameters: {} });
    else {
      const parameters = challenges.at(-1)?.parameters;
      if (parameters && !Object.hasOwn(parameters, name)) parameters[name] = quoted?.replaceAll(/\\(.)/g, '$1') ?? token ?? '';
    }
  }
  return challenges;
}

const algorithms = { 'sha-512-256': 'sha512-256', 'sha-256': 'sha256', md5: 'md5' } as const;
type Algorithm = keyof typeof algorithms;

const isAlgorithm = (name: string): name is Algorithm => Object.hasOwn(algorithms, name);

type Chosen = { readonly scheme: 'basic' | 'bearer' } | { readonly scheme: 'digest'; readonly challenge: Challenge; readonly algorithm: Algorithm };

export class HttpAuthentication {
  readonly #credentials: HttpCredentials;
  readonly #random: Random;
  /** Whether nobody else can listen: TLS, or this machine. */
  readonly #isProtected: boolean;
  #chosen: Chosen | undefined;
  /** Requests made with the nonce of the challenge. */
  #nonceCount = 0;

  constructor(credentials: HttpCredentials, isProtected: boolean, random: Random) {
    this.#credentials = credentials;
    this.#isProtected = isProtected;
    this.#random = random;
  }

  /** Chooses the best scheme that the server offers. False when none suits these credentials. */
  accept(header: string): boolean {
    const challenges = parseChallenges(header);
    this.#nonceCount = 0;
    this.#chosen = undefined;
    if (this.#credentials.kind === 'bearer') {
      if (this.#isProtected && challenges.some(({ scheme }) => scheme === 'bearer')) this.#chosen = { scheme: 'bearer' };
      return this.#chosen !== undefined;
    }
    const digests = challenges.flatMap((challenge) => {
      const algorithm = (challenge.parameters['algorithm'] ?? 'md5').toLowerCase().replace(/-sess$/, '');
      const isUsable = challenge.scheme === 'digest' && isAlgorithm(algorithm) && authenticationHash(algorithms[algorithm], '') !== undefined;
      return isUsable && challenge.parameters['nonce'] !== undefined ? [{ scheme: 'digest' as const, challenge, algorithm }] : [];
    });
    const strength = Object.keys(algorithms);
    this.#chosen = digests.toSorted((a, b) => strength.indexOf(a.algorithm) - strength.indexOf(b.algorithm))[0];
    if (!this.#chosen && this.#isProtected && challenges.some(({ scheme }) => scheme === 'basic')) this.#chosen = { scheme: 'basic' };
    return this.#chosen !== undefined;
  }

  /** The header for one request; `undefined` until the server has asked. */
  header(method: string, target: string): string | undefined {
    const chosen = this.#chosen;
    if (!chosen) return undefined;
    const credentials = this.#credentials;
    if (credentials.kind === 'bearer') return `Bearer ${credentials.token}`;
    if (chosen.scheme === 'basic') return `Basic ${Buffer.from(`${credentials.user}:${credentials.password}`).toString('base64')}`;
    return chosen.scheme === 'digest' ? this.#digest(chosen, credentials.user, credentials.password, method, target) : undefined;
  }

  #digest({ challenge, algorithm }: Chosen & { scheme: 'digest' }, user: string, password: string, method: string, target: string): string {
    const { realm = '', nonce = '', opaque, qop, algorithm: named } = challenge.parameters;
    const hash = (text: string): string => authenticationHash(algorithms[algorithm], text) ?? '';
    const count = (++this.#nonceCount).toString(16).padStart(8, '0');
    const clientNonce = toHex(this.#random.bytes(16));
    const plain = hash(`${user}:${realm}:${password}`);
    const first = named?.toLowerCase().endsWith('-sess') ? hash(`${plain}:${nonce}:${clientNonce}`) : plain;
    const second = hash(`${method}:${target}`);
    // The body stays out (`auth-int`): it would have to be hashed before it is sent, and is authenticated by its seal.
    const hasQop = (qop ?? '').split(',').some((word) => word.trim() === 'auth');
    const response = hasQop ? hash(`${first}:${nonce}:${count}:${clientNonce}:auth:${second}`) : hash(`${first}:${nonce}:${second}`);
    const quoted = (text: string): string => `"${text.replaceAll(/["\\]/g, '\\$&')}"`;
    const fields = [
      `username=${quoted(user)}`,
      `realm=${quoted(realm)}`,
      `nonce=${quoted(nonce)}`,
      `uri=${quoted(target)}`,
      `response="${response}"`,
    ];
    if (named !== undefined) fields.push(`algorithm=${named}`);
    if (opaque !== undefined) fields.push(`opaque=${quoted(opaque)}`);
    if (hasQop) fields.push('qop=auth', `nc=${count}`, `cnonce="${clientNonce}"`);
    return `Digest ${fields.join(', ')}`;
  }
}
