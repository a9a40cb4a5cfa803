/** The session without a kernel: negotiation, replies, and lookups that are undone. */
import t from 'tap';
import { FuseError } from '../../src/fuse/fuse-error.js';
import type { Negotiated } from '../../src/fuse/negotiation.js';
import { opcode } from '../../src/fuse/opcode.js';
import type { Entry, FuseOperations, RequestContext } from '../../src/fuse/operations.js';
import { FuseSession, type SessionOptions } from '../../src/fuse/session.js';
import { MemoryFilesystem, MemoryFilesystemError, memoryErrnoOf } from './memory-filesystem.js';

interface Sent {
  readonly error: number;
  readonly unique: number;
  readonly payload: Buffer;
}

/** A session over a channel that records replies; `takes` is the kernel's response to each of them. */
function start(overrides: Partial<FuseOperations> = {}, wishes: SessionOptions = { defaultPermissions: true, writebackCache: false }) {
  const filesystem = new MemoryFilesystem();
  const operations = new Proxy(filesystem, {
    get(target, key) {
      if (key in overrides) return overrides[key as keyof FuseOperations];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? (value as () => unknown).bind(target) : value;
    },
  });
  const sent: Sent[] = [];
  const inits: (Negotiated | FuseError)[] = [];
  const takes = { errno: 0 };
  const request = Buffer.alloc((1 << 20) + 4096);
  const reply = Buffer.alloc(8192);
  const channel = {
    request,
    reply,
    send(length: number, pieces: readonly Uint8Array[] | undefined) {
      const all = Buffer.concat([reply.subarray(0, length), ...(pieces ?? [])]);
      if (all.readUInt32LE(0) !== all.length) throw new Error('the header lies about the length');
      sent.push({ error: all.readInt32LE(4), unique: Number(all.readBigUInt64LE(8)), payload: Buffer.from(all.subarray(16)) });
      return takes.errno;
    },
  };
  const session = new FuseSession(operations, memoryErrnoOf, wishes, channel, (result) => inits.push(result));
  let unique = 0;
  const ask = (code: number, payload: Buffer | string = '', nodeid = 1): number => {
    unique += 2;
    const body = Buffer.from(payload as string, 'latin1');
    request.fill(0, 0, 40);
    request.writeUInt32LE(40 + body.length, 0);
    request.writeUInt32LE(code, 4);
    request.writeBigUInt64LE(BigInt(unique), 8);
    request.writeBigUInt64LE(BigInt(nodeid), 16);
    body.copy(request, 40);
    session.accept(40 + body.length);
    return unique;
  };
  const init = (minor = 45, flags = 0xffffffff, flags2 = 0xffffffff, major = 7): void => {
    const payload = Buffer.alloc(64);
    for (const [index, value] of [major, minor, 131072, flags, flags2].entries()) payload.writeUInt32LE(value, index * 4);
    ask(opcode.INIT, payload);
  };
  return { session, filesystem, sent, inits, takes, ask, init };
}

const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};

void t.test('the session agrees with a new kernel on 7.45, 1 MiB and only the flags it wants', async (t) => {
  const { sent, inits, init, filesystem } = start();
  init();
  const { payload, error } = sent[0]!;
  t.equal(error, 0);
  t.equal(payload.length, 64);
  t.same([payload.readUInt32LE(0), payload.readUInt32LE(4)], [7, 45]);
  t.equal(payload.readUInt32LE(20), 1 << 20, 'max_write');
  t.equal(payload.readUInt16LE(28), 256, 'max_pages');
  const flags = payload.readUInt32LE(12);
  t.equal(flags & (1 << 3), 0, 'no ATOMIC_O_TRUNC');
  t.equal(flags & (1 << 1), 0, 'no POSIX_LOCKS');
  t.equal(flags & (1 << 10), 0, 'no FLOCK_LOCKS');
  t.equal(flags & (1 << 16), 0, 'no WRITEBACK_CACHE unasked');
  t.not(flags & (1 << 20), 0, 'POSIX_ACL');
  t.not(flags & (1 << 6), 0, 'DONT_MASK with it');
  t.equal(payload.readUInt32LE(32), 1 << 3, 'flags2: HAS_EXPIRE_ONLY only');
  t.match(filesystem.connection, { minor: 45, readdirplus: true, writebackCache: false });
  t.equal(inits.length, 1);
});

void t.test('the session agrees with Linux 5.4 on 7.31 and asks for nothing newer', async (t) => {
  const { sent, init } = start({}, { defaultPermissions: false, writebackCache: true });
  init(31, 0x07ffffff, 0);
  const { payload } = sent[0]!;
  t.equal(payload.readUInt32LE(4), 31);
  t.equal(payload.readUInt32LE(12) >>> 27, 0);
  t.equal(payload.readUInt32LE(12) & (1 << 6), 0, 'the kernel applies the umask');
  t.not(payload.readUInt32LE(12) & (1 << 16), 0, 'WRITEBACK_CACHE');
  t.equal(payload.readUInt32LE(32), 0);
});

void t.test('an older kernel is refused, and a newer major version is answered with ours', async (t) => {
  const old = start();
  old.init(30);
  t.equal(old.sent[0]!.error, -71);
  t.match(old.inits, [{ code: 'PROTOCOL' }]);
  const future = start();
  future.init(0, 0, 0, 8);
  t.equal(future.sent[0]!.payload.readUInt32LE(0), 7);
  t.equal(future.inits.length, 0, 'INIT comes again');
  future.init();
  t.equal(future.inits.length, 1);
});

void t.test('unknown opcodes get ENOSYS, IOCTL gets ENOTTY, and FORGET gets no reply', async (t) => {
  const { sent, ask, init } = start();
  init();
  sent.length = 0;
  ask(999);
  ask(opcode.ACCESS, Buffer.alloc(8));
  ask(opcode.IOCTL, Buffer.alloc(32));
  ask(opcode.FORGET, u64(1));
  ask(opcode.BATCH_FORGET, Buffer.concat([u64(2), u64(5), u64(1), u64(6), u64(1)]));
  t.same(
    sent.map(({ error }) => error),
    [-38, -38, -25],
  );
});

void t.test('OPEN and CREATE without handles get ENOSYS, or a handle where the kernel insists', async (t) => {
  const modern = start();
  modern.init();
  modern.ask(opcode.OPEN, Buffer.alloc(8));
  modern.ask(opcode.CREATE, Buffer.concat([Buffer.alloc(16), Buffer.from('x\0')]));
  t.same(
    modern.sent.slice(1).map(({ error }) => error),
    [-38, -38],
  );
  const plain = start();
  plain.init(31, 0);
  plain.ask(opcode.OPEN, Buffer.alloc(8));
  t.equal(plain.sent[1]!.error, 0);
});

void t.test('the umask is passed to the filesystem only when the kernel has not applied it', async (t) => {
  const seen: number[] = [];
  const mkdir = (context: RequestContext): never => {
    seen.push(context.umask);
    throw new MemoryFilesystemError('EEXIST');
  };
  const payload = Buffer.from('ff010000120000006400', 'hex');
  const ours = start({ mkdir });
  ours.init();
  ours.ask(opcode.MKDIR, payload);
  const kernels = start({ mkdir }, { defaultPermissions: false, writebackCache: false });
  kernels.init();
  kernels.ask(opcode.MKDIR, payload);
  t.same(seen, [0o022, 0]);
  t.equal(ours.sent[1]!.error, -17);
});

void t.test('a lookup is undone when the kernel does not accept its reply', async (t) => {
  const { takes, ask, init, filesystem } = start();
  init();
  takes.errno = 2;
  const before = filesystem.nodeCount;
  ask(opcode.MKNOD, Buffer.concat([Buffer.from('a481000000000000000000000000000078', 'hex'), Buffer.alloc(1)]));
  filesystem.unlink({} as RequestContext, 1 as never, 'x');
  t.equal(filesystem.nodeCount, before, 'nothing holds the inode any more');
});

void t.test('an interrupt aborts the request that it names, which is answered with EINTR', async (t) => {
  const { sent, ask, init, session } = start({
    getattr: (context) => new Promise((_, reject) => context.signal.addEventListener('abort', () => reject(context.signal.reason as Error))),
  });
  init();
  const waiting = ask(opcode.GETATTR, Buffer.alloc(16));
  t.equal(session.pendingCount, 1);
  ask(opcode.INTERRUPT, u64(4711));
  await settle();
  t.equal(sent.length, 1, 'another unique is none of ours');
  ask(opcode.INTERRUPT, u64(waiting));
  await settle();
  t.match(sent[1], { unique: waiting, error: -4 });
  t.equal(session.pendingCount, 0);
});

void t.test('a caller that gives up is answered at once, and the result that arrives later is undone', async (t) => {
  let find!: () => void;
  const forgotten: (readonly [number, number])[] = [];
  const entry = { nodeId: 7 } as Entry;
  const { sent, ask, init, session } = start({
    lookup: () => new Promise((resolve) => (find = () => resolve(entry))),
    forget: (nodeId, count) => void forgotten.push([nodeId, count]),
  });
  init();
  const waiting = ask(opcode.LOOKUP, 'there\0');
  ask(opcode.INTERRUPT, u64(waiting));
  t.match(sent[1], { unique: waiting, error: -4 }, 'before the operation has heard of it');
  t.equal(session.pendingCount, 0);
  find();
  await settle();
  t.equal(sent.length, 2, 'no second answer');
  t.strictSame(forgotten, [[7, 1]]);
});

void t.test('a change whose caller has given up is answered only when its outcome is known', async (t) => {
  let finish!: () => void;
  const { sent, ask, init } = start({ fsync: () => new Promise<void>((resolve) => (finish = resolve)) });
  init();
  const waiting = ask(opcode.FSYNC, Buffer.alloc(16), 5);
  ask(opcode.INTERRUPT, u64(waiting));
  await settle();
  t.equal(sent.length, 1);
  finish();
  await settle();
  t.match(sent[1], { unique: waiting, error: 0 });
});

void t.test('a caller that got a harmless signal keeps waiting, and the kernel is asked to report the next one', async (t) => {
  let finish!: () => void;
  const wishes = { defaultPermissions: true, writebackCache: false, givesUp: () => false };
  const { sent, ask, init, session } = start(
    { getattr: () => new Promise((_, reject) => (finish = () => reject(new FuseError('INTERRUPTED', 'x')))) },
    wishes,
  );
  init();
  const waiting = ask(opcode.GETATTR, Buffer.alloc(16));
  const notice = ask(opcode.INTERRUPT, u64(waiting));
  while (sent.length === 1) await new Promise((resolve) => setTimeout(resolve, 5));
  t.match(sent[1], { unique: notice, error: -11 });
  t.equal(session.pendingCount, 1);
  finish();
  await settle();
  t.equal(session.pendingCount, 0);
});

void t.test('replies may come in any order, and none is sent after the session has ended', async (t) => {
  const finish = new Map<number, () => void>();
  const { sent, ask, init, session } = start({
    fsync: (_context, nodeId) => new Promise<void>((resolve) => finish.set(nodeId, resolve)),
  });
  init();
  const first = ask(opcode.FSYNC, Buffer.alloc(16), 5);
  const second = ask(opcode.FSYNC, Buffer.alloc(16), 6);
  finish.get(6)?.();
  await settle();
  finish.get(5)?.();
  await settle();
  t.same(
    sent.slice(1).map(({ unique }) => unique),
    [second, first],
  );
  ask(opcode.FSYNC, Buffer.alloc(16), 7);
  session.end();
  finish.get(7)?.();
  await settle();
  t.equal(sent.length, 3);
});

void t.test('a request that is too short gets EIO, and the session continues', async (t) => {
  const { sent, ask, init } = start();
  init();
  ask(opcode.WRITE, Buffer.alloc(8));
  ask(opcode.LOOKUP, 'no end');
  ask(opcode.STATFS);
  t.same(
    sent.slice(1).map(({ error }) => error),
    [-5, -5, 0],
  );
});

void t.test('xattr values must fit, and size 0 asks how long they are', async (t) => {
  const { sent, ask, init } = start({ getxattr: () => Buffer.from('value') });
  init();
  for (const size of [0, 4, 5]) ask(opcode.GETXATTR, Buffer.concat([u64(size), Buffer.from('user.a\0')]));
  t.equal(sent[1]!.payload.readUInt32LE(0), 5);
  t.equal(sent[2]!.error, -34);
  t.equal(sent[3]!.payload.toString(), 'value');
});
