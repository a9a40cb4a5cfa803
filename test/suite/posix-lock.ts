/** Part of the POSIX suite (posix-suite.ts): record locks, open file description locks and flock(2). */
import type { Probe } from '../mount/posix-probe.js';
import type { It } from './posix-place.js';

export function lockTests(it: It): void {
  it('an exclusive flock keeps others out until it is released', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await p.ok('flock', mine, 'LOCK_EX');
    t.equal(await other.errno('flock', theirs, 'LOCK_EX|LOCK_NB'), 'EAGAIN');
    t.equal(await other.errno('flock', theirs, 'LOCK_SH|LOCK_NB'), 'EAGAIN');
    await p.ok('flock', mine, 'LOCK_UN');
    t.equal(await other.errno('flock', theirs, 'LOCK_EX|LOCK_NB'), 'OK');
  });
  it('shared flocks share', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    await p.ok('flock', await p.open('f', 'O_RDONLY'), 'LOCK_SH');
    const theirs = await other.ok('open', 'f', 'O_RDONLY');
    t.equal(await other.errno('flock', theirs, 'LOCK_SH|LOCK_NB'), 'OK');
    t.equal(await other.errno('flock', theirs, 'LOCK_EX|LOCK_NB'), 'EAGAIN');
  });
  it('closing releases a flock, but not while a duplicate is open', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    const mine = await p.open('f', 'O_RDWR');
    await p.ok('flock', mine, 'LOCK_EX');
    const copy = await p.ok('dup', mine);
    await p.ok('close', mine);
    t.equal(await other.errno('flock', theirs, 'LOCK_EX|LOCK_NB'), 'EAGAIN');
    await p.ok('close', copy);
    t.equal(await other.errno('flock', theirs, 'LOCK_EX|LOCK_NB'), 'OK');
  });
  it('a process that waits for a flock gets it', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    await p.ok('flock', mine, 'LOCK_EX');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    const waiting = other.errno('flock', theirs, 'LOCK_EX');
    await p.ok('flock', mine, 'LOCK_UN');
    t.equal(await waiting, 'OK');
  });
  it('record locks conflict by range only', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await p.ok('lock', mine, 'F_SETLK', 'F_WRLCK', 100, 100);
    t.match(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 150, 10), /EAGAIN|EACCES/);
    t.match(await other.errno('lock', theirs, 'F_SETLK', 'F_RDLCK', 199, 1), /EAGAIN|EACCES/);
    t.equal(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 0, 100), 'OK');
    t.equal(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 200, 0), 'OK');
  });
  it('F_GETLK reports the holder and range of a lock', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    await p.ok('lock', await p.open('f', 'O_RDWR'), 'F_SETLK', 'F_WRLCK', 100, 50);
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    const found = await other.need('lock', theirs, 'F_GETLK', 'F_RDLCK', 0, 0);
    t.same([found.value, found.start, found.length], [1, '100', '50']);
    t.ok((found.pid ?? 0) > 0);
    t.equal((await other.need('lock', theirs, 'F_GETLK', 'F_RDLCK', 0, 100)).value, 2, 'free');
  });
  it('unlocking the middle of a record lock leaves both ends', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await p.ok('lock', mine, 'F_SETLK', 'F_WRLCK', 0, 300);
    await p.ok('lock', mine, 'F_SETLK', 'F_UNLCK', 100, 100);
    t.equal(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 100, 100), 'OK');
    t.match(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 99, 1), /EAGAIN|EACCES/);
    t.match(await other.errno('lock', theirs, 'F_SETLK', 'F_WRLCK', 200, 1), /EAGAIN|EACCES/);
  });
  it('closing any descriptor of the file drops the record locks of the process', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    await p.ok('lock', await p.open('f', 'O_RDWR'), 'F_SETLK', 'F_WRLCK', 0, 0);
    await p.ok('close', await p.open('f', 'O_RDONLY'));
    t.equal(await other.errno('lock', await other.ok('open', 'f', 'O_RDWR'), 'F_SETLK', 'F_WRLCK', 0, 0), 'OK');
  });
  it('the end of a process releases its locks', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await other.ok('lock', theirs, 'F_SETLK', 'F_WRLCK', 0, 0);
    await other.ok('flock', theirs, 'LOCK_EX');
    const mine = await p.open('f', 'O_RDWR');
    const waiting = p.ok('lock', mine, 'F_SETLKW', 'F_WRLCK', 0, 0);
    await other.close();
    t.equal(await waiting, 0);
    await p.ok('flock', mine, 'LOCK_EX');
  });
  it('a process that waits for a record lock gets it', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    await p.ok('lock', mine, 'F_SETLK', 'F_WRLCK', 0, 10);
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    const waiting = other.errno('lock', theirs, 'F_SETLKW', 'F_RDLCK', 5, 1);
    await p.ok('lock', mine, 'F_SETLK', 'F_UNLCK', 0, 10);
    t.equal(await waiting, 'OK');
  });
  it('one of two processes that wait for each other gets EDEADLK', 'lockDeadlock', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await p.ok('lock', mine, 'F_SETLK', 'F_WRLCK', 0, 1);
    await other.ok('lock', theirs, 'F_SETLK', 'F_WRLCK', 1, 1);
    const answers: string[] = [];
    const leave = async (probe: Probe, fd: number, wanted: number, held: number): Promise<void> => {
      answers.push(await probe.errno('lock', fd, 'F_SETLKW', 'F_WRLCK', wanted, 1));
      await probe.ok('lock', fd, 'F_SETLK', 'F_UNLCK', held, 1);
    };
    await Promise.all([leave(p.probe, mine, 1, 0), leave(other, theirs, 0, 1)]);
    t.same(answers.toSorted(), ['EDEADLK', 'OK']);
  });
  it('open file description locks conflict between descriptors of one process', async (t, p) => {
    await p.file('f');
    const a = await p.open('f', 'O_RDWR');
    const b = await p.open('f', 'O_RDWR');
    await p.ok('lock', a, 'F_OFD_SETLK', 'F_WRLCK', 0, 0);
    t.match(await p.probe.errno('lock', b, 'F_OFD_SETLK', 'F_WRLCK', 0, 0), /EAGAIN|EACCES/);
    await p.ok('close', a);
    await p.ok('lock', b, 'F_OFD_SETLK', 'F_WRLCK', 0, 0);
  });
  it('a read lock needs a readable descriptor, a write lock a writable one', async (_, p) => {
    await p.file('f');
    await p.fails('EBADF', 'lock', await p.open('f', 'O_RDONLY'), 'F_SETLK', 'F_WRLCK', 0, 0);
    await p.fails('EBADF', 'lock', await p.open('f', 'O_WRONLY'), 'F_SETLK', 'F_RDLCK', 0, 0);
  });
  it('a descriptor that waits for an open file description lock gets it', async (t, p) => {
    await p.file('f');
    const other = await p.other();
    const mine = await p.open('f', 'O_RDWR');
    const theirs = await other.ok('open', 'f', 'O_RDWR');
    await p.ok('lock', mine, 'F_OFD_SETLK', 'F_WRLCK', 0, 0);
    const waiting = other.call('lock', theirs, 'F_OFD_SETLKW', 'F_WRLCK', 0, 0);
    t.equal(await Promise.race([waiting.then(() => 'got it'), p.stat('f').then(() => 'waits')]), 'waits');
    await p.ok('close', mine);
    t.equal((await waiting).error, undefined);
  });
  it('opening a file breaks its lease, and waits until the lease is given up', async (t, p) => {
    await p.file('f', 'x');
    const other = await p.other();
    const fd = await p.open('f', 'O_RDWR');
    await p.ok('lease', fd, 'F_SETLEASE', 'F_WRLCK');
    t.equal(await p.ok('lease', fd, 'F_GETLEASE', 0), 1, 'a writer holds it');
    t.equal(await other.errno('open', 'f', 'O_RDONLY|O_NONBLOCK'), 'EAGAIN');
    const waiting = other.call('open', 'f', 'O_RDONLY');
    await p.ok('lease', fd, 'F_SETLEASE', 'F_UNLCK');
    t.equal((await waiting).error, undefined);
  });
  it('a lease for writing is refused while another has the file open', async (_, p) => {
    await p.file('f', 'x');
    const other = await p.other();
    await other.ok('open', 'f', 'O_RDONLY');
    const fd = await p.open('f', 'O_RDWR');
    await p.fails('EAGAIN', 'lease', fd, 'F_SETLEASE', 'F_WRLCK');
    await p.ok('close', fd);
    await p.ok('lease', await p.open('f', 'O_RDONLY'), 'F_SETLEASE', 'F_RDLCK');
  });
}
