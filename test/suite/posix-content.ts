/** Part of the POSIX suite (posix-suite.ts): reading, writing, mapping, and unlinked files. */
import { ProbeGoneError } from '../mount/posix-probe.js';
import { type It, kib } from './posix-place.js';

export function contentTests(it: It): void {
  it('written data is read back, at every size around the usual block boundaries', async (t, p) => {
    for (const size of [1, 511, 4095, 4096, 4097, 65535, 65536, 131071, 262143, 262144, 262145, 1048577]) {
      const content = Buffer.from(Array.from({ length: size }, (_, i) => (i * 31 + (i >> 8) * 17 + size) & 255));
      await p.file(`f${size}`, content);
      t.equal((await p.stat(`f${size}`)).size, size);
      t.ok((await p.probe.readFile(`f${size}`)).equals(content), `${size} bytes`);
    }
  });
  it('overwriting the middle leaves the rest unchanged', async (t, p) => {
    await p.file('f', 'a'.repeat(10_000));
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('write', fd, Buffer.from('X'.repeat(100)), 4050);
    t.equal(await p.text('f'), 'a'.repeat(4050) + 'X'.repeat(100) + 'a'.repeat(5850));
  });
  it('one descriptor sees at once what another wrote, before any close', async (t, p) => {
    const other = await p.other();
    const writer = await p.open('f', 'O_CREAT|O_WRONLY');
    const reader = await other.ok('open', 'f', 'O_RDONLY');
    for (let i = 0; i < 20; i++) {
      await p.ok('write', writer, Buffer.from(`line ${i}\n`));
      t.equal((await other.readAt(reader, 1000, 0)).length, (await other.stat('stat', 'f')).size);
    }
  });
  it('reading at and past the end returns nothing', async (t, p) => {
    await p.file('f', 'abc');
    const fd = await p.open('f', 'O_RDONLY');
    t.equal((await p.probe.readAt(fd, 10, 3)).length, 0);
    t.equal((await p.probe.readAt(fd, 10, 4_000_000_000)).length, 0);
    t.equal((await p.probe.readAt(fd, 10, 1)).toString(), 'bc');
  });
  it('a write past the end fills the gap with zeros', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.from('a'));
    await p.ok('write', fd, Buffer.from('b'), 10_000);
    t.equal(await p.text('f'), `a${'\0'.repeat(9999)}b`);
  });
  it('truncate shortens, and a later growth shows zeros and not the old bytes', async (t, p) => {
    await p.file('f', 'x'.repeat(10_000));
    await p.ok('truncate', 'f', 100);
    await p.ok('truncate', 'f', 10_000);
    t.equal(await p.text('f'), 'x'.repeat(100) + '\0'.repeat(9900));
  });
  it('truncating twice within unwritten data leaves zeros', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.alloc(300 * kib, 'x').subarray(0, 30_000));
    await p.ok('ftruncate', fd, 5000);
    await p.ok('write', fd, Buffer.from('end'), 20_000);
    await p.ok('close', fd);
    t.equal(await p.text('f'), `${'x'.repeat(5000)}${'\0'.repeat(15_000)}end`);
  });
  it('a file may be a terabyte long and hold three bytes', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    const far = 1_099_511_627_776 - 3;
    await p.ok('write', fd, Buffer.from('end'), far);
    t.equal((await p.fstat(fd)).size, far + 3);
    t.equal((await p.probe.readAt(fd, 100, far - 2)).toString(), '\0\0end');
  });
  it('lseek finds the end after a write', async (t, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.alloc(12_345));
    t.equal(await p.ok('lseek', fd, 0, 'SEEK_END'), 12_345);
    t.equal(await p.ok('lseek', fd, -345, 'SEEK_CUR'), 12_000);
  });
  it('fsync and fdatasync work on files, fsync and syncfs on directories', async (_, p) => {
    const fd = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.from('x'));
    await p.ok('fsync', fd);
    await p.ok('fdatasync', fd);
    const dir = await p.open('.', 'O_RDONLY|O_DIRECTORY');
    await p.ok('fsync', dir);
    await p.ok('syncfs', dir);
  });
  it('O_SYNC and O_DSYNC descriptors can be written', async (t, p) => {
    for (const flag of ['O_SYNC', 'O_DSYNC']) {
      const fd = await p.open(flag, `O_CREAT|O_WRONLY|${flag}`);
      await p.ok('write', fd, Buffer.from('x'));
      t.equal(await p.text(flag), 'x');
    }
  });
  it('O_DIRECT reads and writes agree with the page cache', async (t, p) => {
    const cached = await p.open('f', 'O_CREAT|O_RDWR');
    await p.ok('write', cached, Buffer.concat([Buffer.alloc(4096, 'a'), Buffer.alloc(4096, 'b')]), 0);
    const direct = await p.open('f', 'O_RDWR|O_DIRECT');
    t.ok((await p.probe.readAt(direct, 4096, 4096)).equals(Buffer.alloc(4096, 'b')));
    await p.ok('write', direct, Buffer.alloc(4096, 'c'), 0);
    await p.ok('write', direct, Buffer.alloc(4096, 'd'), 8192);
    t.ok((await p.probe.readAt(cached, 12_288, 0)).equals(Buffer.concat(['c', 'b', 'd'].map((byte) => Buffer.alloc(4096, byte)))));
    t.equal((await p.fstat(cached)).size, 12_288);
  });
  it('a file that is renamed while it is open stays the same file', async (t, p) => {
    const fd = await p.open('a', 'O_CREAT|O_RDWR');
    await p.ok('write', fd, Buffer.from('before '), 0);
    await p.ok('mkdir', 'd');
    await p.ok('rename', 'a', 'd/b');
    await p.ok('write', fd, Buffer.from('after'), 7);
    t.equal(await p.text('d/b'), 'before after');
    t.equal((await p.fstat(fd)).ino, (await p.stat('d/b')).ino);
    await p.file('a', 'another');
    t.equal((await p.probe.readAt(fd, 100, 0)).toString(), 'before after');
  });
  it('copy_file_range copies between files and within one', async (t, p) => {
    await p.file('a', '0123456789'.repeat(1000));
    const from = await p.open('a', 'O_RDWR');
    const to = await p.open('b', 'O_CREAT|O_RDWR');
    t.equal(await p.ok('copy_file_range', from, 5, to, 3, 4000), 4000);
    t.equal(await p.text('b'), `\0\0\0${'0123456789'.repeat(1000).slice(5, 4005)}`);
    t.equal(await p.ok('copy_file_range', from, 0, from, 9000, 50), 50);
    t.equal((await p.text('a')).slice(8999, 9051), `9${'0123456789'.repeat(5)}0`);
  });
  it('copy_file_range stops at the end, refuses overlap and needs a writer', async (t, p) => {
    await p.file('a', 'abcdef');
    const from = await p.open('a', 'O_RDWR');
    const to = await p.open('b', 'O_CREAT|O_RDWR');
    t.equal(await p.ok('copy_file_range', from, 4, to, 0, 100), 2);
    t.equal(await p.ok('copy_file_range', from, 100, to, 0, 100), 0);
    await p.fails('EINVAL', 'copy_file_range', from, 0, from, 2, 4);
    await p.fails('EBADF', 'copy_file_range', from, 0, await p.open('b', 'O_RDONLY'), 0, 4);
  });
  it('a copy made by copy_file_range does not change with its source', async (t, p) => {
    await p.file('a', Buffer.alloc(600_000, 'a'));
    const from = await p.open('a', 'O_RDWR');
    const to = await p.open('b', 'O_CREAT|O_RDWR');
    await p.ok('copy_file_range', from, 0, to, 0, 600_000);
    await p.ok('write', from, Buffer.from('X'), 300_000);
    await p.ok('ftruncate', from, 300_002);
    t.ok((await p.probe.readFile('b')).equals(Buffer.alloc(600_000, 'a')));
  });
}

export function mappingTests(it: It): void {
  it('a shared mapping writes the file and sees writes', 'sharedMmap', async (t, p) => {
    await p.file('f', 'x'.repeat(20_000));
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 20_000, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    await p.ok('mstore', map, 5000, Buffer.from('mapped'));
    t.equal((await p.probe.readAt(fd, 8, 4999)).toString(), 'xmappedx');
    await p.ok('write', fd, Buffer.from('written'), 9000);
    t.equal(Buffer.from((await p.probe.need('mload', map, 9000, 7)).data ?? '', 'hex').toString(), 'written');
    await p.ok('munmap', map);
  });
  it('stores to a mapping survive msync, unmapping and closing', 'sharedMmap', async (t, p) => {
    await p.file('f', Buffer.alloc(300_000));
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 300_000, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    await p.ok('close', fd);
    await p.ok('mstore', map, 262_140, Buffer.from('across'));
    await p.ok('msync', map);
    await p.ok('mstore', map, 0, Buffer.from('first'));
    await p.ok('munmap', map);
    const content = await p.probe.readFile('f');
    t.equal(content.subarray(262_139, 262_147).toString('latin1'), '\0across\0');
    t.equal(content.subarray(0, 5).toString(), 'first');
  });
  it('a store to a mapping updates the modification time', 'sharedMmap', async (t, p) => {
    await p.file('f', Buffer.alloc(8192));
    const before = await p.stat('f');
    await p.later('f');
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 8192, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    await p.ok('mstore', map, 0, Buffer.from('x'));
    await p.ok('msync', map);
    await p.ok('munmap', map);
    t.ok((await p.stat('f')).mtime > before.mtime);
  });
  it('a private mapping never changes the file', async (t, p) => {
    await p.file('f', 'x'.repeat(5000));
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 5000, 0, 'PROT_READ|PROT_WRITE', 'MAP_PRIVATE');
    await p.ok('mstore', map, 0, Buffer.from('mine'));
    await p.ok('munmap', map);
    t.equal((await p.text('f')).slice(0, 5), 'xxxxx');
  });
  it('a mapping by another process shows shared stores', 'sharedMmap', async (t, p) => {
    await p.file('f', 'x'.repeat(5000));
    const other = await p.other();
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 5000, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    const theirs = await other.ok('mmap', await other.ok('open', 'f', 'O_RDONLY'), 5000, 0, 'PROT_READ', 'MAP_SHARED');
    await p.ok('mstore', map, 10, Buffer.from('hello'));
    t.equal(Buffer.from((await other.need('mload', theirs, 10, 5)).data ?? '', 'hex').toString(), 'hello');
    await p.ok('munmap', map);
  });
  it('a load behind the last page of a file raises SIGBUS', 'sharedMmap', async (t, p) => {
    await p.file('f', 'x'.repeat(5000));
    const other = await p.other();
    const fd = await other.ok('open', 'f', 'O_RDWR');
    const map = await other.ok('mmap', fd, 65536, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    t.equal((await other.need('mload', map, 4999, 1)).data, '78');
    await t.rejects(other.call('mload', map, 8192, 1), ProbeGoneError);
  });
  it('the rest of the last page of a mapping is zero, and stays out of the file', 'sharedMmap', async (t, p) => {
    await p.file('f', 'x'.repeat(100));
    const fd = await p.open('f', 'O_RDWR');
    const map = await p.ok('mmap', fd, 4096, 0, 'PROT_READ|PROT_WRITE', 'MAP_SHARED');
    t.equal((await p.probe.need('mload', map, 100, 100)).data, '00'.repeat(100));
    await p.ok('mstore', map, 200, Buffer.from('lost'));
    await p.ok('msync', map);
    await p.ok('munmap', map);
    await p.ok('ftruncate', fd, 4096);
    t.equal((await p.stat('f')).size, 4096);
    t.equal((await p.text('f')).slice(200, 204), '\0\0\0\0');
  });
}

export function orphanTests(it: It): void {
  it('an unlinked file can be read and written until it is closed', async (t, p) => {
    await p.file('f', 'before');
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('unlink', 'f');
    await p.fails('ENOENT', 'stat', 'f');
    await p.ok('write', fd, Buffer.alloc(600_000, 'z'), 3);
    t.equal((await p.probe.readAt(fd, 5, 0)).toString(), 'befzz');
    const { nlink, size } = await p.fstat(fd);
    t.same([nlink, size], [0, 600_003]);
    await p.ok('ftruncate', fd, 10);
    await p.ok('fsync', fd);
    await p.ok('close', fd);
  });
  it('a new file under a removed name is another file', async (t, p) => {
    await p.file('f', 'old');
    const fd = await p.open('f', 'O_RDONLY');
    await p.ok('unlink', 'f');
    await p.file('f', 'new');
    t.equal((await p.probe.readAt(fd, 10, 0)).toString(), 'old');
    t.not((await p.stat('f')).ino, (await p.fstat(fd)).ino);
  });
  it('a file that one process unlinks stays open in another', async (t, p) => {
    await p.file('f', 'x');
    const other = await p.other();
    const fd = await other.ok('open', 'f', 'O_RDONLY');
    await p.ok('unlink', 'f');
    t.equal((await other.readAt(fd, 10, 0)).toString(), 'x');
  });
  it('a mapping outlives the name and the descriptor', async (t, p) => {
    await p.file('f', 'x'.repeat(5000));
    const fd = await p.open('f', 'O_RDONLY');
    const map = await p.ok('mmap', fd, 5000, 0, 'PROT_READ', 'MAP_PRIVATE');
    await p.ok('unlink', 'f');
    await p.ok('close', fd);
    t.equal((await p.probe.need('mload', map, 4999, 1)).data, '78');
    await p.ok('munmap', map);
  });
}
