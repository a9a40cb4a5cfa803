/** The control socket, without a mount: requests, answers, and clients that are refused. */
import { mkdirSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { ControlError } from '../../src/daemon/control-error.js';
import type { DaemonStatus } from '../../src/daemon/control-protocol.js';
import { decodeControlRequest, nothingPending } from '../../src/daemon/control-protocol.js';
import type { ControlHandler, PeerCheck } from '../../src/daemon/control-server.js';
import { ControlServer } from '../../src/daemon/control-server.js';
import { askDaemon } from '../../src/program/control-client.js';
import { scratchDirectory } from '../suite/scratch.js';

const status: DaemonStatus = {
  volumeId: 'ab',
  store: 'memory',
  mountPoint: '/mnt',
  driver: 'none',
  readOnly: false,
  pid: 1,
  version: '0',
  startedAtMs: 0,
  state: 'serving',
  pending: nothingPending,
  statistics: { files: 1, bytes: 2 },
  details: {},
};

const handler: ControlHandler = {
  status: () => status,
  flush: (onProgress) => {
    onProgress({ ...nothingPending, uploadedBytes: 1 });
    onProgress({ ...nothingPending, uploadedBytes: 2 });
    return Promise.resolve();
  },
  collect: () => Promise.reject(new Error('nothing to collect')),
  pin: () => Promise.resolve({ pins: [] }),
  unpin: () => Promise.resolve(true),
  pins: () => Promise.resolve({ pins: [] }),
  files: () => Promise.resolve({ files: [] }),
  past: () => Promise.resolve({ snapshots: [] }),
  limit: ({ upload = 7, download = null }) => ({ upload, download }),
  unmount: ({ force }) => (force ? Promise.resolve({ left: nothingPending }) : Promise.reject(new ControlError('BUSY', 'files are open'))),
};

const listen = (path: string, served = handler, identifyPeer: PeerCheck = () => ({ pid: 1 })): Promise<ControlServer> =>
  ControlServer.listen(path, { handler: served, identifyPeer, logger: silentLogger });

/** The server's complete answer to raw text. */
function talk(path: string, text: string): Promise<string> {
  return new Promise((settle) => {
    const socket = connect(path, () => socket.write(text));
    let said = '';
    socket.setEncoding('utf8').on('data', (part: string) => {
      said += part;
    });
    socket.on('error', () => {});
    socket.on('close', () => settle(said));
  });
}

t.test('requests are answered, with progress first', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  const server = await listen(path);
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.strictSame(await askDaemon(path, { method: 'status' }), status);
  const progress: number[] = [];
  await askDaemon(path, { method: 'flush' }, { onProgress: ({ uploadedBytes }) => progress.push(uploadedBytes) });
  t.strictSame(progress, [1, 2]);
  t.strictSame(await askDaemon(path, { method: 'unmount', force: true, timeoutMs: undefined }), { left: nothingPending });
  await t.rejects(askDaemon(path, { method: 'unmount', force: false, timeoutMs: undefined }), { code: 'MOUNT_POINT', message: 'files are open' });
  await server.close();
  t.equal(await askDaemon(path, { method: 'status' }), undefined, 'nobody listens any more');
});

t.test('a malformed request is answered with an error, and one that never ends is cut off', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  const server = await listen(path);
  t.teardown(() => server.close());
  for (const text of ['\n', '[]\n', '{"method":"format"}\n', 'hello\n']) t.match(await talk(path, text), /"code":"PROTOCOL"/, text);
  t.equal(await talk(path, 'x'.repeat(10_000)), '');
  t.match(await talk(path, '{"method":"status"}\n{"method":"unmount","force":true}\n'), /^\{"result":[^\n]*\n$/, 'one request a connection');
});

t.test('another user is refused before anything is read', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  const server = await listen(path, handler, () => undefined);
  t.teardown(() => server.close());
  t.equal(await talk(path, '{"method":"status"}\n'), '');
});

t.test('a client that disconnects gives up its flush', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  let begun: () => void;
  const hasBegun = new Promise<void>((resolve) => {
    begun = resolve;
  });
  let givenUp: () => void;
  const isGivenUp = new Promise<void>((resolve) => {
    givenUp = resolve;
  });
  const flush = (_: unknown, signal: AbortSignal): Promise<void> => {
    begun();
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => {
        givenUp();
        reject(new ControlError('PENDING', 'given up'));
      });
    });
  };
  const server = await listen(path, { ...handler, flush });
  const patience = new AbortController();
  const asked = askDaemon(path, { method: 'flush' }, { signal: patience.signal });
  await hasBegun;
  patience.abort(new Error('no longer'));
  await t.rejects(asked, { message: 'no longer' });
  await isGivenUp;
  await server.close();
});

t.test('the socket of a dead daemon is replaced', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  writeFileSync(path, '');
  const server = await listen(path);
  t.strictSame(await askDaemon(path, { method: 'status' }), status);
  await server.close();
});

/** Silent connections of one process. */
async function connectIdle(path: string, count: number): Promise<Socket[]> {
  const sockets: Socket[] = [];
  for (let made = 0; made < count; made++) {
    const socket = connect(path).on('error', () => {});
    await new Promise<void>((resolve) => socket.once('connect', resolve));
    sockets.push(socket);
  }
  return sockets;
}

t.test('silent connections of one process or of many do not shut out others', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  for (const spread of [1, 100]) {
    let count = 0;
    const server = await listen(path, handler, () => ({ pid: count++ % spread }));
    const idle = await connectIdle(path, 600);
    t.strictSame(await askDaemon(path, { method: 'status' }), status, `${spread} processes`);
    for (const socket of idle) socket.destroy();
    await server.close();
  }
});

t.test('a process with many long requests does not shut out another', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  let pid = 1;
  const flush = (_: unknown, signal: AbortSignal): Promise<void> =>
    new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new ControlError('PENDING', 'given up'))));
  const server = await listen(path, { ...handler, flush }, () => ({ pid }));
  t.teardown(() => server.close());
  const greedy = await connectIdle(path, 300);
  t.teardown(() => {
    for (const socket of greedy) socket.destroy();
  });
  for (const socket of greedy) socket.write('{"method":"flush"}\n');
  pid = 2;
  t.strictSame(await askDaemon(path, { method: 'status' }), status);
  t.strictSame(await askDaemon(path, { method: 'unmount', force: true, timeoutMs: undefined }), { left: nothingPending });
});

t.test('a client that does not close after its answer is disconnected', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  const server = await ControlServer.listen(path, { handler, identifyPeer: () => ({ pid: 1 }), logger: silentLogger, patienceMs: 10 });
  const socket = connect({ path, allowHalfOpen: true });
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.resume().write('{"method":"status"}\n');
  socket.on('error', () => {});
  await new Promise((resolve) => socket.once('end', resolve));
  await server.close();
  socket.destroy();
  await closed;
});

t.test('a removed socket is made again, elsewhere when its folder is gone, and connections stay open', async (t) => {
  const folder = await scratchDirectory(t);
  const [first, second] = [join(folder, 'state', 'control.sock'), join(folder, 'control.sock')];
  mkdirSync(join(folder, 'state'));
  const server = await listen(first);
  t.equal(server.isInPlace(), true);
  unlinkSync(first);
  t.equal(server.isInPlace(), false);
  await server.move([first, second]);
  t.equal(server.path, first);
  t.strictSame(await askDaemon(first, { method: 'status' }), status);
  rmSync(join(folder, 'state'), { recursive: true });
  await server.move([first, second]);
  t.equal(server.path, second);
  t.strictSame(await askDaemon(second, { method: 'status' }), status);
  await server.close();
  t.equal(await askDaemon(second, { method: 'status' }), undefined);
});

t.test('only well-formed requests are decoded', async (t) => {
  t.strictSame(decodeControlRequest('{"method":"unmount"}'), { method: 'unmount', force: false, timeoutMs: undefined });
  t.strictSame(decodeControlRequest('{"method":"unmount","force":"yes","timeoutMs":-1}'), { method: 'unmount', force: false, timeoutMs: undefined });
  t.strictSame(decodeControlRequest('{"method":"unmount","force":true,"timeoutMs":5}'), { method: 'unmount', force: true, timeoutMs: 5 });
  t.equal(decodeControlRequest('null'), undefined);
  t.equal(decodeControlRequest('{'), undefined);
});

t.test('a limit must be a number of bytes or none', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  const server = await listen(path);
  t.teardown(() => server.close());
  t.same(await askDaemon(path, { method: 'limit', upload: 1000, download: null }), { upload: 1000, download: null });
  t.same(await askDaemon(path, { method: 'limit' }), { upload: 7, download: null });
  for (const rate of ['0', '-1', '1.5', '"1M"', '{}']) {
    t.match(await talk(path, `{"method":"limit","upload":${rate}}\n`), /"PROTOCOL"/, rate);
  }
});
