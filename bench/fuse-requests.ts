/**
 * Measures how many requests and bytes a second a driver carries, against the in-memory filesystem of the tests, so
 * that only the driver is measured. `node dist/bench/fuse-requests.js [native|portable] [writeback]`; needs FUSE. The
 * load is made by a child process: a process must not wait for its own mount.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { nativeDriver } from '../src/fuse/native-driver.js';
import { portableDriver } from '../src/fuse/portable-driver.js';
import { MemoryFilesystem, memoryErrnoOf } from '../test/fuse/memory-filesystem.js';

const load = `
const fs = require('node:fs'), path = process.argv[1];
const say = (what, value, unit) => console.log(what.padEnd(36) + String(Math.round(value)).padStart(10) + ' ' + unit);
const seconds = (work) => { const start = process.hrtime.bigint(); work(); return Number(process.hrtime.bigint() - start) / 1e9; };
const lookups = 40000, files = 4000, bytes = 256 << 20, block = Buffer.alloc(1 << 20, 7), small = Buffer.alloc(4096, 5);
say('negative lookups', lookups / seconds(() => { for (let i = 0; i < lookups; i++) fs.existsSync(path + '/no' + i); }), 'per second');
fs.mkdirSync(path + '/d');
say('4 KiB file creations', files / seconds(() => { for (let i = 0; i < files; i++) fs.writeFileSync(path + '/d/' + i, small); }), 'per second');
say('readdir with stat, entries', files / seconds(() => { for (const name of fs.readdirSync(path + '/d')) fs.statSync(path + '/d/' + name); }), 'per second');
const out = fs.openSync(path + '/big', 'w');
const write = () => { for (let at = 0; at < bytes; at += block.length) fs.writeSync(out, block, 0, block.length, at); fs.fsyncSync(out); };
// The first round allocates the memory behind the file, which is not the driver's work.
write();
const writing = seconds(write);
fs.closeSync(out);
say('sequential write', bytes / 1e6 / writing, 'MB/s');
if (process.getuid() === 0) fs.writeFileSync('/proc/sys/vm/drop_caches', '1');
const input = fs.openSync(path + '/big', 'r');
say('sequential read, cold', bytes / 1e6 / seconds(() => { while (fs.readSync(input, block) > 0); }), 'MB/s');
`;

const driver = process.argv.includes('portable') ? portableDriver : nativeDriver;
const mountPoint = await mkdtemp(join(tmpdir(), 'sealdrive-bench-'));
const filesystem = new MemoryFilesystem();
const mounted = await driver(filesystem, memoryErrnoOf, {
  mountPoint,
  source: 'bench',
  subtype: 'sealdrive',
  readOnly: false,
  allowOther: false,
  defaultPermissions: true,
  writebackCache: process.argv.includes('writeback'),
});
const before = process.cpuUsage();
const child = spawn(process.execPath, ['-e', load, mountPoint], { stdio: 'inherit' });
await once(child, 'exit');
const used = process.cpuUsage(before);
const show = (line: string): void => void process.stdout.write(`${line}\n`);
show(`daemon CPU: ${((used.user + used.system) / 1e6).toFixed(2)} s (${(used.user / 1e6).toFixed(2)} user)`);
show(`calls: ${[...filesystem.calls].map(([name, count]) => `${name} ${count}`).join(', ')}`);
show(`connection: ${JSON.stringify(mounted.connection)}`);
await mounted.unmount();
await mounted.ended;
await rmdir(mountPoint);
