/**
 * A network link between this machine and a server on it, for bench/network.ts: a process of its own that forwards TCP
 * connections, adds the round trip, and limits all connections together to a rate in each direction. A busy connection
 * does not starve the others (they take turns), as with the queues of today's routers. Slow start and losses are not
 * simulated. It counts HTTP/1.1 requests by their heads.
 *
 * fork('network-link.js', [PORT, ROUND_TRIP_MS, MBIT_PER_SECOND]); it sends { port }, and answers 'take' and 'look'
 * with a LinkUse since the last 'take'.
 */

import type { Socket } from 'node:net';
import { connect, createServer } from 'node:net';
import { setPriority } from 'node:os';

/** The traffic over the link. */
export interface LinkUse {
  readonly connections: number;
  /** Requests by method. */
  readonly requests: Readonly<Record<string, number>>;
  /** Bytes to the server and back, including HTTP heads. */
  readonly bytesUp: number;
  readonly bytesDown: number;
  /**
   * One line per request: when its head came (ms since the last 'take'), how long until its answer began and ended, and
   * the request.
   */
  readonly trace: readonly string[];
}

const traceMax = 50_000;
/** One turn of a connection on the link. */
const turnBytes = 16 * 1024;
/** More than this in flight stops the sender: a window that just fills the link. */
const windowBytes = 1024 * 1024;

interface Direction {
  /** The time at which the link is free again, in ms. */
  freeMs: number;
  /** Connections with bytes to send, the next one first. */
  readonly waiting: Pipe[];
  /** Pieces in flight, in order of arrival. */
  readonly flying: { readonly pipe: Pipe; readonly bytes: Buffer | undefined; readonly atMs: number }[];
  timer: NodeJS.Timeout | undefined;
}

let use = { connections: 0, requests: {} as Record<string, number>, bytesUp: 0, bytesDown: 0, trace: [] as string[] };
let sinceMs = performance.now();
const [targetPort = 0, roundTripMs = 0, megabits = 0] = process.argv.slice(2).map(Number);
const delayMs = roundTripMs / 2;
const bytesPerMs = (megabits * 1_000_000) / 8 / 1000;

try {
  // The simulated link must not become slower because this machine is busy. Only root may raise the priority.
  setPriority(-15);
} catch {
  // Then it runs at normal priority.
}

const makeDirection = (): Direction => ({ freeMs: 0, waiting: [], flying: [], timer: undefined });
const directions = { up: makeDirection(), down: makeDirection() };

/** One direction of one connection. */
class Pipe {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #direction: Direction;
  readonly #queue: (Buffer | undefined)[] = [];
  /** Read from the sender and not yet delivered. */
  #held = 0;
  #isWaiting = false;
  /** Nothing arrives before this, since the connection is made first. */
  readonly #openMs: number;

  constructor(from: Socket, to: Socket, direction: Direction, openMs: number) {
    this.#from = from;
    this.#to = to;
    this.#direction = direction;
    this.#openMs = openMs;
  }

  /** `undefined` marks the end. */
  take(bytes: Buffer | undefined): void {
    if (bytes === undefined) this.#queue.push(undefined);
    else {
      for (let at = 0; at < bytes.byteLength; at += turnBytes) this.#queue.push(bytes.subarray(at, at + turnBytes));
      this.#held += bytes.byteLength;
      if (this.#held >= windowBytes) this.#from.pause();
    }
    this.#wait();
  }

  #wait(): void {
    if (this.#isWaiting) return;
    this.#isWaiting = true;
    const earlyMs = this.#openMs - performance.now();
    if (earlyMs > 0) setTimeout(() => this.#queueUp(), earlyMs);
    else this.#queueUp();
  }

  #queueUp(): void {
    this.#direction.waiting.push(this);
    schedule(this.#direction);
  }

  /** Puts the next piece on the link, which is free at `startMs`; returns the time at which it is free again. */
  send(startMs: number): number {
    const bytes = this.#queue.shift();
    const endMs = startMs + (bytes?.byteLength ?? 0) / bytesPerMs;
    this.#direction.flying.push({ pipe: this, bytes, atMs: endMs + delayMs });
    if (this.#queue.length > 0) this.#direction.waiting.push(this);
    else this.#isWaiting = false;
    return endMs;
  }

  deliver(bytes: Buffer | undefined): void {
    if (bytes === undefined) this.#to.end();
    else {
      if (!this.#to.destroyed) this.#to.write(bytes);
      const wasFull = this.#held >= windowBytes;
      this.#held -= bytes.byteLength;
      if (wasFull && this.#held < windowBytes) this.#from.resume();
    }
  }
}

function schedule(direction: Direction): void {
  direction.timer ??= setTimeout(() => {
    direction.timer = undefined;
    run(direction);
  }, 1);
}

/** The link's own clock decides, not the timer: a late timer sends everything that was due meanwhile. */
function run(direction: Direction): void {
  const nowMs = performance.now();
  while (direction.waiting.length > 0 && direction.freeMs <= nowMs) {
    const pipe = direction.waiting.shift() as Pipe;
    // An idle link does not accumulate capacity, except for the last millisecond of the timer.
    direction.freeMs = pipe.send(Math.max(direction.freeMs, nowMs - 2));
  }
  let done = 0;
  while (done < direction.flying.length && direction.flying[done]!.atMs <= nowMs) {
    const { pipe, bytes } = direction.flying[done++]!;
    pipe.deliver(bytes);
  }
  direction.flying.splice(0, done);
  if (direction.waiting.length > 0 || direction.flying.length > 0) schedule(direction);
}

/** Follows the requests of one connection by their heads and body lengths. */
class RequestCounter {
  #head = '';
  /** Remaining bytes of the body; undefined within a head. */
  #left: number | undefined;
  #line = '';
  #startMs = 0;
  #firstMs = 0;
  #lastMs = 0;

  sent(bytes: Buffer): void {
    for (let at = 0; at < bytes.byteLength; ) {
      if (this.#left !== undefined) {
        const part = Math.min(this.#left, bytes.byteLength - at);
        at += part;
        this.#left -= part;
        if (this.#left === 0) this.#left = undefined;
        continue;
      }
      const before = this.#head.length;
      this.#head += bytes.toString('latin1', at);
      const end = this.#head.indexOf('\r\n\r\n');
      if (end < 0) return;
      at += end + 4 - before;
      this.#begin(this.#head.slice(0, end));
      this.#head = '';
    }
  }

  answered(): void {
    this.#lastMs = performance.now();
    if (this.#firstMs === 0) this.#firstMs = this.#lastMs;
  }

  #begin(head: string): void {
    this.close();
    const line = head.slice(0, head.indexOf('\r\n'));
    const method = line.slice(0, line.indexOf(' '));
    const range = /\r\nrange: ([^\r]*)/i.exec(head)?.[1];
    const length = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0);
    this.#left = length > 0 ? length : undefined;
    use.requests[method] = (use.requests[method] ?? 0) + 1;
    this.#line = `${line.replace(/ HTTP.*/, '')}${range === undefined ? '' : ` ${range}`}${length > 0 ? ` (${length})` : ''}`;
    this.#startMs = performance.now();
    this.#firstMs = 0;
  }

  /** The previous request has ended. */
  close(): void {
    if (this.#line === '' || use.trace.length >= traceMax) return;
    const [start, first, last] = [this.#startMs - sinceMs, this.#firstMs - this.#startMs, this.#lastMs - this.#startMs];
    use.trace.push(`${start.toFixed(0).padStart(7)} ${first.toFixed(0).padStart(5)} ${last.toFixed(0).padStart(6)}  ${this.#line}`);
    this.#line = '';
  }
}

/** Forwards the bytes from one side; `look` sees them as they come. */
function carry(from: Socket, to: Socket, direction: Direction, openMs: number, look: (bytes: Buffer) => void): void {
  const pipe = new Pipe(from, to, direction, openMs);
  from.on('data', (bytes) => {
    look(bytes);
    pipe.take(bytes);
  });
  from.on('end', () => pipe.take(undefined));
}

const counters = new Set<RequestCounter>();
const server = createServer({ allowHalfOpen: true }, (client) => {
  use.connections++;
  const origin = connect({ port: targetPort, host: '127.0.0.1', allowHalfOpen: true });
  const counter = new RequestCounter();
  counters.add(counter);
  for (const [one, other] of [
    [client, origin],
    [origin, client],
  ] as const) {
    one.setNoDelay(true);
    one.on('error', () => other.destroy());
    one.on('close', () => {
      counters.delete(counter);
      counter.close();
      if (one.errored) other.destroy();
    });
  }
  // The client's first bytes arrive a round trip after it began to connect.
  const openMs = performance.now() + roundTripMs;
  carry(client, origin, directions.up, openMs, (bytes) => {
    use.bytesUp += bytes.byteLength;
    counter.sent(bytes);
  });
  carry(origin, client, directions.down, 0, (bytes) => {
    use.bytesDown += bytes.byteLength;
    counter.answered();
  });
});
server.listen(0, '127.0.0.1', () => {
  const address = server.address();
  process.send?.({ port: typeof address === 'object' && address ? address.port : 0 });
});
process.on('message', (what) => {
  if (what === 'look') {
    process.send?.({ ...use, trace: [] });
    return;
  }
  for (const counter of counters) counter.close();
  const taken = use;
  use = { connections: 0, requests: {}, bytesUp: 0, bytesDown: 0, trace: [] };
  sinceMs = performance.now();
  process.send?.({ ...taken, trace: taken.trace.toSorted() });
});
// The process ends with the benchmark, however that ends.
process.on('disconnect', () => process.exit(0));
