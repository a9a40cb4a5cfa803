/**
 * Requests below one WebDAV collection (RFC 4918): it logs in when the server asks for it, reads lists of members as
 * they arrive, and explains refusals (doc/stores.md, "WebDAV"). It knows nothing of objects; see webdav-store.ts.
 */
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { Disk } from '../disk/disk.js';
import { HttpAuthentication } from './http-authentication.js';
import { type ObjectRequest, statusError, unavailableError } from './http-objects.js';
import type { HttpAnswer, HttpRequest, HttpTransportOptions } from './http-transport.js';
import { HttpTransport } from './http-transport.js';
import { ListingBudget } from './listing-budget.js';
import type { HttpCredentials } from './netrc.js';
import { StoreError } from './object-store.js';
import { encodeUnreserved } from './sigv4.js';
import { tlsRemark } from './transport-settings.js';
import type { XmlNode } from './xml-answer.js';
import { childrenOf, childText, XmlReader } from './xml-answer.js';

export interface WebdavCollectionOptions {
  /** `http:` or `https:`, with nothing but host and port. */
  readonly origin: URL;
  /** The path of the collection, before encoding. */
  readonly segments: readonly string[];
  /** Called when the server asks for credentials, and again when it rejects them. */
  readonly loadCredentials: () => Promise<HttpCredentials | undefined>;
  readonly disk: Disk;
  readonly random: Random;
  readonly clock?: Clock;
  readonly transport?: HttpTransportOptions;
}

/** Size of the answer about one collection, which is read as it arrives. A million members take less. */
const listAnswerMax = 2 * 1024 * 1024 * 1024;
const propfind =
  '<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop><D:resourcetype/><D:getcontentlength/></D:prop></D:propfind>';
/** Asks for times instead of sizes. */
export const timedPropfind = propfind.replace('<D:getcontentlength/>', '<D:getlastmodified/>');

interface DavRequest extends ObjectRequest {
  /** Path below the collection; empty for the collection itself. */
  readonly path: string;
}

interface Member {
  readonly name: string;
  readonly isCollection: boolean;
  readonly size: number | undefined;
  /** Milliseconds since 1970 by the clock of the server; only with {@link timedPropfind}. */
  readonly modifiedMs: number | undefined;
}

export class WebdavCollection {
  readonly description: string;
  readonly clock: Clock;
  /** Encoded path of the collection; begins and ends in a slash. */
  readonly root: string;
  readonly #options: WebdavCollectionOptions;
  readonly #transport: HttpTransport;
  readonly #isProtected: boolean;
  #authentication: HttpAuthentication | undefined;

  /** Makes no request. */
  constructor(options: WebdavCollectionOptions) {
    const { origin, segments } = options;
    this.#options = options;
    this.clock = options.clock ?? systemClock;
    this.#transport = new HttpTransport(origin, { clock: this.clock, disk: options.disk, ...options.transport });
    this.root = `/${segments.map((segment) => `${encodeUnreserved(segment)}/`).join('')}`;
    this.#isProtected = origin.protocol === 'https:' || /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(origin.hostname);
    this.description = `WebDAV collection /${segments.join('/')} at ${origin.host}${tlsRemark(options.transport)}`;
  }

  /** Sends a request, and sends it again with credentials when the server asks for them. */
  async request(request: DavRequest): Promise<HttpAnswer> {
    const answer = await this.#send(request);
    if (answer.status !== 401) return answer;
    const credentials = await this.#options.loadCredentials();
    if (!credentials) return answer;
    const authentication = new HttpAuthentication(credentials, this.#isProtected, this.#options.random);
    if (!authentication.accept(answer.headers['www-authenticate'] ?? '')) {
      throw new StoreError('DENIED', `${request.doing}: the server offers no way to log in that is safe here: it takes https, digest or a token`);
    }
    this.#authentication = authentication;
    return this.#send(request);
  }

  #send({ path, ...request }: DavRequest): Promise<HttpAnswer> {
    // Keys need no encoding, and the root is already encoded.
    const target = resolveTarget(this.root, path);
    const authorization = this.#authentication?.header(request.method, target);
    const headers = { ...request.headers, ...(authorization === undefined ? {} : { authorization }) };
    return this.#transport.request({ ...request, target, headers });
  }

  /** The error that a refusing answer stands for. */
  error(answer: HttpAnswer, doing: string): StoreError {
    const { status } = answer;
    const details = `status ${status}`;
    if (status === 401)
      return new StoreError('DENIED', `${doing}: the server wants other credentials (${details}); doc/stores.md says where they are looked for`);
    if (status === 403) return new StoreError('DENIED', `${doing}: these credentials do not permit it (${details})`);
    if (status === 404) return new StoreError('NOT_A_STORE', `${doing}: there is no ${this.description}`);
    if (status === 405) return new StoreError('NOT_A_STORE', `${doing}: there is no WebDAV at this address (${details})`);
    if (status >= 300 && status < 400) {
      return new StoreError('NOT_A_STORE', `${doing}: the server redirects to another address (${details}): write that one`);
    }
    if ([207, 409, 412, 423].includes(status)) return unavailableError(answer, doing, this.clock);
    return statusError(answer, doing, this.clock);
  }

  /** Whether the collection itself exists. */
  async exists(doing: string, signal: AbortSignal): Promise<boolean> {
    const answer = await this.#propfind('', '0', doing, signal);
    if (answer.status !== 207 && answer.status !== 404) throw this.error(answer, doing);
    return answer.status === 207;
  }

  /** {@link eachMember} for collections with few members; `undefined` when there is no such collection. */
  async allMembers(path: string, doing: string, query?: string): Promise<Member[] | undefined> {
    const budget = new ListingBudget(doing, this.clock);
    const members: Member[] = [];
    try {
      return (await this.eachMember(path, budget, (member) => void members.push(member), query)) ? members : undefined;
    } finally {
      budget.end();
    }
  }

  /**
   * Passes each direct member of the collection at `path` (which ends in a slash or is empty) to `take`. False when
   * there is no such collection.
   */
  async eachMember(path: string, budget: ListingBudget, take: (member: Member) => void, query?: string): Promise<boolean> {
    const { doing } = budget;
    const own = decodePath(this.root + path) ?? '';
    const xml = new XmlReader('multistatus', 'response', doing, (response) => {
      const member = memberOf(response, own);
      if (member) take(member);
    });
    const reader = {
      status: 207,
      write: (piece: Uint8Array): void => {
        budget.received(piece.byteLength);
        xml.write(piece);
      },
    };
    budget.request();
    const answer = await this.#propfind(path, '1', doing, budget.signal, reader, query);
    if (answer.status === 404) return false;
    if (answer.status !== 207) throw this.error(answer, doing);
    xml.end();
    return true;
  }

  #propfind(
    path: string,
    depth: '0' | '1',
    doing: string,
    signal: AbortSignal | undefined,
    reader?: HttpRequest['reader'],
    query = propfind,
  ): Promise<HttpAnswer> {
    const headers = { depth, 'content-type': 'application/xml; charset=utf-8' };
    const answerMax = reader ? { answerMax: listAnswerMax } : {};
    return this.request({ method: 'PROPFIND', path, headers, body: Buffer.from(query), reader, ...answerMax, signal, doing });
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }
}

/** The direct member of the collection at the decoded path `own` that a `response` element describes. */
function memberOf(response: XmlNode, own: string): Member | undefined {
  const href = decodePath(childText(response, 'href') ?? '');
  if (href === undefined || !href.startsWith(own)) return undefined;
  const name = href.slice(own.length).replace(/\/$/, '');
  if (name === '' || name.includes('/')) return undefined;
  let isCollection = href.endsWith('/');
  let size: number | undefined;
  let modifiedMs: number | undefined;
  for (const status of childrenOf(response, 'propstat')) {
    for (const properties of childrenOf(status, 'prop')) {
      isCollection ||= childrenOf(properties, 'resourcetype').some((type) => Object.hasOwn(type, 'collection'));
      const length = childText(properties, 'getcontentlength') ?? '';
      if (/^\d{1,15}$/.test(length)) size = Number(length);
      const modified = Date.parse(childText(properties, 'getlastmodified') ?? '');
      if (Number.isFinite(modified)) modifiedMs = modified;
    }
  }
  return { name, isCollection, size, modifiedMs };
}

/** `../` at the start of `path` climbs out of the root, one level each. */
function resolveTarget(root: string, path: string): string {
  let base = root;
  let rest = path;
  for (; rest.startsWith('../'); rest = rest.slice(3)) base = base.replace(/[^/]+\/$/, '');
  return base + rest;
}

/** The decoded path of an href, which may be a whole URL; `undefined` when it is none. */
function decodePath(href: string): string | undefined {
  try {
    return decodeURIComponent(href.startsWith('/') ? href : new URL(href).pathname);
  } catch {
    return undefined;
  }
}
