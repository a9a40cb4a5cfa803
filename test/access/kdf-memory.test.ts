/** Available memory is read from the kernel; nothing is refused when the kernel does not report it. */
import t from 'tap';
import { fitsInMemory } from '../../src/access/kdf-memory.js';
import type { MemorySources } from '../../src/access/machine-memory.js';
import { availableBytes, usualMemory } from '../../src/access/machine-memory.js';
import { memoryMin, memoryUsualMax } from '../../src/base/memory-budget.js';
import { defaultKdfCost } from '../../src/crypto/argon2.js';

const mebibyte = 1024 * 1024;
const sourcesOf = (files: Readonly<Record<string, string>>, constrained = 2 ** 63): MemorySources => ({
  read: (path) => files[path],
  constrained: () => constrained,
  resident: () => 80 * mebibyte,
});
const meminfo = (availableMiB: number, swapMiB = 0): string =>
  `MemTotal:  9999999 kB\nMemAvailable:  ${availableMiB * 1024} kB\nSwapFree:  ${swapMiB * 1024} kB\n`;

t.test('the memory of the machine limits what a derivation may use', (t) => {
  t.equal(availableBytes(sourcesOf({ '/proc/meminfo': meminfo(200) })), 200 * mebibyte);
  t.equal(availableBytes(sourcesOf({ '/proc/meminfo': meminfo(200, 300) })), 500 * mebibyte);
  t.equal(availableBytes(sourcesOf({})), Infinity);
  t.equal(usualMemory(sourcesOf({ '/proc/meminfo': meminfo(200) })), memoryUsualMax);
  t.equal(usualMemory(sourcesOf({ '/proc/meminfo': 'MemTotal: 1048576 kB\n' })), 256 * mebibyte, 'a quarter of a small machine');
  t.equal(usualMemory(sourcesOf({})), memoryUsualMax);
  t.notOk(fitsInMemory(defaultKdfCost, sourcesOf({ '/proc/meminfo': meminfo(200) })));
  t.ok(fitsInMemory(defaultKdfCost, sourcesOf({ '/proc/meminfo': meminfo(300) })));
  t.ok(fitsInMemory(defaultKdfCost, sourcesOf({})));
  t.end();
});

t.test('the smallest limit of all nested control groups counts', (t) => {
  const files = {
    '/proc/meminfo': meminfo(10_000),
    '/proc/self/cgroup': '1:name=systemd:/\n0::/outer/inner\n',
    '/sys/fs/cgroup/outer/inner/memory.max': 'max\n',
    '/sys/fs/cgroup/outer/inner/memory.current': '1000000\n',
    '/sys/fs/cgroup/outer/memory.max': `${400 * mebibyte}\n`,
    '/sys/fs/cgroup/outer/memory.current': `${300 * mebibyte}\n`,
    '/sys/fs/cgroup/outer/memory.stat': `anon 1\ninactive_file ${50 * mebibyte}\n`,
  };
  t.equal(availableBytes(sourcesOf(files)), 150 * mebibyte, 'pages of files are given back');
  t.equal(availableBytes(sourcesOf({ ...files, '/proc/self/cgroup': '0::/\n' })), 10_000 * mebibyte);
  const contained = { '/proc/self/cgroup': '0::/\n', '/sys/fs/cgroup/memory.max': `${90 * mebibyte}\n`, '/sys/fs/cgroup/memory.current': '0\n' };
  t.equal(usualMemory(sourcesOf(contained)), memoryMin, 'a mount takes no less than it needs');
  t.equal(usualMemory(sourcesOf(files)), 100 * mebibyte, 'a quarter of what the groups allow');
  t.equal(availableBytes(sourcesOf(contained)), 90 * mebibyte, 'in a container the root is its own');
  t.equal(availableBytes(sourcesOf(files, 200 * mebibyte)), 120 * mebibyte, 'what Node.js knows, less what it has');
  t.end();
});
