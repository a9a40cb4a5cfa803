/**
 * One connection: takes requests from a channel, has them handled, and sends replies. It owns the table of the requests
 * that are under way; those that are answered at once leave no trace here. Requests start in the order in which they
 * arrive, and end in any order (doc/concurrency.md, "One instant").
 */

import { assert } from '../base/assert.js';
import { MalformedBytesError } from '../base/bytes.js';
import { isPromise, type MaybePromise } from '../base/maybe-promise.js';
import { EAGAIN, EINTR, EIO, ENOSYS, EPROTO, FUSE_KERNEL_MINOR_VERSION, FUSE_KERNEL_VERSION } from './abi.js';
import { DirentBuffer } from './dirent-buffer.js';
import { FuseError } from './fuse-error.js';
import { ErrnoReply, type Exchange, handlers, unanswered } from './handlers.js';
import { givesUp } from './interrupting-signal.js';
import { majorOffered, type Negotiated, negotiate, payloadMax, type Wishes } from './negotiation.js';
import { opcode, opcodeName } from './opcode.js';
import type { Entry, ErrnoOf, FuseOperations, NodeId, OpenReply } from './operations.js';
import { ReplyWriter } from './reply-writer.js';
import { KernelRequestContext } from './request-context.js';
import { RequestReader } from './request-reader.js';

/** The source of requests and the target of replies: the addon's session, or a test. */
export interface Channel {
  /** Holds the request while {@link FuseSession.accept} runs. */
  readonly request: Uint8Array;
  readonly reply: Uint8Array;
  /** Sends the first `length` bytes of `reply` and then the pieces. Answers an errno, 0 for success. */
  send(length: number, pieces: readonly Uint8Array[] | undefined): number;
}

export interface SessionOptions extends Wishes {
  readonly trace?: (line: string) => void;
  /** Whether an interrupted caller, identified by its thread id, wants to give up; for tests. */
  readonly givesUp?: (threadId: number) => boolean;
}

/** Requests that change nothing: a caller that gives up is answered at once, and a later result is dropped. */
const harmless: ReadonlySet<number> = new Set([
  opcode.LOOKUP,
  opcode.GETATTR,
  opcode.STATX,
  opcode.READLINK,
  opcode.READ,
  opcode.GETXATTR,
  opcode.LISTXATTR,
  opcode.READDIR,
  opcode.READDIRPLUS,
  opcode.STATFS,
  opcode.LSEEK,
]);
/**
 * The kernel reports an interruption once. While a caller has only got signals that end nothing, it is asked to report
 * again after this time.
 */
const askAgainMs = 100;

/** Listing buffers that are kept for the next one; more may be under way. */
const spareListingsMax = 4;

export class FuseSession implements Exchange {
  readonly operations: FuseOperations;
  readonly #errnoOf: ErrnoOf;
  readonly #options: SessionOptions;
  readonly #channel: Channel;
  readonly #request: RequestReader;
  readonly #reply: ReplyWriter;
  readonly #pending = new Map<number, KernelRequestContext>();
  readonly #spareListings: DirentBuffer[] = [];
  readonly #askingAgain = new Set<NodeJS.Timeout>();
  readonly #onInit: (result: Negotiated | FuseError) => void;
  #negotiated: Negotiated | undefined;
  #ended = false;

  /** `onInit` is called once, when the kernel has agreed (or cannot). */
  constructor(
    operations: FuseOperations,
    errnoOf: ErrnoOf,
    options: SessionOptions,
    channel: Channel,
    onInit: (result: Negotiated | FuseError) => void,
  ) {
    this.operations = operations;
    this.#errnoOf = errnoOf;
    this.#options = options;
    this.#channel = channel;
    this.#request = new RequestReader(channel.request);
    this.#reply = new ReplyWriter(channel.reply);
    this.#onInit = onInit;
  }

  get negotiated(): Negotiated {
    assert(this.#negotiated !== undefined, 'no request is handled before INIT');
    return this.#negotiated;
  }

  /** The number of requests that wait for their answer. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  /** A request of `length` bytes lies in the channel's buffer. When this returns, the buffer may be used again. */
  accept(length: number): void {
    const request = this.#request;
    let context: KernelRequestContext;
    try {
      request.accept(length);
    } catch (error) {
      if (!(error instanceof MalformedBytesError)) throw error;
      // Only a broken kernel sends this. The header may still say whom to answer.
      this.#refuseMalformed(length);
      return;
    }
    const code = request.opcode;
    context = new KernelRequestContext(request.unique, code, request.uid, request.gid, request.pid);
    this.#options.trace?.(`> ${context.unique} ${opcodeName(code)} node ${request.nodeid} (${length} bytes)`);
    if (this.#negotiated === undefined) {
      this.#initialize(context);
      return;
    }
    const handler = handlers[code];
    if (handler === undefined) {
      if (!unanswered.has(code)) this.fail(context, ENOSYS);
      return;
    }
    try {
      handler(this, request, context, request.nodeid as NodeId);
    } catch (error) {
      if (unanswered.has(code)) throw error;
      this.#failWith(context, error);
    }
  }

  /** The connection is gone: waiting operations learn it by their signals. */
  end(): void {
    this.#ended = true;
    for (const context of this.#pending.values()) context.interrupt();
    this.#pending.clear();
    for (const timer of this.#askingAgain) clearTimeout(timer);
  }

  #refuseMalformed(length: number): void {
    this.#options.trace?.(`> malformed (${length} bytes)`);
    if (length < 16 || unanswered.has(this.#request.opcode)) return;
    this.#reply.begin(this.#request.unique);
    this.#reply.finish(EIO);
    this.#channel.send(this.#reply.length, undefined);
  }

  #initialize(context: KernelRequestContext): void {
    if (context.opcode !== opcode.INIT) {
      if (!unanswered.has(context.opcode)) this.fail(context, EIO);
      return;
    }
    if (majorOffered(this.#request) > FUSE_KERNEL_VERSION) {
      this.#reply.begin(context.unique);
      this.#reply.init({
        minor: FUSE_KERNEL_MINOR_VERSION,
        maxReadahead: 0,
        flags: 0n,
        maxBackground: 0,
        congestionThreshold: 0,
        maxWrite: 0,
        maxPages: 0,
      });
      this.#send(context, 0);
      return;
    }
    try {
      this.#negotiated = negotiate(this.#request, this.#options);
    } catch (error) {
      this.fail(context, EPROTO);
      if (!(error instanceof FuseError)) throw error;
      this.#onInit(error);
      return;
    }
    this.operations.init(this.#negotiated.connection);
    this.#reply.begin(context.unique);
    this.#reply.init(this.#negotiated.reply);
    this.#send(context, 0);
    this.#onInit(this.#negotiated);
  }

  // Exchange, by which handlers answer.

  answer<T>(context: KernelRequestContext, value: MaybePromise<T>, encode: (reply: ReplyWriter, value: T) => void): void {
    if (isPromise(value)) void this.#later(context, value, (found) => this.#encodeAndSend(context, found, encode));
    else this.#encodeAndSend(context, value, encode);
  }

  answerEntry(context: KernelRequestContext, value: MaybePromise<Entry>): void {
    if (isPromise(value))
      void this.#later(
        context,
        value,
        (entry) => this.#sendEntry(context, entry),
        (entry) => this.#takeBack(entry.nodeId),
      );
    else this.#sendEntry(context, value);
  }

  answerCreated(context: KernelRequestContext, value: MaybePromise<{ entry: Entry; open: OpenReply } | undefined>): void {
    if (isPromise(value)) void this.#later(context, value, (created) => this.#sendCreated(context, created));
    else this.#sendCreated(context, value);
  }

  answerListing(context: KernelRequestContext, listing: DirentBuffer, value: MaybePromise<void>): void {
    if (isPromise(value))
      void this.#later(
        context,
        value,
        () => this.#sendListing(context, listing),
        () => this.#dropListing(listing),
      );
    else this.#sendListing(context, listing);
  }

  fail(context: KernelRequestContext, errno: number): void {
    this.#reply.begin(context.unique);
    this.#send(context, errno);
  }

  direntBuffer(size: number, plus: boolean): DirentBuffer {
    const capped = Math.min(size, payloadMax);
    const spare = this.#spareListings.pop();
    const listing = spare !== undefined && spare.capacity >= capped ? spare : new DirentBuffer(capped);
    listing.reset(capped, plus);
    return listing;
  }

  interrupt(context: KernelRequestContext, unique: number): void {
    const pending = this.#pending.get(unique);
    // An unknown request was answered already: the kernel drops the interrupt by itself.
    if (pending === undefined || pending.interrupted) return;
    if ((this.#options.givesUp ?? givesUp)(pending.pid)) {
      pending.interrupt();
      if (harmless.has(pending.opcode)) {
        this.#pending.delete(unique);
        this.fail(pending, EINTR);
      }
      return;
    }
    const timer = setTimeout(() => {
      this.#askingAgain.delete(timer);
      if (this.#pending.has(unique)) this.fail(context, EAGAIN);
    }, askAgainMs);
    this.#askingAgain.add(timer);
  }

  /**
   * Keeps the request in the table until the promise settles, or until it was answered because its caller gave up; a
   * later value goes to `discard`. A request that outlives the connection is dropped.
   */
  async #later<T>(context: KernelRequestContext, promise: Promise<T>, finish: (value: T) => void, discard?: (value: T) => void): Promise<void> {
    this.#pending.set(context.unique, context);
    const isWaitedFor = (): boolean => this.#pending.get(context.unique) === context;
    try {
      const value = await promise;
      if (isWaitedFor()) finish(value);
      else if (!this.#ended) discard?.(value);
    } catch (error) {
      if (isWaitedFor()) this.#failWith(context, error);
    } finally {
      if (isWaitedFor()) this.#pending.delete(context.unique);
    }
  }

  #encodeAndSend<T>(context: KernelRequestContext, value: T, encode: (reply: ReplyWriter, value: T) => void): number {
    this.#reply.begin(context.unique);
    encode(this.#reply, value);
    return this.#send(context, 0);
  }

  #sendEntry(context: KernelRequestContext, entry: Entry): void {
    this.#reply.begin(context.unique);
    this.#reply.entry(entry);
    if (this.#send(context, 0) !== 0) this.#takeBack(entry.nodeId);
  }

  #sendCreated(context: KernelRequestContext, created: { entry: Entry; open: OpenReply } | undefined): void {
    if (created === undefined) {
      this.fail(context, ENOSYS);
      return;
    }
    this.#reply.begin(context.unique);
    this.#reply.entry(created.entry);
    this.#reply.open(created.open);
    if (this.#send(context, 0) === 0) return;
    const { nodeId } = created.entry;
    if (nodeId === 0) return;
    const released = this.operations.release(context, nodeId, created.open.handle);
    if (!isPromise(released)) this.#takeBack(nodeId);
    else
      released.then(
        () => this.#takeBack(nodeId),
        () => this.#takeBack(nodeId),
      );
  }

  #sendListing(context: KernelRequestContext, listing: DirentBuffer): void {
    this.#reply.begin(context.unique);
    this.#reply.data(listing.bytes);
    if (this.#send(context, 0) === 0) this.#spare(listing);
    else this.#dropListing(listing);
  }

  #dropListing(listing: DirentBuffer): void {
    for (const nodeId of listing.looked) this.#takeBack(nodeId);
    this.#spare(listing);
  }

  #spare(listing: DirentBuffer): void {
    if (this.#spareListings.length < spareListingsMax) this.#spareListings.push(listing);
  }

  /** The kernel did not take the answer because the caller is gone, so the lookup that was counted for it is undone. */
  #takeBack(nodeId: NodeId | 0): void {
    if (nodeId !== 0 && !this.#ended) this.operations.forget(nodeId, 1);
  }

  #failWith(context: KernelRequestContext, error: unknown): void {
    if (error instanceof ErrnoReply) this.fail(context, error.errno);
    else if (context.interrupted && error === context.signal.reason) this.fail(context, EINTR);
    else this.fail(context, this.#errnoOf(error));
  }

  #send(context: KernelRequestContext, errno: number): number {
    this.#reply.finish(errno);
    const sent = this.#channel.send(this.#reply.length, this.#reply.pieces);
    this.#options.trace?.(
      `< ${context.unique} ${opcodeName(context.opcode)} ${errno === 0 ? 'ok' : `errno ${errno}`}${sent === 0 ? '' : ` not taken: ${sent}`}`,
    );
    return sent;
  }
}
