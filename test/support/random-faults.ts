/**
 * One fault after another between a client and a real server, determined by a seed: the server is killed and restarted,
 * its storage stops, connections are cut at random and in the middle of bodies, answers are lost, requests are refused
 * or answered with 503, and the link hangs or is slow. Each fault passes by itself, with a healthy interval before the
 * next.
 */
import { setTimeout as wait } from 'node:timers/promises';
import type { SeededRandom } from '../model/seeded-random.js';
import type { FaultProxy } from './fault-proxy.js';
import type { StoreServer } from './store-server.js';

export interface RandomFaultsOptions {
  readonly server: StoreServer;
  /** The proxy in front of the server, which the clients use. */
  readonly proxy: FaultProxy;
  readonly random: SeededRandom;
  /** The longest fault. */
  readonly lastsMsMax: number;
  /** Called with the name of each fault that begins, for a report. */
  readonly report?: (fault: string) => void;
}

type Fault = (lastsMs: number, signal: AbortSignal) => Promise<void>;

const tooBusy = 'HTTP/1.1 503 Slow Down\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';

/** Resolves early when the signal aborts, so that the fault is undone. */
const pass = (lastsMs: number, signal: AbortSignal): Promise<void> => wait(lastsMs, undefined, { signal }).catch(() => {});

export class RandomFaults {
  readonly #options: RandomFaultsOptions;
  readonly #faults: Readonly<Record<string, Fault>>;
  #waiting: string[] = [];
  /** The pause before the next fault. */
  #calmMs = 500;
  #count = 0;

  constructor(options: RandomFaultsOptions) {
    this.#options = options;
    const { proxy, server } = options;
    const { faults } = proxy;
    this.#faults = {
      async 'connections cut at random'(lastsMs, signal) {
        faults.cutChance = 0.1;
        await pass(lastsMs, signal);
        faults.cutChance = 0;
      },
      async 'answers lost'(lastsMs, signal) {
        faults.answersLost = 1 + Math.floor(lastsMs / 1000);
        await pass(lastsMs, signal);
        faults.answersLost = 0;
      },
      async 'nobody answers at the port'(lastsMs, signal) {
        faults.isRefusing = true;
        proxy.cutAll();
        await pass(lastsMs, signal);
        faults.isRefusing = false;
      },
      async 'a link that swallows everything'(lastsMs, signal) {
        faults.isHanging = true;
        await pass(lastsMs, signal);
        faults.isHanging = false;
        // Swallowed bytes never arrive, so these connections are useless.
        proxy.cutAll();
      },
      async 'a slow link'(lastsMs, signal) {
        faults.latencyMs = 200;
        faults.bytesPerSecond = 100_000;
        await pass(lastsMs, signal);
        faults.latencyMs = 0;
        faults.bytesPerSecond = 0;
      },
      async 'storage stopped'(lastsMs, signal) {
        server.hold(true);
        await pass(lastsMs, signal);
        server.hold(false);
      },
      async 'server killed and restarted'(lastsMs, signal) {
        await server.kill();
        await pass(lastsMs, signal);
        await server.restart();
      },
      ...(server.kind === 'sftp'
        ? {}
        : {
            async '503 to everybody'(lastsMs: number, signal: AbortSignal): Promise<void> {
              faults.answer = tooBusy;
              proxy.cutAll();
              await pass(lastsMs, signal);
              faults.answer = '';
            },
          }),
    };
  }

  /** The number of faults so far. */
  get count(): number {
    return this.#count;
  }

  /** The number of kinds of faults. */
  get kinds(): number {
    return Object.keys(this.#faults).length;
  }

  /**
   * Causes faults until `signal`; resolves without one active, rejects when a server does not come back. Every kind
   * comes once before any comes again.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { random, lastsMsMax, report = () => {} } = this.#options;
    for (;;) {
      await pass(this.#calmMs, signal);
      if (signal.aborted) return;
      if (this.#waiting.length === 0) this.#waiting = Object.keys(this.#faults);
      const [name = ''] = this.#waiting.splice(random.below(this.#waiting.length), 1);
      // Mostly short ones, so that work gets done in between.
      const lastsMs = random.chance(0.25) ? lastsMsMax : Math.min(lastsMsMax, 500 + random.below(Math.ceil(lastsMsMax / 4)));
      report(`${name} for ${(lastsMs / 1000).toFixed(1)} s`);
      this.#count++;
      // The pause grows with the fault, since the drive has more to catch up with: endless outages would only show the
      // length of the queue.
      this.#calmMs = 500 + random.below(3000) + lastsMs / 5;
      await this.#faults[name]!(lastsMs, signal);
    }
  }
}
