/** Counts what happened in a simulated run, or in many: sums, and the greatest value that was seen. */

export class Tally {
  readonly sums = new Map<string, number>();
  readonly maxima = new Map<string, number>();

  add(name: string, amount = 1): void {
    this.sums.set(name, this.sum(name) + amount);
  }

  /** Counts `amount`, and remembers the greatest one. */
  note(name: string, amount: number): void {
    this.add(name, amount);
    this.maxima.set(name, Math.max(this.max(name), amount));
  }

  sum(name: string): number {
    return this.sums.get(name) ?? 0;
  }

  max(name: string): number {
    return this.maxima.get(name) ?? 0;
  }

  /** Adds the counts of another run. */
  merge(other: Tally): void {
    for (const [name, amount] of other.sums) this.add(name, amount);
    for (const [name, amount] of other.maxima) this.maxima.set(name, Math.max(this.max(name), amount));
  }
}
