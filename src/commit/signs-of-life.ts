/**
 * When each device wrote its newest commit that was read here, by its own clock (doc/security.md, "Freshness"). The
 * time is signed, so the store cannot invent it: a store that withholds commits lets it grow old.
 */
import type { Clock } from '../base/clock.js';
import type { Commit } from './commit.js';
import { type DeviceId, ownerId } from './enrolment.js';

export class SignsOfLife {
  readonly #clock: Clock;
  readonly #signs = new Map<DeviceId, { readonly sequence: number; readonly atMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What the owner writes may come from any machine, this one as well. */
  note({ author, sequence, wallTimeMs }: Commit): void {
    if (author === ownerId || sequence <= (this.#signs.get(author)?.sequence ?? 0)) return;
    // At most our time: a device whose clock is ahead would look alive for that much longer.
    this.#signs.set(author, { sequence, atMs: Math.min(wallTimeMs, this.#clock.now().sec * 1000) });
  }

  /** Milliseconds since 1970; `undefined` when no commit of the device was read here. */
  of(device: DeviceId): number | undefined {
    return this.#signs.get(device)?.atMs;
  }

  /** The newest of all devices but `device`, in milliseconds since 1970; `undefined` without any. */
  newestBut(device: DeviceId): number | undefined {
    const others = [...this.#signs].filter(([deviceId]) => deviceId !== device);
    return others.length === 0 ? undefined : Math.max(...others.map(([, { atMs }]) => atMs));
  }
}
