/** The drive as applications see it: a real volume, the filesystem over it, our driver, the kernel. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { linuxSuite } from '../suite/linux-suite.js';
import { posixSuite } from '../suite/posix-suite.js';
import { scratchDirectory } from '../suite/scratch.js';

/**
 * FUSE_STATX came with Linux 6.6; before it the birth time has no way to the application (doc/semantics.md, "Kernels").
 */
const [major = 0, minor = 0] = release().split('.').map(Number);
const hasStatx = major > 6 || (major === 6 && minor >= 6);
const why = whyNoFuse();
if (why !== false) t.plan(0, why);
else {
  const directory = await scratchDirectory(t);
  const state = await scratchDirectory(t);
  const daemon = spawn(process.execPath, ['--enable-source-maps', fileURLToPath(new URL('drive-daemon.js', import.meta.url)), directory, state]);
  let [said, warned] = ['', ''];
  daemon.stdout.on('data', (part: Buffer) => (said += part.toString()));
  daemon.stderr.on('data', (part: Buffer) => (warned += part.toString()));
  await Promise.race([once(daemon.stdout, 'data'), once(daemon, 'exit')]);
  // Teardowns run last first: the suite empties the mount, then it is unmounted.
  t.teardown(async () => {
    const exited = daemon.exitCode === null ? once(daemon, 'exit') : undefined;
    daemon.stdin.end();
    await exited;
    t.comment(said);
    // Everything that the suite has removed is freed by then, also files that were open.
    if (!said.includes('ended with 1 files')) throw new Error(`files are left over: ${said}`);
    if (warned !== '') throw new Error(`the daemon warned: ${warned}`);
  });
  t.equal(said, 'ready\n', warned);
  const root = process.getuid?.() === 0;
  if (daemon.exitCode === null) {
    posixSuite(t, {
      directory,
      capabilities: { otherUsers: root, deviceNodes: root, trustedXattrs: root, sizeLimitOnWrite: false, birthTime: hasStatx },
    });
    linuxSuite(t, { directory, capabilities: { root, immutableOnOpen: false } });
  }
}
