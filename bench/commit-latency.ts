/**
 * Measures how long a change by one device takes until applications on another one see it, kernel caches included, on
 * each kind of store: real servers on loopback, two real mounts. A change is an overwrite of a file that the other side
 * has read and cached, a new name whose absence is cached, a removed name, or a new mode, in turn. `close` counts from
 * close(2), which includes the second until the commit; `commit` counts from the moment when `flush` reports the commit
 * in the store.
 *
 *   node dist/bench/commit-latency.js [--stores directory,s3,http,...] [--count N] [--scratch DIRECTORY] [--json]
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { askDaemon } from '../src/program/control-client.js';
import { ask, DrivePair } from '../test/mount/drive-pair.js';
import type { Drive } from '../test/mount/drive-process.js';
import { startStoreServer, storeKindsOf, whyNoStore } from '../test/support/store-server.js';

const { values } = parseArgs({
  options: {
    stores: { type: 'string' },
    count: { type: 'string', default: '40' },
    scratch: { type: 'string' },
    json: { type: 'boolean', default: false },
  },
});
const count = Number(values.count);
const patienceMs = 60_000;
const print = (line: string): void => void process.stdout.write(`${line}\n`);

interface Latencies {
  readonly medianMs: number;
  readonly maxMs: number;
  readonly count: number;
}

function summarize(times: readonly number[]): Latencies {
  const sorted = times.toSorted((a, b) => a - b);
  return { medianMs: Math.round(sorted[Math.floor(sorted.length / 2)] ?? 0), maxMs: Math.round(sorted.at(-1) ?? 0), count: sorted.length };
}

async function measure({ left, right }: DrivePair): Promise<{ close: Latencies; commit: Latencies }> {
  const { mounts } = JSON.parse(await left.drive.status()) as { mounts: { stateDirectory: string }[] };
  const socket = join(mounts[0]?.stateDirectory ?? '', 'control.sock');
  const [l, r] = [left.probe, right.probe];
  await l.writeFile(left.at('changed'), 'version 0');
  await l.writeFile(left.at('mode'), 'x');
  const textThere = (name: string): Promise<string> => r.readFile(right.at(name)).then(String, (error: Error) => error.message);
  const isThere = (name: string): Promise<string> => r.errno('stat', right.at(name));
  /** A change, how the other side observes it, and the expected result. */
  const kinds: ((round: number) => [() => Promise<unknown>, () => Promise<unknown>, unknown])[] = [
    (round) => [() => l.writeFile(left.at('changed'), `version ${round}`), () => textThere('changed'), `version ${round}`],
    (round) => [() => l.writeFile(left.at(`new ${round}`), 'content'), () => isThere(`new ${round}`), 'OK'],
    (round) => [
      () => l.ok('chmod', left.at('mode'), 0o600 + (round % 64)),
      async () => (await r.stat('stat', right.at('mode'))).mode & 0o777,
      0o600 + (round % 64),
    ],
    (round) => [() => l.ok('unlink', left.at(`new ${round - 2}`)), () => isThere(`new ${round - 2}`), 'ENOENT'],
  ];
  await ask(
    () => isThere('mode'),
    (code) => code === 'OK',
    patienceMs,
  );
  const times = { close: [] as number[], commit: [] as number[] };
  for (let round = 0; round < 2 * count; round++) {
    const [change, look, wanted] = kinds[round % kinds.length]!(round);
    await look();
    // A change may come at any time between two polls.
    await wait(Math.random() * 700);
    const how = round < count ? 'close' : 'commit';
    await change();
    let startMs = performance.now();
    if (how === 'commit') {
      const seen = ask(look, (answer) => answer === wanted, patienceMs).then(() => performance.now());
      await askDaemon(socket, { method: 'flush' });
      startMs = performance.now();
      times.commit.push(Math.max(0, (await seen) - startMs));
    } else {
      await ask(look, (answer) => answer === wanted, patienceMs);
      times.close.push(performance.now() - startMs);
    }
  }
  return { close: summarize(times.close), commit: summarize(times.commit) };
}

const scratch = await mkdtemp(join(values.scratch ?? tmpdir(), 'commit-latency-'));
const results: Record<string, unknown> = {};
for (const kind of storeKindsOf(values.stores)) {
  const why = whyNoStore(kind);
  if (why !== undefined) {
    if (!values.json) print(`${kind}: skipped, ${why}`);
    continue;
  }
  const folder = join(scratch, kind);
  const server = await startStoreServer(kind, join(folder, 'server'));
  const drives: Drive[] = [];
  try {
    const pair = await DrivePair.start({ scratch: folder, store: await server.location('latency'), environment: server.environment }, (drive) =>
      drives.push(drive),
    );
    const result = await measure(pair);
    results[kind] = result;
    const show = ({ medianMs, maxMs, count: n }: Latencies): string => `median ${medianMs} ms, maximum ${maxMs} ms (${n})`;
    if (!values.json) print(`${kind}: from commit ${show(result.commit)}; from close ${show(result.close)}`);
    await pair.unmount();
  } finally {
    for (const drive of drives) await drive.destroy();
    await server.stop();
  }
}
await rm(scratch, { recursive: true, force: true });
if (values.json) print(JSON.stringify(results));
