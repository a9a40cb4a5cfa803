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

export interface BadWeatherOptions {
  readonly server: StoreServer;
  /** In front of the server; the clients go through it. */
  readonly proxy: FaultProxy;
  readonly random: SeededRandom;
  /** The longest trouble. */
  readonly troubleMsMax: number;
  /** Hears what begins, for a report. */
  readonly report?: (trouble: string) => void;
}

type Trouble = (lastsMs: number, signal: AbortSignal) => Promise<void>;

const tooBusy = 'HTTP/1.1 503 Slow Down\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';

/** Ends early, and well, when the signal says so: what was made bad must be made good again. */
const pass = (lastsMs: number, signal: AbortSignal): Promise<void> => wait(lastsMs, undefined, { signal }).catch(() => {});

export class BadWeather {
  readonly #options: BadWeatherOptions;
  readonly #troubles: Readonly<Record<string, Trouble>>;
  #waiting: string[] = [];
  /** Before the next trouble. */
  #calmMs = 500;
  #count = 0;

  constructor(options: BadWeatherOptions) {
    this.#options = options;
    const { proxy, server } = options;
    const { weather } = proxy;
    this.#troubles = {
      async 'connections cut at random'(lastsMs, signal) {
        weather.cutChance = 0.1;
        await pass(lastsMs, signal);
        weather.cutChance = 0;
      },
      async 'answers lost'(lastsMs, signal) {
        weather.answersLost = 1 + Math.floor(lastsMs / 1000);
        await pass(lastsMs, signal);
        weather.answersLost = 0;
      },
      async 'nobody answers at the port'(lastsMs, signal) {
        weather.isRefusing = true;
        proxy.cutAll();
        await pass(lastsMs, signal);
        weather.isRefusing = false;
      },
      async 'a link that swallows everything'(lastsMs, signal) {
        weather.isHanging = true;
        await pass(lastsMs, signal);
        weather.isHanging = false;
        // What was swallowed never comes: these connections are of no use any more.
        proxy.cutAll();
      },
      async 'a slow link'(lastsMs, signal) {
        weather.latencyMs = 200;
        weather.bytesPerSecond = 100_000;
        await pass(lastsMs, signal);
        weather.latencyMs = 0;
        weather.bytesPerSecond = 0;
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
              weather.answer = tooBusy;
              proxy.cutAll();
              await pass(lastsMs, signal);
              weather.answer = '';
            },
          }),
    };
  }

  /** Troubles so far. */
  get count(): number {
    return this.#count;
  }

  /** How many kinds there are. */
  get kinds(): number {
    return Object.keys(this.#troubles).length;
  }

  /**
   * Makes trouble until `signal`; resolves in fair weather, rejects when a server does not come back. Each kind comes
   * before one comes again.
   */
  async run(signal: AbortSignal): Promise<void> {
    const { random, troubleMsMax, report = () => {} } = this.#options;
    for (;;) {
      await pass(this.#calmMs, signal);
      if (signal.aborted) return;
      if (this.#waiting.length === 0) this.#waiting = Object.keys(this.#troubles);
      const [name = ''] = this.#waiting.splice(random.below(this.#waiting.length), 1);
      // Mostly short ones, so that work gets done in between.
      const lastsMs = random.chance(0.25) ? troubleMsMax : Math.min(troubleMsMax, 500 + random.below(Math.ceil(troubleMsMax / 4)));
      report(`${name} for ${(lastsMs / 1000).toFixed(1)} s`);
      this.#count++;
      // The longer it is, the more there is to catch up with: one outage after the other without an end would only show
      // how long the queue is.
      this.#calmMs = 500 + random.below(3000) + lastsMs / 5;
      await this.#troubles[name]!(lastsMs, signal);
    }
  }
}
