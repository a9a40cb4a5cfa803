/**
 * S3 for tests: Ceph's RADOS Gateway with one monitor and one storage daemon, all on loopback and in memory. Packages
 * `radosgw`, `ceph-mon` and `ceph-osd`.
 */

import { randomUUID } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { sha256Hex } from '../../src/store/request-digest.js';
import { encodeQuery, signRequest } from '../../src/store/sigv4.js';
import { freePort, isListening, makeCertificate, reasonToSkip, runTool, ServerProcess } from './server-process.js';

export const skipS3 = (): string | undefined =>
  reasonToSkip('s3', ['radosgw', 'radosgw-admin', 'ceph-mon', 'ceph-osd', 'ceph', 'monmaptool', 'openssl']);

export interface RgwUser {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export class Rgw {
  readonly port: number;
  readonly tlsPort: number;
  /** PEM. */
  readonly authorities: string;
  /** Of {@link authorities}. */
  readonly authoritiesPath: string;
  readonly user: RgwUser = { accessKeyId: 'TESTKEY', secretAccessKey: 'TESTSECRET' };
  readonly #configuration: string;
  readonly #processes: Readonly<Record<'monitor' | 'storage' | 'gateway', ServerProcess>>;

  private constructor(
    configuration: string,
    ports: readonly [number, number],
    authorities: string,
    authoritiesPath: string,
    processes: Readonly<Record<'monitor' | 'storage' | 'gateway', ServerProcess>>,
  ) {
    this.#configuration = configuration;
    [this.port, this.tlsPort] = ports;
    this.authorities = authorities;
    this.authoritiesPath = authoritiesPath;
    this.#processes = processes;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** `folder` must be empty; the caller removes it after {@link stop}. */
  static async start(folder: string): Promise<Rgw> {
    const [port, tlsPort, monitorPort] = [await freePort(), await freePort(), await freePort()];
    for (const name of ['mon', 'osd', 'run', 'log']) await mkdir(join(folder, name));
    const tls = makeCertificate(folder, 'rgw', 'DNS:localhost,DNS:*.localhost,IP:127.0.0.1', 30);
    await writeFile(join(folder, 'both.pem'), (await readFile(tls.key, 'utf8')) + (await readFile(tls.certificate, 'utf8')));
    const fsid = randomUUID();
    const configuration = join(folder, 'ceph.conf');
    await writeFile(configuration, cephConfiguration(folder, fsid, monitorPort, port, tlsPort));
    const map = join(folder, 'monmap');
    const ceph = (...words: string[]): string => runTool('ceph', ['-c', configuration, '--connect-timeout', '10', ...words]);
    runTool('monmaptool', ['--create', '--clobber', '--addv', 'a', `[v1:127.0.0.1:${monitorPort}]`, '--fsid', fsid, map]);
    runTool('ceph-mon', ['-c', configuration, '--mkfs', '-i', 'a', '--monmap', map]);
    const started: ServerProcess[] = [];
    const start = (program: string, ...words: string[]): ServerProcess => {
      const server = new ServerProcess(program, ['-c', configuration, '-f', ...words]);
      started.push(server);
      return server;
    };
    try {
      const monitor = start('ceph-mon', '-i', 'a');
      await monitor.ready(() => isListening(monitorPort));
      const storageId = randomUUID();
      ceph('osd', 'new', storageId);
      runTool('ceph-osd', ['-c', configuration, '-i', '0', '--mkfs', '--osd-uuid', storageId]);
      const storage = start('ceph-osd', '-i', '0');
      ceph('osd', 'crush', 'add', 'osd.0', '1', 'host=localhost', 'root=default');
      const gateway = start('radosgw', '-n', 'client.rgw');
      await gateway.ready(() => isListening(port));
      const rgw = new Rgw(configuration, [port, tlsPort], await readFile(tls.certificate, 'utf8'), tls.certificate, { monitor, storage, gateway });
      rgw.makeUser('test', rgw.user);
      return rgw;
    } catch (error) {
      for (const server of started) await server.kill();
      throw error;
    }
  }

  makeUser(name: string, user: RgwUser): void {
    const words = [
      'user',
      'create',
      `--uid=${name}`,
      `--display-name=${name}`,
      `--access-key=${user.accessKeyId}`,
      `--secret=${user.secretAccessKey}`,
    ];
    this.admin(...words);
  }

  /** `radosgw-admin` with these words. */
  admin(...words: readonly string[]): string {
    return runTool('radosgw-admin', ['-c', this.#configuration, '-n', 'client.rgw', ...words]);
  }

  /** Makes every request hang, or continue. */
  holdStorage(isHeld: boolean): void {
    this.#processes.storage.signal(isHeld ? 'SIGSTOP' : 'SIGCONT');
  }

  /** Crashes the gateway with kill -9; its data stays. */
  killGateway(): Promise<void> {
    return this.#processes.gateway.kill();
  }

  /** Starts the gateway again after {@link killGateway}, at the same port. */
  async restartGateway(): Promise<void> {
    this.#processes.gateway.restart();
    await this.#processes.gateway.ready(() => isListening(this.port));
  }

  /**
   * Makes an empty bucket, which belongs to {@link user}; `retentionDays`: with Object Lock, and this retention for all
   * that is put.
   */
  async makeBucket(name: string, options: { readonly retentionDays?: number } = {}): Promise<void> {
    const { retentionDays } = options;
    await this.#send(`/${name}`, [], retentionDays === undefined ? {} : { 'x-amz-bucket-object-lock-enabled': 'true' }, '');
    if (retentionDays === undefined) return;
    const rule = `<Rule><DefaultRetention><Mode>GOVERNANCE</Mode><Days>${retentionDays}</Days></DefaultRetention></Rule>`;
    await this.#send(
      `/${name}`,
      [['object-lock', '']],
      {},
      `<ObjectLockConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><ObjectLockEnabled>Enabled</ObjectLockEnabled>${rule}</ObjectLockConfiguration>`,
    );
  }

  async #send(path: string, query: readonly (readonly [string, string])[], more: Readonly<Record<string, string>>, body: string): Promise<void> {
    const payloadHash = sha256Hex(body);
    const headers = signRequest(
      { method: 'PUT', path, query, headers: { host: `127.0.0.1:${this.port}`, 'x-amz-content-sha256': payloadHash, ...more }, payloadHash },
      { credentials: this.user, region: 'us-east-1', service: 's3', timeSec: Math.floor(Date.now() / 1000) },
    );
    const answer = await fetch(`${this.endpoint}${path}?${encodeQuery(query)}`, { method: 'PUT', headers, ...(body === '' ? {} : { body }) });
    if (!answer.ok) throw new Error(`making the bucket: ${answer.status} ${await answer.text()}`);
  }

  async stop(): Promise<void> {
    for (const server of Object.values(this.#processes)) await server.kill();
  }
}

/**
 * A storage daemon that is held for longer than its lease leaves requests waiting forever, since no other daemon renews
 * it.
 */
function cephConfiguration(folder: string, fsid: string, monitorPort: number, port: number, tlsPort: number): string {
  return `[global]
fsid = ${fsid}
mon host = [v1:127.0.0.1:${monitorPort}]
ms bind msgr2 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = ${folder}/run
admin socket = ${folder}/run/$name.asok
log file = ${folder}/log/$name.log
log to stderr = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd pool default read lease ratio = 1000
osd crush chooseleaf type = 0
osd crush update on start = false
osd class update on start = false
osd class load list = *
osd class default list = *
osd objectstore = memstore
memstore device bytes = 6442450944
osd numa auto affinity = false
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon data avail warn = 2
mon osd full ratio = .99
mon osd nearfull ratio = .99
mon cluster log to file = false
paxos propose interval = 0.05
paxos min wait = 0.02
setuser match path =
[mon.a]
mon data = ${folder}/mon
[osd.0]
osd data = ${folder}/osd
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:${port} ssl_endpoint=127.0.0.1:${tlsPort} ssl_certificate=${folder}/both.pem
rgw thread pool size = 64
rgw enable usage log = false
rgw run sync thread = false
rgw enable quota threads = false
rgw dns name = localhost
`;
}
