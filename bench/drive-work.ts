/**
 * The measured work of bench/drive.ts that no standard program does, in a process of its own, with plain blocking
 * calls, so that the start of Node.js is not measured. It prints one line of JSON with the time taken. It checks what
 * it reads.
 *
 *   node dist/bench/drive-work.js WORK PATH COUNT [SEED]
 */
import { closeSync, fdatasyncSync, fstatSync, fsyncSync, mkdirSync, openSync, readdirSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { SeededRandom } from '../test/model/seeded-random.js';

const [work = '', path = '', countText = '0', seedText = '1'] = process.argv.slice(2);
const count = Number(countText);
const random = new SeededRandom(Number(seedText));
const mib = 1 << 20;

function smallFile(i: number): string {
  return join(path, `d${Math.floor(i / 100)}`, `file-${i}.dat`);
}

/** A megabyte that compresses to nothing less, stamped so that no two blocks are equal. */
const block = random.bytes(mib);
function stamp(i: number, bytes: Buffer): void {
  bytes.writeDoubleLE(i, 0);
}

function need(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

const works: Readonly<Record<string, () => Record<string, number>>> = {
  /** COUNT MiB; with and without fsync. */
  write() {
    const began = performance.now();
    const fd = openSync(path, 'w');
    for (let i = 0; i < count; i++) {
      stamp(i, block);
      need(writeSync(fd, block) === mib, 'a short write');
    }
    const written = performance.now();
    fsyncSync(fd);
    const synced = performance.now();
    closeSync(fd);
    return { ms: written - began, syncedMs: synced - began };
  },
  read() {
    const bytes = Buffer.alloc(mib);
    const began = performance.now();
    const fd = openSync(path, 'r');
    for (let i = 0; i < count; i++) {
      let got = 0;
      while (got < mib) {
        const part = readSync(fd, bytes, got, mib - got, null);
        need(part > 0, 'the file is too short');
        got += part;
      }
      stamp(i, block);
      need(bytes.equals(block), `block ${i} differs`);
    }
    closeSync(fd);
    return { ms: performance.now() - began };
  },
  /** COUNT files of 4 KiB, a hundred to a folder. */
  create() {
    const bytes = Buffer.from(block.subarray(0, 4096));
    mkdirSync(path);
    const began = performance.now();
    for (let i = 0; i < count; i++) {
      if (i % 100 === 0) mkdirSync(join(path, `d${i / 100}`));
      stamp(i, bytes);
      const fd = openSync(smallFile(i), 'wx');
      writeSync(fd, bytes);
      closeSync(fd);
    }
    return { ms: performance.now() - began };
  },
  readAll() {
    const [bytes, expected] = [Buffer.alloc(8192), Buffer.from(block.subarray(0, 4096))];
    const began = performance.now();
    for (let i = 0; i < count; i++) {
      const fd = openSync(smallFile(i), 'r');
      const got = readSync(fd, bytes, 0, 8192, 0);
      closeSync(fd);
      stamp(i, expected);
      need(got === 4096 && expected.equals(bytes.subarray(0, 4096)), `file ${i} differs`);
    }
    return { ms: performance.now() - began };
  },
  /** All files of `create`, folder by folder, in the order of their names, as cat with a pattern reads them. */
  catAll() {
    const [bytes, expected] = [Buffer.alloc(8192), Buffer.from(block.subarray(0, 4096))];
    let files = 0;
    const began = performance.now();
    for (const folder of readdirSync(path).toSorted()) {
      for (const name of readdirSync(join(path, folder)).toSorted()) {
        const fd = openSync(join(path, folder, name), 'r');
        let got = 0;
        for (let part = -1; part !== 0; got += part) part = readSync(fd, bytes, got, 8192 - got, null);
        closeSync(fd);
        stamp(Number(/\d+/.exec(name)?.[0]), expected);
        need(got === 4096 && expected.equals(bytes.subarray(0, 4096)), `${name} differs`);
        files++;
      }
    }
    need(files === count, `there are ${files} files`);
    return { ms: performance.now() - began };
  },
  /** COUNT files of 2 MiB in one folder. */
  createMedium() {
    mkdirSync(path);
    const began = performance.now();
    for (let i = 0; i < count; i++) {
      stamp(i, block);
      const fd = openSync(join(path, `medium-${i}.dat`), 'wx');
      for (let part = 0; part < 2; part++) writeSync(fd, block);
      closeSync(fd);
    }
    return { ms: performance.now() - began };
  },
  /** The median time until the first byte of each file of `createMedium`, in milliseconds. */
  firstByte() {
    const byte = Buffer.alloc(1);
    const times: number[] = [];
    for (let i = 0; i < count; i++) {
      const began = performance.now();
      const fd = openSync(join(path, `medium-${i}.dat`), 'r');
      need(readSync(fd, byte, 0, 1, 0) === 1, 'no byte');
      times.push(performance.now() - began);
      closeSync(fd);
    }
    return { ms: times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)] ?? 0 };
  },
  /** One write of 4 KiB in the middle of a file. */
  patch() {
    const began = performance.now();
    const fd = openSync(path, 'r+');
    const { size } = fstatSync(fd);
    writeSync(fd, random.bytes(4096), 0, 4096, Math.floor(size / 8192) * 4096);
    closeSync(fd);
    return { ms: performance.now() - began };
  },
  /** COUNT reads of 4 KiB at random places. */
  randomRead() {
    const bytes = Buffer.alloc(4096);
    const fd = openSync(path, 'r');
    const { size } = fstatSync(fd);
    const began = performance.now();
    for (let i = 0; i < count; i++) need(readSync(fd, bytes, 0, 4096, random.below(size / 4096) * 4096) === 4096, 'a short read');
    return { ms: performance.now() - began };
  },
  /** COUNT writes of 4 KiB at random places, and one fsync at the end. */
  randomWrite() {
    const fd = openSync(path, 'r+');
    const { size } = fstatSync(fd);
    const began = performance.now();
    for (let i = 0; i < count; i++) writeSync(fd, block, (i % 255) * 4096, 4096, random.below(size / 4096) * 4096);
    const written = performance.now();
    fsyncSync(fd);
    const syncedMs = performance.now() - began;
    closeSync(fd);
    return { ms: written - began, syncedMs };
  },
  /** COUNT times: a write of 4 KiB at a random place, and fdatasync. */
  randomWriteSync() {
    const fd = openSync(path, 'r+');
    const { size } = fstatSync(fd);
    const began = performance.now();
    for (let i = 0; i < count; i++) {
      writeSync(fd, block, (i % 255) * 4096, 4096, random.below(size / 4096) * 4096);
      fdatasyncSync(fd);
    }
    const ms = performance.now() - began;
    closeSync(fd);
    return { ms };
  },
};

const chosen = works[work];
if (chosen === undefined) throw new Error(`no work named ${work}; there is ${Object.keys(works).join(', ')}`);
process.stdout.write(`${JSON.stringify(chosen())}\n`);
