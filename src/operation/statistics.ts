/**
 * The totals of a volume: part of its state, written into checkpoints (doc/format.md, "Commit") and shown by `status`.
 */

export interface VolumeStatistics {
  readonly files: number;
  /** Bytes of content that take space, before compression. */
  readonly bytes: number;
}

/** What an operation adds to {@link VolumeStatistics}; either may be negative. */
export interface StatisticsDelta {
  readonly files: number;
  readonly bytes: number;
}
