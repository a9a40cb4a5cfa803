/** Part of the POSIX suite (posix-suite.ts): sizes, holes, punching, preallocation and copies of ranges. */
import { type It, kib, mib, type Place } from './posix-place.js';

export function spaceTests(it: It): void {
  const sparse = async (p: Place): Promise<number> => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.alloc(64 * kib, 'd'), mib);
    await p.ok('ftruncate', fd, 4 * mib);
    await p.ok('fsync', fd);
    return fd;
  };
  it('SEEK_DATA and SEEK_HOLE find the data of a sparse file', 'holes', async (t, p) => {
    const fd = await sparse(p);
    t.equal(await p.ok('lseek', fd, 0, 'SEEK_HOLE'), 0);
    t.equal(await p.ok('lseek', fd, 0, 'SEEK_DATA'), mib);
    t.equal(await p.ok('lseek', fd, mib, 'SEEK_DATA'), mib);
    t.equal(await p.ok('lseek', fd, mib, 'SEEK_HOLE'), mib + 64 * kib);
    await p.fails('ENXIO', 'lseek', fd, mib + 64 * kib, 'SEEK_DATA');
  });
  it('SEEK_HOLE of a full file is its end; past the end is ENXIO', async (t, p) => {
    await p.file('f', 'x'.repeat(5000));
    const fd = await p.open('f', 'O_RDONLY');
    t.equal(await p.ok('lseek', fd, 0, 'SEEK_HOLE'), 5000);
    t.equal(await p.ok('lseek', fd, 4999, 'SEEK_DATA'), 4999);
    await p.fails('ENXIO', 'lseek', fd, 5000, 'SEEK_HOLE');
    await p.fails('ENXIO', 'lseek', fd, 5000, 'SEEK_DATA');
  });
  it('SEEK_DATA and SEEK_HOLE before the beginning and far past the end are ENXIO', async (_, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDONLY');
    for (const whence of ['SEEK_DATA', 'SEEK_HOLE']) {
      for (const offset of [-1, '-0x8000000000000000', '0x7fffffffffffffff', 4]) await p.fails('ENXIO', 'lseek', fd, offset, whence);
    }
  });
  it('data that was just written and not yet stored is no hole', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.alloc(64 * kib, 'd'), mib);
    const data = await p.ok('lseek', fd, mib, 'SEEK_DATA');
    t.equal(data, mib);
  });
  it('st_blocks counts data in 512-byte blocks and not holes', 'holes', async (t, p) => {
    const fd = await sparse(p);
    const { blocks } = await p.fstat(fd);
    t.ok(blocks >= 128 && blocks < 1024, `${blocks} blocks`);
  });
  it('st_blocks of a full file covers its size', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('fill', fd, 16, 64 * kib);
    await p.ok('fsync', fd);
    t.ok((await p.fstat(fd)).blocks * 512 >= mib);
  });
  it('st_blocks follows a file that grows while it is open, at each fsync', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    for (let count = 1; count <= 3; count++) {
      await p.ok('fill', fd, 16, 64 * kib);
      await p.ok('fsync', fd);
      const { blocks } = await p.fstat(fd);
      t.ok(blocks * 512 >= count * mib, `${blocks} blocks of ${count} MiB`);
    }
  });
  it('a punched hole reads as zeros, keeps the size and frees space', 'punchHole', 'holes', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.alloc(256 * kib, 'd'));
    await p.ok('fsync', fd);
    const { blocks } = await p.fstat(fd);
    await p.ok('fallocate', fd, 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 64 * kib, 128 * kib);
    await p.ok('fsync', fd);
    const content = await p.probe.readFile('f');
    t.ok(content.equals(Buffer.concat([Buffer.alloc(64 * kib, 'd'), Buffer.alloc(128 * kib), Buffer.alloc(64 * kib, 'd')])));
    t.equal(await p.ok('lseek', fd, 0, 'SEEK_HOLE'), 64 * kib);
    t.equal(await p.ok('lseek', fd, 64 * kib, 'SEEK_DATA'), 192 * kib);
    t.ok((await p.fstat(fd)).blocks < blocks);
  });
  it('a hole that starts and ends within blocks keeps its neighbours', 'punchHole', async (t, p) => {
    await p.file('f', 'x'.repeat(20_000));
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('fallocate', fd, 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 1001, 11_111);
    t.equal(await p.text('f'), `${'x'.repeat(1001)}${'\0'.repeat(11_111)}${'x'.repeat(20_000 - 12_112)}`);
  });
  it('a hole past the end changes nothing', 'punchHole', async (t, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('fallocate', fd, 'FALLOC_FL_PUNCH_HOLE|FALLOC_FL_KEEP_SIZE', 100_000, 4096);
    t.equal(await p.text('f'), 'abc');
  });
  it('a hole without KEEP_SIZE is refused', async (_, p) => {
    await p.file('f', 'abc');
    await p.fails(['EOPNOTSUPP', 'ENOTSUP', 'EINVAL'], 'fallocate', await p.open('f', 'O_RDWR'), 'FALLOC_FL_PUNCH_HOLE', 0, 4096);
  });
  it('fallocate makes a file longer with zeros and leaves its data', 'preallocate', async (t, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('fallocate', fd, 0, 0, 10_000);
    t.equal(await p.text('f'), `abc${'\0'.repeat(9997)}`);
    await p.ok('fallocate', fd, 0, 0, 10);
    t.equal((await p.fstat(fd)).size, 10_000, 'never shorter');
  });
  it('fallocate takes every block that the range touches', 'preallocate', async (t, p) => {
    for (const mode of [0, 'FALLOC_FL_KEEP_SIZE']) {
      const fd = await p.open('f', 'O_CREAT|O_TRUNC|O_RDWR');
      await p.ok('fallocate', fd, mode, 4095, 2);
      const { blocks } = await p.fstat(fd);
      t.ok(blocks >= 16, `${blocks} blocks, mode ${mode}`);
      await p.ok('write', fd, Buffer.from('xx'), 4095);
      await p.ok('fsync', fd);
      t.equal((await p.fstat(fd)).blocks, blocks, 'writing there takes no more');
      await p.ok('close', fd);
    }
  });
  it('truncating to the same size frees what was reserved past the end', 'preallocate', async (t, p) => {
    await p.file('f', 'x'.repeat(8192));
    const fd = await p.open('f', 'O_RDWR');
    const { blocks } = await p.fstat(fd);
    await p.ok('fallocate', fd, 'FALLOC_FL_KEEP_SIZE', 8192, 8192);
    t.ok((await p.fstat(fd)).blocks > blocks);
    await p.ok('ftruncate', fd, 8192);
    t.equal((await p.fstat(fd)).blocks, blocks);
  });
  it('fallocate with KEEP_SIZE keeps the size', 'preallocate', async (t, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('fallocate', fd, 'FALLOC_FL_KEEP_SIZE', 0, 10_000);
    t.equal(await p.text('f'), 'abc');
  });
  it('a zeroed range reads as zeros and grows the file unless told not to', 'zeroRange', async (t, p) => {
    await p.file('f', 'x'.repeat(10_000));
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('fallocate', fd, 'FALLOC_FL_ZERO_RANGE', 100, 5000);
    t.equal(await p.text('f'), `${'x'.repeat(100)}${'\0'.repeat(5000)}${'x'.repeat(4900)}`);
    await p.ok('fallocate', fd, 'FALLOC_FL_ZERO_RANGE|FALLOC_FL_KEEP_SIZE', 9000, 5000);
    t.equal((await p.fstat(fd)).size, 10_000);
    await p.ok('fallocate', fd, 'FALLOC_FL_ZERO_RANGE', 9000, 5000);
    t.equal((await p.fstat(fd)).size, 14_000);
  });
}
