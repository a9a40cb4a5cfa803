/**
 * The counters of the server in the format of Prometheus (text format, version 0.0.4). They name no tokens, keys or
 * volumes.
 */

interface Definition {
  readonly kind: 'counter' | 'gauge';
  readonly help: string;
}

const definitions = {
  sealdrive_requests_total: { kind: 'counter', help: 'Requests that were answered or cut, by operation and status.' },
  sealdrive_request_seconds_total: { kind: 'counter', help: 'Time that requests took, by operation, without waiting for objects.' },
  sealdrive_received_bytes_total: { kind: 'counter', help: 'Bytes of objects that were put.' },
  sealdrive_sent_bytes_total: { kind: 'counter', help: 'Bytes of answers.' },
  sealdrive_malformed_total: { kind: 'counter', help: 'What came and was no HTTP request.' },
  sealdrive_expired_total: { kind: 'counter', help: 'Requests that were cut because they were too slow.' },
  sealdrive_base_failures_total: { kind: 'counter', help: 'Requests that failed because of the base store.' },
  sealdrive_woken_total: { kind: 'counter', help: 'Waiters whose object came.' },
  sealdrive_requests: { kind: 'gauge', help: 'Requests under way, without those that wait.' },
  sealdrive_waiters: { kind: 'gauge', help: 'Requests that wait for an object.' },
  sealdrive_dropped_connections_total: { kind: 'counter', help: 'Connections that were ended to make room, or had no time left.' },
  sealdrive_strangers: { kind: 'gauge', help: 'Connections that have shown no valid token.' },
  sealdrive_connections: { kind: 'gauge', help: 'Connections.' },
  sealdrive_tokens: { kind: 'gauge', help: 'Tokens that are valid.' },
  process_resident_memory_bytes: { kind: 'gauge', help: 'Resident memory.' },
  process_cpu_seconds_total: { kind: 'counter', help: 'Processor time.' },
} as const satisfies Readonly<Record<string, Definition>>;

export type MetricName = keyof typeof definitions;

export class ServerMetrics {
  readonly #values = new Map<MetricName, Map<string, number>>();

  /** `labels`: few and from a fixed set, as each combination is kept for ever. */
  add(name: MetricName, amount = 1, labels: Readonly<Record<string, string | number>> = {}): void {
    const series = this.#series(name);
    const key = labelText(labels);
    series.set(key, (series.get(key) ?? 0) + amount);
  }

  set(name: MetricName, value: number): void {
    this.#series(name).set('', value);
  }

  #series(name: MetricName): Map<string, number> {
    const series = this.#values.get(name) ?? new Map<string, number>();
    this.#values.set(name, series);
    return series;
  }

  text(): string {
    const lines: string[] = [];
    for (const [name, { kind, help }] of Object.entries(definitions)) {
      lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`);
      const series = this.#values.get(name as MetricName);
      for (const [labels, value] of series ?? [['', 0] as const]) lines.push(`${name}${labels} ${value}`);
    }
    return `${lines.join('\n')}\n`;
  }
}

/** Values are words of ours: nothing in them needs escaping. */
function labelText(labels: Readonly<Record<string, string | number>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}
