/** A directory of the real disk for one test, removed with it. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export async function scratchDirectory(t: { teardown(fn: () => unknown): void }): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'sealdrive-test-'));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}
