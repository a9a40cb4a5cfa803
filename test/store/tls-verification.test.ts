/** Certificates are verified whatever the environment says: no untrusted server or proxy ever gets a token. */
import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Test } from 'tap';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { openStore } from '../../src/store/open-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { makeCertificate, reasonToSkip } from '../support/server-process.js';

const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);
const skip = reasonToSkip('http', ['openssl']) ?? false;

/** A variable that a user might have set to make another program work. */
process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
/** Node.js warns once that it has read the variable. That warning is expected; others are printed as usual. */
const warned: string[] = [];
const printers = process.listeners('warning');
process.removeAllListeners('warning').on('warning', (warning) => {
  if (warning.message.includes('NODE_TLS_REJECT_UNAUTHORIZED')) warned.push(warning.message);
  else for (const print of printers) print(warning);
});

interface Place {
  readonly port: number;
  readonly certificate: string;
  /** The received requests, with their credentials. */
  readonly heard: string[];
  /** A directory with all credentials of the test, for localhost. */
  readonly home: string;
}

async function place(t: Test): Promise<Place> {
  const home = await scratchDirectory(t);
  const made = makeCertificate(home, 'alone', 'DNS:localhost,IP:127.0.0.1', 30);
  const heard: string[] = [];
  const server = createServer({ cert: readFileSync(made.certificate), key: readFileSync(made.key) }, (request, answer) => {
    heard.push(`${request.method} ${request.headers.authorization ?? 'without credentials'}`);
    const isAsking = request.headers.authorization === undefined;
    answer.writeHead(isAsking ? 401 : 404, { sealdrive: '1', 'www-authenticate': 'Basic realm="drive"' }).end();
  });
  server.on('connect', (request) => heard.push(`CONNECT ${request.headers['proxy-authorization'] ?? ''}`));
  await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
  t.teardown(() => {
    server.closeAllConnections();
    return new Promise((settle) => server.close(settle));
  });
  const { port } = server.address() as AddressInfo;
  await writeFile(join(home, 'netrc'), `machine localhost:${port} login alice password secret\n`, { mode: 0o600 });
  await writeFile(join(home, 'photos.token'), 'TOKEN', { mode: 0o600 });
  return { port, certificate: made.certificate, heard, home };
}

const kinds: Readonly<Record<string, (place: Place, more: string) => string>> = {
  S3: ({ port }, more) => `s3://bucket/prefix?endpoint=https://localhost:${port}${more}`,
  WebDAV: ({ port }, more) => `webdav+https://localhost:${port}/drive?${more.slice(1)}`,
  serve: ({ port, home }, more) => `https://localhost:${port}/photos?token-file=${encodeURIComponent(join(home, 'photos.token'))}${more}`,
};

async function open(t: Test, location: string, { home }: Place, env: Readonly<Record<string, string>> = {}): Promise<ObjectStore> {
  const credentials = { AWS_ACCESS_KEY_ID: 'KEY', AWS_SECRET_ACCESS_KEY: 'SECRET', CREDENTIALS_DIRECTORY: home };
  const store = await openStore(location, { disk: systemDisk, random, env: { ...credentials, ...env } });
  t.teardown(() => store.close());
  return store;
}

for (const [kind, locationOf] of Object.entries(kinds)) {
  t.test(`${kind}: nothing is sent to a server with an untrusted certificate, also through a proxy`, { skip }, async (t) => {
    const at = await place(t);
    const store = await open(t, locationOf(at, ''), at);
    const refused = { code: 'UNAVAILABLE', retryAfterMs: Infinity, message: /made by nobody whom this machine trusts/ };
    await t.rejects(store.head('keys/a'), refused);
    const tunnel = await FaultProxy.start(at.port, random, { tunnel: true });
    t.teardown(() => tunnel.stop());
    const tunnelled = await open(t, locationOf(at, ''), at, { https_proxy: `http://127.0.0.1:${tunnel.port}` });
    await t.rejects(tunnelled.head('keys/a'), refused);
    t.same(at.heard, []);
    const own = await open(t, locationOf(at, `&ca=${encodeURIComponent(at.certificate)}`), at);
    t.equal(await own.head('keys/a'), undefined, 'with its own authority it is believed');
    t.ok(at.heard.length > 0);
  });

  t.test(`${kind}: nothing is sent to a proxy with an untrusted certificate`, { skip }, async (t) => {
    const at = await place(t);
    const unverified = '&tls=insecure-no-verification';
    const proxied = await open(t, locationOf(at, unverified), at, { https_proxy: `https://alice:secret@localhost:${at.port}` });
    await t.rejects(proxied.head('keys/a'), { code: 'UNAVAILABLE' });
    t.same(at.heard, []);
  });

  t.test(`${kind}: only the explicit option switches verification off, and this is reported`, { skip }, async (t) => {
    const at = await place(t);
    const store = await open(t, locationOf(at, '&tls=insecure-no-verification'), at);
    t.equal(await store.head('keys/a'), undefined);
    t.ok(at.heard.length > 0);
    t.match(store.description, /whose certificate is NOT verified/);
    const verified = await open(t, locationOf(at, ''), at);
    t.notMatch(verified.description, /verified/);
    await t.rejects(open(t, locationOf(at, '&tls=no'), at), { code: 'MALFORMED', message: /insecure-no-verification/ });
    const both = `&tls=insecure-no-verification&ca=${encodeURIComponent(at.certificate)}`;
    await t.rejects(open(t, locationOf(at, both), at), { code: 'MALFORMED', message: /exclude each other/ });
  });
}

t.test('Node.js itself honours the variable', { skip }, async (t) => {
  t.equal(warned.length, 1);
});
