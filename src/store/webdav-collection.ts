/**
 * Requests below one WebDAV collection (RFC 4918): it logs in when the server asks for it, reads lists of members as
 * they arrive, and explains refusals (doc/stores.md, "WebDAV"). It knows nothing of objects; see webdav-store.ts.
 */
import type { Clock } from '../base/clock.js';
import { systemClock } from '../base/clock.js';
import { printable } from '../base/printable.js';
import type { Random } from '../base/random.js';
import type { Disk } from '../disk/disk.js';
import { HttpAuthentication } from './http-authentication.js';
import { type ObjectRequest, statusError, unavailableError } from './http-objects.js';
import type { HttpAnswer, HttpTransportOptions } from './http-transport.js';
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
/** Characters of a foreign path that a message shows. */
const shownPathMax = 100;
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

interface MemberSearch {
  /** Ends in a slash, or is empty. */
  readonly path: string;
  /** `0`: the collection itself; `1`: its members as well. */
  readonly depth: '0' | '1';
  readonly doing: string;
  readonly signal: AbortSignal;
  readonly take: (member: Member) => void;
  /** Hears how many bytes of the answer have come. */
  readonly received?: (bytes: number) => void;
  readonly query?: string | undefined;
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
  exists(doing: string, signal: AbortSignal): Promise<boolean> {
    return this.#findMembers({ path: '', depth: '0', doing, signal, take: () => {} });
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
    budget.request();
    const { doing, signal } = budget;
    return this.#findMembers({ path, depth: '1', doing, signal, take, received: (bytes) => budget.received(bytes), query });
  }

  /**
   * Asks for the collection at `path`. False when there is none. An answer that does not hold the collection itself
   * speaks of another place, and nothing may be called absent then: throws {@link StoreError} `PROTOCOL`.
   */
  async #findMembers({ path, depth, doing, signal, take, received, query = propfind }: MemberSearch): Promise<boolean> {
    const own = new OwnPath(this.root + path);
    let isFound = false;
    let other: string | undefined;
    const xml = new XmlReader('multistatus', 'response', doing, (response) => {
      const href = own.resolve(childText(response, 'href') ?? '');
      const name = href === undefined ? undefined : own.nameBelow(href);
      if (name === '') isFound ||= !isRefusal(response);
      else if (name !== undefined) take(memberOf(response, name, href?.endsWith('/') === true));
      else other ??= href;
    });
    const reader = {
      status: 207,
      write: (piece: Uint8Array): void => {
        received?.(piece.byteLength);
        xml.write(piece);
      },
    };
    const headers = { depth, 'content-type': 'application/xml; charset=utf-8' };
    const body = Buffer.from(query);
    const answer = await this.request({ method: 'PROPFIND', path, headers, body, reader, answerMax: listAnswerMax, signal, doing });
    if (answer.status === 404) return false;
    if (answer.status !== 207) throw this.error(answer, doing);
    xml.end();
    if (!isFound) throw this.#strayAnswer(own, other, doing);
    return true;
  }

  #strayAnswer(own: OwnPath, other: string | undefined, doing: string): StoreError {
    const instead = other === undefined ? '' : ` but ${printable(other.slice(0, shownPathMax))}`;
    return new StoreError(
      'PROTOCOL',
      `${doing}: the server's answer does not hold the collection ${printable(own.path)} that was asked for${instead}: ` +
        'a proxy that changes paths must change them in the answers as well; or write the path as the server does (upper and lower case)',
    );
  }

  async close(): Promise<void> {
    await this.#transport.close();
  }
}

/** The direct member called `name` that a `response` element describes. */
function memberOf(response: XmlNode, name: string, hasSlash: boolean): Member {
  let isCollection = hasSlash;
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

/** A `response` that says only that there is nothing, or that it may not be seen. */
const isRefusal = (response: XmlNode): boolean => /^HTTP\/\S+ [45]/.test(childText(response, 'status') ?? '');

/**
 * The path of a collection, to be compared with the hrefs in an answer, which servers write in several ways: as a path
 * or a whole URL (behind a proxy with another host), with or without a slash at the end, more or less percent-encoded,
 * composed or decomposed.
 */
class OwnPath {
  /** Decoded; ends in a slash. */
  readonly path: string;
  readonly #base: URL;

  /** `encoded` begins and ends in a slash. */
  constructor(encoded: string) {
    this.#base = new URL(encoded, 'http://server');
    this.path = decodePath(this.#base) ?? '';
  }

  /** The decoded path of an href, with its dots resolved; `undefined` when it is none. */
  resolve(href: string): string | undefined {
    if (href === '') return undefined;
    try {
      // At the beginning of a path two slashes are one too many: a host without a scheme is not allowed here.
      return decodePath(new URL(href.replace(/^\/{2,}/, '/'), this.#base));
    } catch {
      return undefined;
    }
  }

  /** The name of a direct member; empty for the collection itself; `undefined` for any other path. */
  nameBelow(path: string): string | undefined {
    if (`${path}/` === this.path) return '';
    if (!path.startsWith(this.path)) return undefined;
    const name = path.slice(this.path.length).replace(/\/$/, '');
    return name.includes('/') ? undefined : name;
  }
}

function decodePath({ pathname }: URL): string | undefined {
  try {
    return decodeURIComponent(pathname).normalize('NFC');
  } catch {
    return undefined;
  }
}

/** `../` at the start of `path` climbs out of the root, one level each. */
function resolveTarget(root: string, path: string): string {
  let base = root;
  let rest = path;
  for (; rest.startsWith('../'); rest = rest.slice(3)) base = base.replace(/[^/]+\/$/, '');
  return base + rest;
}
