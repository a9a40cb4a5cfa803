/**
 * Disturbances around a working mount: callers that are interrupted or killed, an unmount while files are in use, a
 * daemon that is stopped or gets signals, clocks that jump, few descriptors, little memory. Nothing that was promised
 * is lost, nobody hangs, and the service continues (doc/semantics.md, "Errors"). TEST_SUSPEND_MS sets how long the
 * daemon is stopped, for example a minute, which is more than the test command has time for.
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync, unlinkSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { promisify } from 'node:util';
import t from 'tap';
import type { DaemonStatus } from '../../src/daemon/control-protocol.js';
import { findMount } from '../../src/fuse/mount-table.js';
import { Workplace } from '../cli/command-line.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import { startStoreServer } from '../support/store-server.js';
import { AcknowledgedWriter } from './acknowledged-writer.js';

const run = promisify(execFile);
const suspendMs = Number(process.env['TEST_SUSPEND_MS'] ?? 2000);

function commandMissing(name: string): string | false {
  try {
    execFileSync('which', [name]);
    return false;
  } catch {
    return `needs ${name}`;
  }
}

const fakeTime = ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib/faketime']
  .flatMap((folder) => [join(folder, 'faketime', 'libfaketimeMT.so.1'), join(folder, 'libfaketimeMT.so.1')])
  .find((path) => existsSync(path));

class Mount {
  readonly place: Workplace;
  readonly store: string;
  readonly keyFile: string;
  readonly directory: string;
  readonly #env: Readonly<Record<string, string>>;
  #elsewhere = 0;

  private constructor(place: Workplace, made: { store: string; keyFile: string }, directory: string, env: Readonly<Record<string, string>>) {
    this.place = place;
    this.store = made.store;
    this.keyFile = made.keyFile;
    this.directory = directory;
    this.#env = env;
  }

  static async make(
    place: Workplace,
    name: string,
    options: { readonly store?: string; readonly env?: Readonly<Record<string, string>> } = {},
  ): Promise<Mount> {
    const { env = {} } = options;
    let made = { store: options.store ?? '', keyFile: place.path(`${name}.key`) };
    if (options.store === undefined) made = await place.makeVolume(name);
    else await place.succeed(['init', made.store, '--key-file', made.keyFile, '--no-recovery']);
    const mount = new Mount(place, made, place.makeFolder(`${name}-mnt`), env);
    await mount.mount();
    return mount;
  }

  async mount(...more: string[]): Promise<void> {
    await this.place.succeed(['mount', this.store, this.directory, '--key-file', this.keyFile, ...more], { env: this.#env });
  }

  async status(): Promise<DaemonStatus & { readonly stateDirectory: string }> {
    const { mounts } = JSON.parse(await this.place.succeed(['status', this.directory, '--json'])) as {
      mounts: (DaemonStatus & { readonly stateDirectory: string })[];
    };
    return mounts[0]!;
  }

  path(...names: string[]): string {
    return join(this.directory, ...names);
  }

  folder(name: string): string {
    mkdirSync(this.path(name));
    return this.path(name);
  }

  async unmount(...more: string[]): Promise<void> {
    await this.place.succeed(['unmount', this.directory, ...more]);
  }

  /** Mounts for a new device. */
  async mountElsewhere(): Promise<void> {
    this.#elsewhere++;
    await this.mount('--state-dir', `${this.directory}-elsewhere-${this.#elsewhere}`, '--read-only');
  }
}

async function gone(pid: number): Promise<void> {
  for (;;) {
    try {
      process.kill(pid, 0);
    } catch {
      return;
    }
    await wait(20);
  }
}

/** Polls until `test` holds; the awaited event has a bound of its own. */
async function until(test: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await test())) await wait(50);
}

const why = whyNoFuse();
if (why !== false) t.plan(0, why);
else {
  t.setTimeout(600_000);
  const place = new Workplace();
  t.teardown(() => place.remove());

  t.test('a process that waits for a hanging store ends at SIGINT and at SIGKILL', async (t) => {
    const server = await startStoreServer('http', place.makeFolder('served'));
    t.teardown(() => server.stop());
    const mount = await Mount.make(place, 'hanging', { store: await server.location('hanging') });
    for (const name of ['a', 'b']) {
      mkdirSync(mount.path(name));
      writeFileSync(mount.path(name, 'large'), Buffer.alloc(2_000_000, name));
    }
    await mount.unmount();
    // A device that has nothing but the newest commits.
    await mount.mount('--state-dir', place.path('hanging-fresh'));
    const { pid } = await mount.status();
    server.hold(true);
    for (const [signal, name] of [
      ['SIGINT', 'a'],
      ['SIGKILL', 'b'],
    ] as const) {
      // The kernel waits in different ways through the page cache and past it. (dd handles SIGINT, which ends no wait
      // for the page cache, as on any disk.)
      for (const command of [
        ['cat', mount.path(name, 'large')],
        ['dd', `if=${mount.path(name, 'large')}`, 'of=/dev/null', 'iflag=direct'],
      ] as const) {
        const [program, ...argument] = command;
        const reader = spawn(program, argument, { stdio: 'ignore', cwd: '/' });
        // The process is in the kernel, waiting for the daemon.
        await until(() => /request_wait_answer|folio_wait|wait_on_page|fuse/.test(placeOf(reader.pid ?? 0)) || stateOf(reader.pid ?? 0) === 'D');
        const ended = once(reader, 'exit');
        const began = performance.now();
        reader.kill(signal);
        const [, by] = (await ended) as [number | null, string | null];
        t.equal(by, signal, `${program} ends by ${signal}`);
        t.ok(performance.now() - began < 5000, 'long before the store is given up');
      }
    }
    server.hold(false);
    t.ok(readFileSync(mount.path('a', 'large')).equals(Buffer.alloc(2_000_000, 'a')), 'and all is there when the store goes on');
    t.equal((await mount.status()).pid, pid);
    await mount.unmount();
  });

  t.test('programs that are killed in the middle of their work leave whole files and nothing open', async (t) => {
    const mount = await Mount.make(place, 'killed');
    for (let round = 0; round < 3; round++) {
      const writers = ['one', 'two'].map((name) => new AcknowledgedWriter(mount.folder(`${name}-${round}`)));
      await Promise.all(writers.map((writer) => writer.advance(10 + round * 7)));
      await Promise.all(writers.map((writer) => writer.kill()));
      for (const writer of writers) t.strictSame([writer.wrong(), [...writer.errors]], [[], []]);
    }
    // An open file would keep it mounted.
    await mount.unmount();
    await place.succeed(['check', mount.store, '--key-file', mount.keyFile, '--data']);
  });

  t.test('files open at a lazy unmount can still be written, and everything reaches the store', async (t) => {
    const mount = await Mount.make(place, 'detached');
    const writer = new AcknowledgedWriter(mount.folder('before'));
    await writer.advance(20);
    const { pid } = await mount.status();
    const fd = openSync(mount.path('open'), 'w');
    writeSync(fd, 'first ');
    execFileSync('fusermount3', ['-uz', mount.directory]);
    t.equal(await findMount(mount.directory), undefined);
    await writer.ended();
    t.strictSame([...writer.errors.keys()], ['ENOENT'], 'who works by path sees the empty folder');
    writeSync(fd, 'second');
    closeSync(fd);
    await gone(pid);
    await mount.mountElsewhere();
    t.equal(readFileSync(mount.path('open'), 'utf8'), 'first second');
    t.strictSame(writer.wrong(), []);
    await mount.unmount();
  });

  t.test('callers wait for a stopped daemon and continue with it', async (t) => {
    const mount = await Mount.make(place, 'suspended');
    const writer = new AcknowledgedWriter(mount.folder('work'));
    await writer.advance(10);
    const { pid } = await mount.status();
    process.kill(pid, 'SIGSTOP');
    const before = writer.count;
    await wait(suspendMs);
    t.ok(writer.count <= before + 1, 'nobody is answered meanwhile');
    process.kill(pid, 'SIGCONT');
    await writer.advance(20);
    await writer.kill();
    t.strictSame([writer.wrong(), [...writer.errors]], [[], []]);
    await mount.unmount();
  });

  t.test('many programs run from the drive, also while they are being replaced', async (t) => {
    const mount = await Mount.make(place, 'programs');
    const program = mount.path('program');
    copyFileSync('/bin/sh', program);
    chmodSync(program, 0o755);
    writeFileSync(mount.path('script'), `#!${program}\necho "$((6 * $1))"\n`, { mode: 0o755 });
    const answers = await Promise.all(Array.from({ length: 24 }, (_, index) => run(mount.path('script'), [String(index)])));
    t.strictSame(
      answers.map(({ stdout }) => stdout),
      Array.from({ length: 24 }, (_, index) => `${6 * index}\n`),
    );
    const running = spawn(program, ['-c', 'read line; (exit 7); echo $? $line'], { stdio: ['pipe', 'pipe', 'inherit'] });
    await until(() => stateOf(running.pid ?? 0) === 'S');
    t.throws(() => openSync(program, 'r+'), { code: 'ETXTBSY' });
    // A new program has the old name, and the old one has none.
    copyFileSync('/bin/sh', mount.path('next'));
    chmodSync(mount.path('next'), 0o755);
    await run('mv', [mount.path('next'), program]);
    const output = once(running.stdout, 'data') as Promise<[Buffer]>;
    running.stdin.end('still here\n');
    t.equal((await output)[0].toString(), '7 still here\n');
    await once(running, 'exit').catch(() => {});
    t.equal((await run(mount.path('script'), ['9'])).stdout, '54\n');
    unlinkSync(program);
    await mount.unmount();
  });

  t.test('a storm of signals ends the daemon once, and nothing acknowledged is lost', async (t) => {
    const mount = await Mount.make(place, 'storm');
    const writer = new AcknowledgedWriter(mount.folder('work'));
    await writer.advance(30);
    const { pid } = await mount.status();
    const signals = ['SIGHUP', 'SIGUSR2', 'SIGPIPE', 'SIGWINCH', 'SIGTERM', 'SIGINT'] as const;
    // The daemon ignores SIGUSR2 and SIGPIPE too.
    for (const signal of ['SIGHUP', 'SIGPIPE', 'SIGWINCH'] as const) process.kill(pid, signal);
    await writer.advance(5);
    for (let count = 0; count < 200; count++) {
      try {
        process.kill(pid, signals[count % 6] === 'SIGUSR2' ? 'SIGTERM' : signals[count % 6]);
      } catch {
        break;
      }
    }
    await gone(pid);
    await writer.ended();
    t.equal(await findMount(mount.directory), undefined, 'nothing is left mounted');
    await mount.mount();
    t.strictSame(writer.wrong(), []);
    await mount.unmount();
  });

  t.test('a clock that jumps by a day, forwards or back, does no harm', { skip: fakeTime === undefined ? 'needs libfaketime' : false }, async (t) => {
    const offsets = place.path('clock-offset');
    const setClock = (offset: string): void => writeFileSync(offsets, offset);
    setClock('+0');
    const mount = await Mount.make(place, 'clock', {
      env: {
        LD_PRELOAD: fakeTime ?? '',
        FAKETIME_TIMESTAMP_FILE: offsets,
        FAKETIME_NO_CACHE: '1',
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
        DONT_FAKE_MONOTONIC: '1',
      },
    });
    const { pid } = await mount.status();
    const writer = new AcknowledgedWriter(mount.folder('work'), { sizeMax: 3000 });
    for (const offset of ['+1d', '-1d', '+0']) {
      setClock(offset);
      await writer.advance(5);
      // The background commit comes whatever the clock says.
      const made = writer.count;
      writeFileSync(mount.path(`at${offset}`), String(made));
      let { sequence } = (await mount.status()).details['commit']!;
      const before = Number(sequence);
      await until(async () => {
        ({ sequence } = (await mount.status()).details['commit']!);
        return Number(sequence) > before;
      });
      t.ok(Number(sequence) > before, `a commit at ${offset}`);
    }
    await writer.kill();
    await mount.place.succeed(['flush', mount.directory]);
    t.equal((await mount.status()).pid, pid);
    t.strictSame([writer.wrong(), [...writer.errors]], [[], []]);
    await mount.unmount();
    await mount.mountElsewhere();
    t.strictSame(writer.wrong(), [], 'and to a device whose clock is right');
    await mount.unmount();
  });

  t.test(
    'a daemon that is out of file descriptors fails clearly, and recovers when there are some',
    { skip: commandMissing('prlimit') },
    async (t) => {
      const mount = await Mount.make(place, 'descriptors');
      const writer = new AcknowledgedWriter(mount.folder('work'), { persistent: true, sizeMax: 600_000 });
      await writer.advance(10);
      const { pid } = await mount.status();
      const limitOf = (): string =>
        execFileSync('prlimit', ['--pid', String(pid), '--nofile', '--output', 'SOFT', '--noheadings'])
          .toString()
          .trim();
      const limit = limitOf();
      const begun = writer.count;
      execFileSync('prlimit', ['--pid', String(pid), '--nofile=1:']);
      // Some work needs no new descriptor; a pack that is full needs one.
      await Promise.race([writer.failed(), writer.advance(120)]);
      for (const code of writer.errors.keys()) t.ok(code === 'ENFILE', `the error is ${code}`);
      execFileSync('prlimit', ['--pid', String(pid), `--nofile=${limit}:`]);
      await writer.advance(20);
      await writer.kill();
      t.ok(writer.count > begun);
      t.strictSame(writer.wrong(), []);
      await mount.place.succeed(['flush', mount.directory]);
      t.equal((await mount.status()).pid, pid, 'it is the same daemon');
      await mount.unmount();
      await mount.mountElsewhere();
      t.strictSame(writer.wrong(), []);
      await mount.unmount();
    },
  );

  t.test('a daemon without memory answers or dies, and nothing acknowledged is lost', { skip: commandMissing('prlimit') }, async (t) => {
    const mount = await Mount.make(place, 'memory');
    const writer = new AcknowledgedWriter(mount.folder('work'), { persistent: true, sizeMax: 900_000 });
    await writer.advance(10);
    const { pid } = await mount.status();
    const used = Number(/VmSize:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) * 1024;
    execFileSync('prlimit', ['--pid', String(pid), `--as=${used + 8 * 1024 * 1024}:`]);
    await Promise.race([writer.failed(), writer.advance(150)]);
    const isAlive = existsSync(`/proc/${pid}`) && stateOf(pid) !== 'Z';
    t.comment(isAlive ? 'it lives' : 'it died', [...writer.errors]);
    // The error of the kernel for a dead daemon, or the answer of a living one.
    for (const code of writer.errors.keys()) t.ok(['ENOMEM', 'ENOTCONN', 'ECONNABORTED'].includes(code), `the error is ${code}`);
    await writer.kill();
    if (isAlive) process.kill(pid, 'SIGKILL');
    await gone(pid);
    await mount.mount();
    t.strictSame(writer.wrong(), []);
    await mount.unmount();
    await mount.mountElsewhere();
    t.strictSame(writer.wrong(), []);
    await mount.unmount();
  });
}

/** The kernel function in which a process sleeps; empty where that is not reported. */
function placeOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/wchan`, 'latin1');
  } catch {
    return '';
  }
}

function stateOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    return stat[stat.lastIndexOf(')') + 2]!;
  } catch {
    return '';
  }
}
