/**
 * Random input and output on one file of a directory, against the same bytes kept in memory: reads, writes, appends,
 * mapped stores, truncations, holes, zeroed ranges, copies within the file, syncs, reopens, and a second descriptor.
 * After a difference it reports the seed, the operation's number and the operations before it. Names and attributes are
 * tested by random-tree.ts.
 *
 *   node dist/test/model/random-io.js DIRECTORY [--ops N] [--seed N] [--max BYTES] [--seconds N]
 *                                      [--without OPERATION,...]
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Probe } from '../mount/posix-probe.js';
import { SeededRandom, testSeed } from './seeded-random.js';

export interface RandomIoOptions {
  readonly directory: string;
  readonly ops: number;
  readonly seed: number;
  /** The largest size of the file, in bytes. */
  readonly sizeMax?: number;
  /** Ends after this time at the latest. */
  readonly durationMs?: number;
  /** Operations that the directory does not support. */
  readonly without?: readonly RandomIoOperation[];
  /** Called between operations now and then, to drop caches or remount without changing the content. */
  readonly disturb?: () => Promise<void>;
  readonly disturbEvery?: number;
}

const weights = {
  read: 30,
  write: 30,
  append: 4,
  mapWrite: 12,
  mapRead: 6,
  truncate: 8,
  punch: 6,
  zero: 5,
  allocate: 3,
  copy: 6,
  fsync: 3,
  reopen: 5,
  secondRead: 6,
  seekData: 4,
  stat: 4,
} as const;

export type RandomIoOperation = keyof typeof weights;

export class RandomIoError extends Error {
  override readonly name = 'RandomIoError';
}

/** Largest amount of one read or write in bytes. */
const pieceMax = 192 * 1024;

/** Runs the operations; resolves with their number, rejects with {@link RandomIoError} at the first difference. */
export async function randomIo(options: RandomIoOptions): Promise<number> {
  const { directory, ops, seed, sizeMax = 2 << 20, durationMs = Number.POSITIVE_INFINITY, disturb, disturbEvery = 0 } = options;
  const random = new SeededRandom(seed);
  const own: Record<string, number> = { ...weights };
  for (const operation of options.without ?? []) delete own[operation];
  const path = join(directory, `random-io-${seed}`);
  const probe = await Probe.start();
  const history: string[] = [];
  let content = Buffer.alloc(0);
  let count = 0;
  let fd = await probe.ok('open', path, 'O_CREAT|O_EXCL|O_RDWR', 0o644);
  let second = await probe.ok('open', path, 'O_RDONLY');

  const resize = (size: number): void => {
    if (size <= content.length) content = Buffer.from(content.subarray(0, size));
    else content = Buffer.concat([content, Buffer.alloc(size - content.length)]);
  };
  const put = (offset: number, bytes: Uint8Array): void => {
    if (offset + bytes.length > content.length) resize(offset + bytes.length);
    content.set(bytes, offset);
  };
  const check = (found: Buffer, offset: number, size: number): void => {
    const expected = content.subarray(Math.min(offset, content.length), Math.min(offset + size, content.length));
    if (found.equals(expected)) return;
    if (found.length !== expected.length) throw new RandomIoError(`read ${found.length} bytes where ${expected.length} are`);
    let first = 0;
    while (found[first] === expected[first]) first++;
    let last = found.length - 1;
    while (found[last] === expected[last]) last--;
    const zeros = found.subarray(first, last + 1).every((byte) => byte === 0);
    throw new RandomIoError(`bytes ${offset + first}..${offset + last} differ${zeros ? ' (zeros were read)' : ''}`);
  };
  const checkRead = async (from: number, offset: number, size: number): Promise<void> => {
    const found = await probe.readAt(from, size, offset);
    const end = offset + found.length;
    // The kernel gives what it had before an error, and the error to whoever goes on from there.
    if (found.length < size && end < content.length) await probe.readAt(from, size - found.length, end);
    check(found, offset, size);
  };
  /** Offsets like those of applications: often at a block boundary or just beside it. */
  const place = (end: number): number => {
    const at = random.below(Math.max(1, end));
    if (random.chance(0.5)) return at;
    return Math.max(0, Math.min(end, (at & ~4095) + random.pick([-1, 0, 0, 0, 1])));
  };
  const piece = (): number => 1 + random.skewed(pieceMax);
  const mapped = async (offset: number, size: number, use: (map: number, within: number) => Promise<void>): Promise<void> => {
    const base = offset & ~4095;
    const map = await probe.ok('mmap', fd, offset - base + size, base, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    await use(map, offset - base);
    await probe.ok('munmap', map);
  };

  const operations: Readonly<Record<RandomIoOperation, () => Promise<void>>> = {
    async read() {
      const [offset, size] = [place(content.length + 5000), piece()];
      history.push(`read ${offset} +${size}`);
      await checkRead(fd, offset, size);
    },
    async secondRead() {
      const [offset, size] = [place(content.length), piece()];
      history.push(`read by the second descriptor ${offset} +${size}`);
      await checkRead(second, offset, size);
    },
    async write() {
      const offset = place(Math.min(content.length + 20_000, sizeMax));
      const bytes = random.bytes(Math.min(piece(), sizeMax - offset + 1));
      history.push(`write ${offset} +${bytes.length} (size ${content.length})`);
      await probe.ok('write', fd, bytes, offset);
      put(offset, bytes);
    },
    async append() {
      if (content.length > sizeMax) return;
      const bytes = random.bytes(piece());
      history.push(`append +${bytes.length} (size ${content.length})`);
      const appender = await probe.ok('open', path, 'O_WRONLY|O_APPEND');
      await probe.ok('write', appender, bytes);
      await probe.ok('close', appender);
      put(content.length, bytes);
    },
    async mapWrite() {
      if (content.length === 0) return;
      const offset = Math.min(place(content.length), content.length - 1);
      const bytes = random.bytes(Math.min(piece(), content.length - offset));
      const sync = random.chance(0.3);
      history.push(`mapped store ${offset} +${bytes.length}${sync ? ' and msync' : ''} (size ${content.length})`);
      await mapped(offset, bytes.length, async (map, within) => {
        await probe.ok('mstore', map, within, bytes);
        if (sync) await probe.ok('msync', map);
      });
      put(offset, bytes);
    },
    async mapRead() {
      if (content.length === 0) return;
      const offset = Math.min(place(content.length), content.length - 1);
      const size = Math.min(piece(), content.length - offset);
      history.push(`mapped load ${offset} +${size}`);
      await mapped(offset, size, async (map, within) => {
        check(Buffer.from((await probe.need('mload', map, within, size)).data ?? '', 'hex'), offset, size);
      });
    },
    async truncate() {
      const size = random.chance(0.1) ? 0 : place(Math.min(content.length * 2 + 10_000, sizeMax));
      history.push(`truncate ${content.length} to ${size}`);
      if (random.chance(0.5)) await probe.ok('ftruncate', fd, size);
      else await probe.ok('truncate', path, size);
      resize(size);
    },
    async punch() {
      const [offset, size] = [place(content.length + 5000), piece()];
      history.push(`punch ${offset} +${size} (size ${content.length})`);
      await probe.ok('fallocate', fd, 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', offset, size);
      content.fill(0, Math.min(offset, content.length), Math.min(offset + size, content.length));
    },
    async zero() {
      const [offset, size, keep] = [place(Math.min(content.length + 5000, sizeMax)), piece(), random.chance(0.5)];
      history.push(`zero ${offset} +${size}${keep ? ' keeping the size' : ''} (size ${content.length})`);
      await probe.ok('fallocate', fd, keep ? 'FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE' : 'FALLOC_FL_ZERO_RANGE', offset, size);
      if (!keep && offset + size > content.length) resize(offset + size);
      content.fill(0, Math.min(offset, content.length), Math.min(offset + size, content.length));
    },
    async allocate() {
      const [offset, size, keep] = [place(Math.min(content.length + 5000, sizeMax)), piece(), random.chance(0.5)];
      history.push(`allocate ${offset} +${size}${keep ? ' keeping the size' : ''} (size ${content.length})`);
      await probe.ok('fallocate', fd, keep ? 'FALLOC_FL_KEEP_SIZE' : 0, offset, size);
      if (!keep && offset + size > content.length) resize(offset + size);
    },
    async copy() {
      if (content.length < 3) return;
      const from = Math.min(place(content.length), content.length - 1);
      const size = Math.min(piece(), content.length - from);
      const to = place(Math.min(content.length + 5000, sizeMax));
      if (Math.abs(from - to) < size) return;
      history.push(`copy ${from} +${size} to ${to} (size ${content.length})`);
      const copied = await probe.ok('copy_file_range', fd, from, fd, to, size);
      if (copied !== size) throw new RandomIoError(`copied ${copied} bytes of ${size}`);
      put(to, Buffer.from(content.subarray(from, from + size)));
    },
    async fsync() {
      history.push('fsync');
      await probe.ok(random.chance(0.5) ? 'fsync' : 'fdatasync', fd);
    },
    async reopen() {
      history.push('reopen');
      await probe.ok('close', fd);
      await probe.ok('close', second);
      fd = await probe.ok('open', path, 'O_RDWR');
      second = await probe.ok('open', path, 'O_RDONLY');
    },
    async seekData() {
      if (content.length === 0) return;
      const offset = random.below(content.length);
      history.push(`seek data from ${offset}`);
      const answer = await probe.call('lseek', fd, offset, 'SEEK_DATA');
      if (answer.error !== undefined && answer.error !== 'ENXIO') throw new RandomIoError(`SEEK_DATA: ${answer.error}`);
      const data = answer.error === 'ENXIO' ? content.length : answer.value;
      if (data < offset || data > content.length) throw new RandomIoError(`SEEK_DATA from ${offset} found ${data}`);
      // A filesystem may report zeros as data, but never data as a hole.
      if (content.subarray(offset, data).some((byte) => byte !== 0)) throw new RandomIoError(`SEEK_DATA from ${offset} skipped data before ${data}`);
    },
    async stat() {
      history.push('stat');
      const { size } = await probe.stat('fstat', fd);
      if (size !== content.length) throw new RandomIoError(`the size is ${size} where ${content.length} is expected`);
    },
  };

  const began = performance.now();
  try {
    for (; count < ops && performance.now() - began < durationMs; count++) {
      await operations[random.weighted(own) as RandomIoOperation]();
      if (history.length > 400) history.splice(0, 200);
      if (disturb && disturbEvery > 0 && count % disturbEvery === disturbEvery - 1) {
        history.push('disturb');
        await probe.ok('close', fd);
        await probe.ok('close', second);
        await disturb();
        fd = await probe.ok('open', path, 'O_RDWR');
        second = await probe.ok('open', path, 'O_RDONLY');
      }
    }
    history.push('the last look at everything');
    await operations.reopen();
    check(await probe.readFile(path), 0, Number.POSITIVE_INFINITY);
    await operations.stat();
    await probe.ok('close', fd);
    await probe.ok('close', second);
    await probe.ok('unlink', path);
    return count;
  } catch (cause) {
    const last = history.slice(-12).map((line) => `\n  ${line}`);
    throw new RandomIoError(
      `seed ${seed}, operation ${count}: ${cause instanceof Error ? cause.message : String(cause)}; the last ones:${last.join('')}`,
      {
        cause,
      },
    );
  } finally {
    await probe.close();
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      ops: { type: 'string', default: '20000' },
      seed: { type: 'string', default: String(testSeed()) },
      max: { type: 'string', default: String(2 << 20) },
      seconds: { type: 'string' },
      without: { type: 'string', default: '' },
    },
  });
  const [directory] = positionals;
  if (directory === undefined) throw new Error('usage: random-io.js DIRECTORY [--ops N] [--seed N] [--max BYTES] [--seconds N]');
  const began = performance.now();
  const durationMs = values.seconds === undefined ? Number.POSITIVE_INFINITY : Number(values.seconds) * 1000;
  // With a duration, runs follow one another with the next seed each, so that a difference is found near the start of a
  // run.
  let [seed, done] = [Number(values.seed), 0];
  do {
    done += await randomIo({
      directory,
      ops: Number(values.ops),
      seed: seed++,
      sizeMax: Number(values.max),
      without: values.without.split(',') as RandomIoOperation[],
      durationMs: durationMs - (performance.now() - began),
    });
  } while (performance.now() - began < durationMs && durationMs !== Number.POSITIVE_INFINITY);
  process.stdout.write(`random-io: ${done} operations agree with the model (seeds ${values.seed}..${seed - 1})\n`);
}
