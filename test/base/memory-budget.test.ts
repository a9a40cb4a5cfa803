/** The shares of a mount's memory never exceed the whole, and a typical machine gets the documented figures. */
import t from 'tap';
import { budgetOf, memoryMin, memoryUsualMax, usualBudget } from '../../src/base/memory-budget.js';

const MiB = 1024 * 1024;

t.test('the shares fit into the whole, whatever its size, and none is too small for use', async (t) => {
  const sizes: number[] = [];
  for (let size = memoryMin; size <= 64 * 1024 * MiB; size = Math.ceil(size * 1.01) + 1) sizes.push(size);
  for (const size of [...sizes, 64 * 1024 * MiB]) {
    const { shares, totalBytes, readAheadBytes, largeRequests, reads, writes } = budgetOf(size);
    const sum = Object.values(shares).reduce((a, b) => a + b, 0);
    if (sum > size || totalBytes !== size) t.fail(`${size}: the shares are ${sum}`);
    if (readAheadBytes > shares.chunks) t.fail(`${size}: more is fetched ahead than is kept`);
    // A chunk has up to 4 MiB, a page up to 1 MiB, and a request of the kernel 1 MiB.
    if (shares.chunks < 8 * MiB || shares.dirty < 8 * MiB || shares.contentWindows < 4 * MiB) t.fail(`${size}: too small`);
    if (largeRequests < 1 || reads < 4 || writes < 2) t.fail(`${size}: too few requests`);
  }
});

t.test('a machine with enough memory gets the usual figures', async (t) => {
  t.strictSame(usualBudget, {
    totalBytes: memoryUsualMax,
    shares: {
      chunks: 64 * MiB,
      contentWindows: 24 * MiB,
      pageWindows: 8 * MiB,
      treePages: 48 * MiB,
      dirty: 64 * MiB,
      operations: 128 * MiB,
      overlay: 16 * MiB,
      requests: 32 * MiB,
    },
    readAheadBytes: 40 * MiB,
    largeRequests: 4,
    reads: 24,
    writes: 8,
  });
});

t.test('more memory enlarges caches, but not the queues that others wait for', async (t) => {
  const { shares, reads, writes } = budgetOf(8 * 1024 * MiB);
  t.ok(shares.chunks > 1024 * MiB);
  t.strictSame([shares.operations, shares.overlay, reads, writes], [128 * MiB, 16 * MiB, 24, 8]);
});
