import { constants } from 'node:os';
import t from 'tap';
import { createLogger } from '../../src/base/logger.js';
import { createErrnoOf } from '../../src/daemon/errno.js';
import { FuseError } from '../../src/fuse/fuse-error.js';
import { OperationError } from '../../src/operation/operation.js';
import { VfsError } from '../../src/vfs/vfs-error.js';
import { VolumeError } from '../../src/volume/volume-error.js';

const { errno } = constants;

function withLog(): { readonly errnoOf: (error: unknown) => number; readonly lines: string[] } {
  const lines: string[] = [];
  return { errnoOf: createErrnoOf(createLogger((line) => lines.push(line))), lines };
}

t.test('names of errnos become their numbers, and nothing is logged', async (t) => {
  const { errnoOf, lines } = withLog();
  t.equal(errnoOf(new VfsError('ESTALE', 'x')), errno.ESTALE);
  t.equal(errnoOf(new VfsError('ENODATA', 'x')), errno.ENODATA);
  t.equal(errnoOf(new OperationError('ENOTEMPTY', 'x')), errno.ENOTEMPTY);
  t.equal(errnoOf(new OperationError('E2BIG', 'x')), errno.E2BIG);
  t.same(lines, []);
});

t.test('errors of the volume become what an application can act on', async (t) => {
  const { errnoOf, lines } = withLog();
  t.equal(errnoOf(new VolumeError('UNAVAILABLE', 'x')), errno.ETIMEDOUT);
  t.equal(errnoOf(new VolumeError('FULL', 'x')), errno.ENOSPC);
  t.equal(errnoOf(new VolumeError('READ_ONLY', 'x')), errno.EROFS);
  t.equal(errnoOf(new VolumeError('CLOSED', 'x')), errno.ENOTCONN);
  t.equal(errnoOf(new VolumeError('INTERRUPTED', 'x')), errno.EINTR);
  t.equal(errnoOf(new VolumeError('NO_DESCRIPTORS', 'x')), errno.ENFILE);
  t.equal(errnoOf(new VolumeError('NO_MEMORY', 'x')), errno.ENOMEM);
  t.equal(errnoOf(new Error('zstd: Allocation error : not enough memory')), errno.ENOMEM, 'also where nobody translates it');
  t.equal(errnoOf(new RangeError('Array buffer allocation failed')), errno.ENOMEM);
  t.same(lines, []);
});

t.test('a failed check is EIO, and logged once', async (t) => {
  const { errnoOf, lines } = withLog();
  for (let round = 0; round < 3; round++) t.equal(errnoOf(new VolumeError('CORRUPT', 'a page does not verify')), errno.EIO);
  t.equal(errnoOf(new VolumeError('FENCED', 'the store went back')), errno.EIO);
  t.equal(errnoOf(new VolumeError('REFUSED', 'the object is in an archive')), errno.EIO);
  t.equal(lines.length, 3);
  t.match(lines[0], 'a page does not verify');
});

t.test('an aborted request is EINTR', async (t) => {
  const { errnoOf } = withLog();
  t.equal(errnoOf(new FuseError('INTERRUPTED', 'the caller gave up')), errno.EINTR);
  const controller = new AbortController();
  controller.abort();
  t.equal(errnoOf(controller.signal.reason), errno.EINTR);
});

t.test('any other exception is EIO, and each kind is logged once', async (t) => {
  const { errnoOf, lines } = withLog();
  for (const thrown of [new TypeError('a bug'), new TypeError('the same kind'), 'text', undefined, null, 7, { code: 'ENOENT' }]) {
    t.equal(errnoOf(thrown), errno.EIO);
  }
  t.equal(errnoOf(new VfsError('EWHATEVER' as never, 'a cast')), errno.EIO);
  t.equal(lines.length, 6);
});
