/**
 * Clients that try to exhaust the server: connections, memory, log lines and space for uploads are all bounded, and
 * clients with a token are served meanwhile.
 */

import { EventEmitter } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { Agent, request as httpRequest } from 'node:http';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { partyOf } from '../../src/server/client-address.js';
import { Connections } from '../../src/server/connections.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { asSealed } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { findProgram, makeCertificate } from '../support/server-process.js';
import { eventually, RawClient, statusesOf } from './raw-client.js';
import type { ServedOptions } from './served.js';
import { Served } from './served.js';

const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);
const scratch = await scratchDirectory(t);
let count = 0;
const stranger = `sealdrive_${'a'.repeat(12)}_${'b'.repeat(64)}`;

async function serve(t: Test, options: Partial<ServedOptions> = {}): Promise<Served> {
  const folder = join(scratch, `server-${count++}`);
  await mkdir(folder);
  const served = await Served.start({ base: new MemoryStore({ disk: systemDisk }), folder, random, ...options });
  t.teardown(() => served.server.stop(0));
  return served;
}

const get = (target: string, token: string, ...headers: string[]): string =>
  [`GET ${target} HTTP/1.1`, 'host: h', `authorization: Bearer ${token}`, ...headers, '', ''].join('\r\n');
const measured = (served: Served, name: string): number =>
  Number(new RegExp(`^sealdrive_${name} (\\d+)$`, 'm').exec(served.server.measure().text())?.[1]);

/** A client with one persistent connection. */
function keptClient(t: Test, served: Served, token: string): () => Promise<number | undefined> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  t.teardown(() => agent.destroy());
  return () =>
    new Promise((resolve, reject) => {
      const headers = { authorization: `Bearer ${token}` };
      const asked = httpRequest(`${served.origin}/photos?info`, { agent, headers }, (answer) => {
        answer.resume().on('end', () => resolve(answer.statusCode));
      });
      asked.on('error', reject).end();
    });
}

t.test('the connection is closed after a request without a valid token, however many follow it', async (t) => {
  const served = await serve(t);
  for (const [name, text] of Object.entries({
    'one alone': get('/photos?info', stranger),
    'many at once': get('/photos?info', stranger).repeat(20_000),
    'many with a strange expectation': get('/photos?info', stranger, 'expect: a miracle').repeat(1000),
    'a body without end': `PUT /photos/keys/x HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\nexpect: 100-continue\r\n\r\n`,
  })) {
    const before = served.access.length;
    const client = await RawClient.connect(served.server.port);
    client.send(text);
    // A connection that is closed while it sends may lose the answer too.
    const statuses = statusesOf(await client.rest());
    t.ok(statuses.length <= 1 && statuses.every((status) => status === 401), name);
    t.ok(served.access.length <= before + 1, name);
  }
  await eventually(() => measured(served, 'connections') === 0);
});

t.test('pipelined requests are bounded in number, and a stopping server does not wait for them', async (t) => {
  const served = await serve(t, { limits: { pipelinedMax: 4 } });
  const token = await served.token('read');
  const wait = get('/photos/log/1?wait=60000', token);
  const greedy = await RawClient.connect(served.server.port);
  greedy.send(wait.repeat(20_000));
  t.same(statusesOf(await greedy.rest()), []);
  await eventually(() => measured(served, 'waiters') === 0);
  const modest = await RawClient.connect(served.server.port);
  modest.send(wait.repeat(4));
  await eventually(() => measured(served, 'waiters') === 1);
  // Nothing more is read: later bytes stay in the network's buffers.
  modest.send(wait.repeat(10_000));
  t.equal(await served.server.stop(60_000), true, 'nothing was cut');
  t.same(statusesOf(await modest.rest()), [503]);
});

t.test('pipelined requests are answered in order, even when the client reads the answers late', async (t) => {
  const base = new MemoryStore({ disk: systemDisk });
  const served = await serve(t, { base });
  const token = await served.token('read');
  await base.put('photos/packs/ab/large', asSealed(new Uint8Array(8 * 1024 * 1024)));
  const client = await RawClient.connect(served.server.port);
  client.socket.pause();
  client.send(get('/photos/packs/ab/large', token).repeat(3) + get('/photos?info', token, 'connection: close'));
  await eventually(() => measured(served, 'requests') === 1);
  t.equal(served.access.length, 0, 'the second one is not begun before the first is read');
  client.socket.resume();
  t.same(statusesOf(await client.rest()), [200, 200, 200, 200]);
});

t.test('connections without a token take no place from those with one', async (t) => {
  const served = await serve(t, { limits: { strangersMax: 8, strangersPerAddressMax: 4 } });
  const ask = keptClient(t, served, await served.token('read'));
  t.equal(await ask(), 200);
  const strangers: RawClient[] = [];
  for (let at = 0; at < 100; at++) {
    strangers.push(await RawClient.connect(served.server.port));
    strangers.at(-1)?.send(at % 2 === 0 ? 'GET /photos HTTP/1.1\r\n' : '');
  }
  await eventually(() => measured(served, 'strangers') === 4);
  t.equal(await ask(), 200, 'the connection with a token is still there');
  const late = keptClient(t, served, await served.token('read'));
  t.equal(await late(), 200, 'and a new one comes in');
  t.match(served.server.measure().text(), /sealdrive_dropped_connections_total\{who="stranger"\} \d\d/);
  for (const client of strangers) client.end();
});

t.test('the idle connections of one token are bounded in number', async (t) => {
  const served = await serve(t, { limits: { requestsMax: 2, requestsPerTokenMax: 1, waitersMax: 2, waitersPerTokenMax: 1 } });
  const token = await served.token('read');
  const ask = keptClient(t, served, await served.token('read'));
  t.equal(await ask(), 200);
  const clients: RawClient[] = [];
  for (let at = 0; at < 100; at++) {
    const client = await RawClient.connect(served.server.port);
    clients.push(client);
    client.send(get('/photos?info', token));
    await client.until(/200 OK[^]*\}\n/);
  }
  await eventually(() => measured(served, 'connections') === 1 + 1 + 1 + 64);
  t.match(served.server.measure().text(), /sealdrive_dropped_connections_total\{who="known"\} 34/);
  t.equal(await ask(), 200, 'another token loses nothing by it');
  for (const client of clients) client.end();
});

t.test('a connection that presents no token in time is closed, whatever else it does', async (t) => {
  const openssl = findProgram('openssl') !== undefined;
  const folder = join(scratch, 'tls');
  await mkdir(folder);
  const made = openssl ? makeCertificate(folder, 'here', 'IP:127.0.0.1', 30) : undefined;
  const tls = made && { certificate: { cert: readFileSync(made.certificate, 'utf8'), key: readFileSync(made.key, 'utf8') } };
  const served = await serve(t, { limits: { headMs: 200 }, ...tls });
  const silent = await RawClient.connect(served.server.port);
  const chatty = await RawClient.connect(served.server.port);
  // Empty lines do not start a request; over TLS they are no handshake either.
  const talk = setInterval(() => chatty.send('\r\n'), 50);
  await Promise.all([silent.rest(), chatty.rest()]);
  clearInterval(talk);
  await eventually(() => measured(served, 'connections') === 0);
});

t.test('refused requests do not fill the log', async (t) => {
  const served = await serve(t);
  const reader = await served.token('read');
  const refuse = async (token: string): Promise<void> => {
    const answer = await fetch(`${served.origin}/photos/keys/x`, { method: 'DELETE', headers: { authorization: `Bearer ${token}` } });
    t.ok([401, 403].includes(answer.status), String(answer.status));
  };
  for (let at = 0; at < 300; at++) await refuse(stranger);
  for (let at = 0; at < 300; at++) await refuse(reader);
  const lines = (status: number): number => served.access.filter((entry) => entry['status'] === status).length;
  // A hundred, and ten for each second that it takes.
  t.ok(lines(401) < 290 && lines(401) >= 100, String(lines(401)));
  t.ok(lines(403) < 290 && lines(403) >= 100, String(lines(403)));
  await fetch(`${served.origin}/photos?info`, { headers: { authorization: `Bearer ${reader}` } });
  await eventually(() => served.access.some(({ operation }) => operation === 'info'));
  const told = served.access.reduce((sum, { withheld }) => sum + Number(withheld ?? 0), 0);
  t.equal(served.access.length + told, 601, 'the lines that are missing are counted');
});

t.test('unfinished uploads take a bounded amount of space', async (t) => {
  const served = await serve(t, { limits: { objectMax: 1_000_000, uploadingPerTokenMax: 2_500_000, uploadingMax: 4_000_000 } });
  const [one, two] = [await served.token('append'), await served.token('append')];
  const clients: RawClient[] = [];
  const begin = async (token: string): Promise<RawClient> => {
    const client = await RawClient.connect(served.server.port);
    clients.push(client);
    client.send(`PUT /photos/packs/ab/${clients.length} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer ${token}\r\ncontent-length: 1000000\r\n\r\nabc`);
    return client;
  };
  await begin(one);
  await begin(one);
  await eventually(() => measured(served, 'requests') === 2);
  t.match(await (await begin(one)).until(/TOKEN_BUSY/), /429[^]*retry-after: 1/);
  await begin(two);
  await begin(two);
  await eventually(() => measured(served, 'requests') === 4);
  t.match(await (await begin(await served.token('append'))).until(/BUSY/), /503[^]*retry-after: 1/);
  for (const client of clients) client.end();
  await eventually(() => measured(served, 'requests') === 0);
  const { status } = await fetch(`${served.origin}/photos/packs/ab/x`, {
    method: 'PUT',
    body: Buffer.alloc(1_000_000),
    headers: { authorization: `Bearer ${one}` },
  });
  t.equal(status, 201);
});

t.test('all addresses of an IPv6 network count as one client', (t) => {
  for (const [address, party] of [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
    ['2001:0db8:0001:0002::1', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['::1', '0:0:0:0::/64'],
    ['nonsense', 'unknown'],
    [undefined, 'unknown'],
  ] as const) {
    t.equal(partyOf(address), party, address ?? 'none');
  }
  t.end();
});

t.test('the client with the most connections loses one first, and a connection with a token is never closed', (t) => {
  let nowMs = 0;
  let port = 0;
  const ended: string[] = [];
  const connect = (remoteAddress: string): Socket => {
    const name = `${remoteAddress} ${++port}`;
    const socket = Object.assign(new EventEmitter(), { remoteAddress, remotePort: port, destroy: () => ended.push(name) });
    return socket as unknown as Socket;
  };
  const limits = { strangersMax: 6, strangersPerPartyMax: 4, knownMax: 3, knownPerTokenMax: 2, strangerMs: 100, idleMs: 1000 };
  const connections = new Connections(
    limits,
    () => nowMs,
    () => {},
  );
  const admit = (address: string): Socket => {
    const socket = connect(address);
    connections.admit(socket);
    return socket;
  };
  const known = admit('192.0.2.9');
  const connection = connections.of(known);
  if (!connection) throw new Error('it was admitted');
  connections.recognize(connection, 'one');
  t.equal(connections.strangerCount, 0);
  for (let at = 0; at < 5; at++) admit('2001:db8::1');
  t.same(ended, ['2001:db8::1 2'], 'a share of its own is full');
  admit('192.0.2.1');
  admit('192.0.2.2');
  t.equal(connections.strangerCount, 6);
  admit('192.0.2.3');
  t.same(ended.slice(1), ['2001:db8::1 3'], 'others have less');
  const early = admit('192.0.2.4');
  t.same(ended.slice(2), ['2001:db8::1 4']);
  early.emit('close');
  t.equal(connections.strangerCount, 5, 'who leaves makes room');
  nowMs = 101;
  connections.expire();
  t.equal(connections.strangerCount, 0);
  t.equal(connections.count, 1);
  const others = ['two', 'two', 'three'].map((token, at) => {
    nowMs = 200 + at;
    const one = connections.of(admit('192.0.2.1'));
    if (!one) throw new Error('it was admitted');
    connections.recognize(one, token);
    return one;
  });
  t.equal(connections.count, 3, 'the one that was idle longest has left');
  t.equal(connections.of(known)?.isDoubtful, true);
  for (const one of others) one.requestCount = 1;
  nowMs = 5000;
  connections.expire();
  t.equal(connections.count, 3, 'requests have bounds of their own');
  t.end();
});
