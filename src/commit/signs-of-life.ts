/**
 * When each device wrote its newest commit that was read here, by its own clock (doc/security.md, "Freshness"). The
 * time is signed, so the store cannot invent it: a store that withholds commits lets it grow old.
 */
import type { Clock } from '../base/clock.js';
import type { Commit, DeviceId } from './commit.js';

export class SignsOfLife {
  readonly #clock: Clock;
  readonly #signs = new Map<DeviceId, { readonly sequence: number; readonly atMs: number }>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  note({ deviceId, sequence, wallTimeMs }: Commit): void {
    if (sequence <= (this.#signs.get(deviceId)?.sequence ?? 0)) return;
    // At most our time: a device whose clock is ahead would look alive for that much longer.
    this.#signs.set(deviceId, { sequence, atMs: Math.min(wallTimeMs, this.#clock.now().sec * 1000) });
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
