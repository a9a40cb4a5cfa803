/** Totals of a volume: kept along with its state, written into checkpoints, shown by `status`. */

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
