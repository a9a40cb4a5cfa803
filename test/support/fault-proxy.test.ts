/** The fault proxy may cut, delay and lose the end of a connection, and never changes what arrives before that. */

import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer } from 'node:net';
import t from 'tap';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { FaultProxy } from './fault-proxy.js';

const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);
const random = new SeededRandom(seed);

/** Sends `bytes` through the proxy; resolves with the received bytes when the connection has ended. */
async function carried(
  t: { teardown(fn: () => unknown): void },
  bytes: Buffer,
  faults: (proxy: FaultProxy, arrived: number) => void,
): Promise<Buffer> {
  const parts: Buffer[] = [];
  let arrived = 0;
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy = await FaultProxy.start((server.address() as AddressInfo).port, random);
  t.teardown(() => proxy.stop());
  faults(proxy, 0);
  const client = connect(proxy.port, '127.0.0.1');
  client.on('error', () => {});
  client.end(bytes);
  const [socket] = (await once(server, 'connection')) as [import('node:net').Socket];
  socket.on('error', () => {});
  socket.on('data', (part: Buffer) => {
    parts.push(part);
    arrived += part.byteLength;
    faults(proxy, arrived);
  });
  await once(socket, 'close');
  await new Promise((settle) => server.close(settle));
  return Buffer.concat(parts);
}

t.test('data does not overtake earlier data on a slow link', async (t) => {
  const bytes = Buffer.from(random.bytes(3_000_000));
  const found = await carried(t, bytes, ({ faults }, arrived) => {
    const isSlow = arrived < 300_000;
    faults.latencyMs = isSlow ? 50 : 0;
    faults.bytesPerSecond = isSlow ? 2_000_000 : 0;
  });
  t.ok(found.equals(bytes));
});

t.test('data after a cut does not arrive in place of lost data', async (t) => {
  const bytes = Buffer.from(random.bytes(3_000_000));
  const found = await carried(t, bytes, ({ faults }) => {
    faults.cutChance = 0.2;
  });
  t.ok(found.byteLength < bytes.byteLength);
  t.ok(found.equals(bytes.subarray(0, found.byteLength)));
});
