/** The HTTP transport below the stores: bandwidth limits, and how they share connections and deadlines. */
import t from 'tap';
import { systemClock } from '../../src/base/clock.js';
import { RateLimit } from '../../src/base/rate-limit.js';
import type { HttpTransportOptions } from '../../src/store/http-transport.js';
import { HttpTransport } from '../../src/store/http-transport.js';
import { ManualClock } from '../suite/manual-clock.js';
import { SimulatedDisk } from '../suite/simulated-disk.js';
import { writeWhole } from '../suite/whole-file.js';
import type { Script } from '../support/scripted-server.js';
import { ScriptedServer } from '../support/scripted-server.js';

type Test = typeof t;

async function serve(
  t: Pick<Test, 'teardown'>,
  script: Script,
  options: HttpTransportOptions = {},
): Promise<{ readonly server: ScriptedServer; readonly transport: HttpTransport }> {
  const server = await ScriptedServer.start(script);
  const transport = new HttpTransport(new URL(server.origin), options);
  t.teardown(async () => {
    await transport.close();
    await server.stop();
  });
  return { server, transport };
}

const request = { method: 'GET', target: '/', headers: {}, answerMax: 10_000_000, doing: 'trying' };

t.test('bodies in both directions keep to the limits that all requests share', async (t) => {
  // The clock of the limits only: everything else runs in real time.
  const clock = new ManualClock();
  const disk = new SimulatedDisk();
  const bandwidth = { upload: new RateLimit(clock, 100_000), download: new RateLimit(clock, 200_000) };
  const { server, transport } = await serve(
    t,
    ({ method }, answer) => void answer.writeHead(200).end(method === 'GET' ? Buffer.alloc(1_000_000) : undefined),
    { bandwidth, disk },
  );
  let startMs = clock.monotonicMs();
  const bytes = Buffer.alloc(500_000, 'x');
  const path = await writeWhole(disk, '/body', bytes);
  await Promise.all([
    transport.request({ ...request, method: 'PUT', body: bytes }),
    transport.request({ ...request, method: 'PUT', body: { path, size: bytes.length } }),
  ]);
  t.ok(
    server.requests.every(({ body }) => body.equals(bytes)),
    'what arrives is what was sent',
  );
  const upMs = clock.monotonicMs() - startMs;
  t.ok(upMs > 8_000 && upMs < 11_000, `a million bytes up took ${upMs} ms`);
  startMs = clock.monotonicMs();
  const answers = await Promise.all([transport.request(request), transport.request(request)]);
  t.ok(answers.every(({ body }) => body.length === 1_000_000));
  const downMs = clock.monotonicMs() - startMs;
  t.ok(downMs > 8_000 && downMs < 11_000, `two million bytes down took ${downMs} ms`);
  t.equal(clock.sleeps.length > 10, true, 'they are spread, not held back at the end');
});

t.test('the watch for silent servers does not mistake a limit for silence', async (t) => {
  const bandwidth = { upload: new RateLimit(systemClock, 200_000), download: new RateLimit(systemClock, 200_000) };
  const { transport } = await serve(t, ({ method }, answer) => void answer.writeHead(200).end(method === 'GET' ? Buffer.alloc(600_000) : undefined), {
    bandwidth,
    idleMs: 400,
  });
  const [, answer] = await Promise.all([transport.request({ ...request, method: 'PUT', body: Buffer.alloc(600_000) }), transport.request(request)]);
  t.equal(answer.body.length, 600_000);
});

t.test('a limit that was lifted no longer slows anything', async (t) => {
  const clock = new ManualClock();
  const bandwidth = { upload: new RateLimit(clock, 1), download: new RateLimit(clock, 1) };
  const { transport } = await serve(t, (_, answer) => void answer.writeHead(200).end(Buffer.alloc(100_000)), { bandwidth });
  bandwidth.upload.bytesPerSecond = bandwidth.download.bytesPerSecond = undefined;
  await transport.request({ ...request, method: 'PUT', body: Buffer.alloc(100_000) });
  t.same(clock.sleeps, []);
});

t.test('our own delay is not taken for a slow server', async (t) => {
  // The limit and the deadline share one clock: a hundred minutes pass, none of them due to the server.
  const clock = new ManualClock();
  const bandwidth = { upload: new RateLimit(clock), download: new RateLimit(clock, 100) };
  const { transport } = await serve(t, (_, answer) => void answer.writeHead(200).end(Buffer.alloc(600_000)), {
    bandwidth,
    clock: {
      now: () => clock.now(),
      monotonicMs: () => clock.monotonicMs(),
      // Deadlines expire by that clock.
      async sleep(delayMs, signal) {
        const endMs = clock.monotonicMs() + delayMs;
        while (clock.monotonicMs() < endMs) {
          await new Promise((resolve) => setImmediate(resolve));
          signal?.throwIfAborted();
        }
      },
    },
  });
  const { body } = await transport.request(request);
  t.equal(body.length, 600_000);
  t.ok(clock.sleeps.reduce((sum, ms) => sum + ms, 0) > 3_000_000);
});

t.test('a small answer is not held up by large ones, but counts', async (t) => {
  const clock = new ManualClock();
  const download = new RateLimit(clock, 1000);
  const { transport } = await serve(t, (_, answer) => void answer.writeHead(200).end(Buffer.alloc(10_000)), {
    bandwidth: { upload: new RateLimit(clock), download },
  });
  await transport.request(request);
  await transport.request(request);
  t.same(clock.sleeps, []);
  await download.take(1);
  t.ok(clock.sleeps.reduce((sum, ms) => sum + ms, 0) >= 19_000);
});
