/**
 * Measures an idle mounted drive while its store cannot be reached and files wait for upload: processor time, memory
 * and connection attempts; then how long it takes until everything is in the store once that answers. Once with a
 * server that refuses, once with a link that swallows everything.
 *
 *   node dist/test/mount/outage.js [--store s3|webdav|sftp|http] [--seconds 60] [--size MIB] [--scratch DIRECTORY]
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { parseArgs, promisify } from 'node:util';
import { SeededRandom } from '../model/seeded-random.js';
import { FaultProxy } from '../support/fault-proxy.js';
import { type StoreServer, startStoreServer, storeKindsOf } from '../support/store-server.js';
import { Drive, useOf } from './drive-process.js';

const execute = promisify(execFile);
const mib = 1 << 20;

export interface Outage {
  readonly how: 'refused' | 'swallowed';
  readonly seconds: number;
  readonly cpuMs: number;
  readonly connections: number;
  /** Memory in bytes, at the start and at most. */
  readonly residentBefore: number;
  readonly residentMax: number;
  /** From the first answer of the store until a flush has ended. */
  readonly recoveredMs: number;
}

/**
 * Files of `size` bytes in total are saved as each outage begins. The folder is on another filesystem than the drive.
 */
export async function measureOutages(server: StoreServer, scratch: string, seconds: number, size: number): Promise<Outage[]> {
  const random = new SeededRandom(1);
  const proxy = await FaultProxy.start(server.port, random);
  const store = await server.location('outage', proxy.port);
  const drive = new Drive({ scratch, store, environment: server.environment, withKeyFile: true });
  const source = join(scratch, 'source');
  await mkdir(source);
  for (let index = 0; index < 64; index++) await writeFile(join(source, `${index}`), random.bytes(Math.floor(size / 64)));
  const outages: Outage[] = [];
  try {
    await drive.init();
    await drive.mount();
    for (const how of ['refused', 'swallowed'] as const) {
      await drive.flush();
      const before = await useOf(await drive.processes());
      if (how === 'refused') proxy.faults.isRefusing = true;
      else proxy.faults.isHanging = true;
      if (how === 'refused') proxy.cutAll();
      await execute('cp', ['-a', source, join(drive.directory, how)], { cwd: '/' });
      // Sealing the saved files is work that has to be done in any case.
      await wait(5000);
      const [calm, connections] = [await useOf(await drive.processes()), proxy.connections];
      let residentMax = calm.resident;
      for (let second = 0; second < seconds; second++) {
        await wait(1000);
        residentMax = Math.max(residentMax, (await useOf(await drive.processes())).resident);
      }
      const after = await useOf(await drive.processes());
      proxy.faults.isRefusing = false;
      proxy.faults.isHanging = false;
      if (how === 'swallowed') proxy.cutAll();
      const began = performance.now();
      const knocked = proxy.connections - connections;
      await drive.flushPatiently();
      outages.push({
        how,
        seconds,
        cpuMs: after.cpuMs - calm.cpuMs,
        connections: knocked,
        residentBefore: before.resident,
        residentMax,
        recoveredMs: Math.round(performance.now() - began),
      });
    }
    await drive.unmount();
    await drive.check();
    return outages;
  } finally {
    await drive.destroy();
    await proxy.stop();
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({
    options: {
      store: { type: 'string', default: 's3' },
      seconds: { type: 'string', default: '60' },
      size: { type: 'string', default: '64' },
      scratch: { type: 'string', default: tmpdir() },
    },
  });
  for (const kind of storeKindsOf(values.store)) {
    const scratch = await mkdtemp(join(values.scratch, 'outage-'));
    const server = await startStoreServer(kind, join(scratch, 'server'));
    try {
      for (const outage of await measureOutages(server, scratch, Number(values.seconds), Number(values.size) * mib)) {
        const { how, seconds, cpuMs, connections, residentBefore, residentMax, recoveredMs } = outage;
        process.stdout.write(
          `${kind}, ${how} for ${seconds} s: ${cpuMs} ms of processor, ${connections} connections, ${Math.round(residentBefore / mib)} MiB before and at most ` +
            `${Math.round(residentMax / mib)} MiB; all in the store ${recoveredMs} ms after it answered\n`,
        );
      }
    } finally {
      await server.stop();
      await rm(scratch, { recursive: true, force: true });
    }
  }
}
