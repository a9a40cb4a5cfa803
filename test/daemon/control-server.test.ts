/** The control socket, without a mount: requests, answers, and those who should not ask. */
import { statSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { silentLog } from '../../src/base/log.js';
import { askDaemon } from '../../src/cli/control-client.js';
import { decodeControlRequest, nothingPending } from '../../src/daemon/control-protocol.js';
import type { DaemonStatus } from '../../src/daemon/control-protocol.js';
import { ControlError, ControlServer } from '../../src/daemon/control-server.js';
import type { ControlHandler } from '../../src/daemon/control-server.js';
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
  pin: () => Promise.resolve({ pins: [] }),
  unpin: () => Promise.resolve(true),
  pins: () => Promise.resolve({ pins: [] }),
  files: () => Promise.resolve({ files: [] }),
  limit: ({ upload = 7, download = null }) => ({ upload, download }),
  unmount: ({ force }) => (force ? Promise.resolve({ left: nothingPending }) : Promise.reject(new ControlError('BUSY', 'files are open'))),
};

/** Everything that the server says to raw text. */
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
  const server = await ControlServer.listen(path, handler, () => true, silentLog);
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

t.test('what is not a request is answered with an error, and what never ends is cut off', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  const server = await ControlServer.listen(path, handler, () => true, silentLog);
  t.teardown(() => server.close());
  for (const text of ['\n', '[]\n', '{"method":"format"}\n', 'hello\n']) t.match(await talk(path, text), /"code":"PROTOCOL"/, text);
  t.equal(await talk(path, 'x'.repeat(10_000)), '');
  t.match(await talk(path, '{"method":"status"}\n{"method":"unmount","force":true}\n'), /^\{"result":[^\n]*\n$/, 'one request a connection');
});

t.test('another user is refused before a word', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  const server = await ControlServer.listen(path, handler, () => false, silentLog);
  t.teardown(() => server.close());
  t.equal(await talk(path, '{"method":"status"}\n'), '');
});

t.test('a client that goes away gives up its flush', async (t) => {
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
  const server = await ControlServer.listen(path, { ...handler, flush }, () => true, silentLog);
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
  const server = await ControlServer.listen(path, handler, () => true, silentLog);
  t.strictSame(await askDaemon(path, { method: 'status' }), status);
  await server.close();
});

t.test('only well-formed requests are decoded', async (t) => {
  t.strictSame(decodeControlRequest('{"method":"unmount"}'), { method: 'unmount', force: false, timeoutMs: undefined });
  t.strictSame(decodeControlRequest('{"method":"unmount","force":"yes","timeoutMs":-1}'), { method: 'unmount', force: false, timeoutMs: undefined });
  t.strictSame(decodeControlRequest('{"method":"unmount","force":true,"timeoutMs":5}'), { method: 'unmount', force: true, timeoutMs: 5 });
  t.equal(decodeControlRequest('null'), undefined);
  t.equal(decodeControlRequest('{'), undefined);
});

t.test('a limit is a number of bytes, none at all, or no request', async (t) => {
  const path = join(await scratchDirectory(t), 'control.sock');
  const server = await ControlServer.listen(path, handler, () => true, silentLog);
  t.teardown(() => server.close());
  t.same(await askDaemon(path, { method: 'limit', upload: 1000, download: null }), { upload: 1000, download: null });
  t.same(await askDaemon(path, { method: 'limit' }), { upload: 7, download: null });
  for (const rate of ['0', '-1', '1.5', '"1M"', '{}']) {
    t.match(await talk(path, `{"method":"limit","upload":${rate}}\n`), /"PROTOCOL"/, rate);
  }
});
