/**
 * The POSIX suite on a plain directory, which shows that the suite demands only what this machine's own filesystem
 * does. TEST_DIRECTORY names another directory to test instead, such as a drive that is already mounted; TEST_LACKS
 * names what it cannot do.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { linuxSuite } from '../suite/linux-suite.js';
import { posixSuite } from '../suite/posix-suite.js';

const given = process.env['TEST_DIRECTORY'];
const root = process.getuid?.() === 0;
const lacks = Object.fromEntries((process.env['TEST_LACKS'] ?? '').split(',').map((name) => [name, false]));
if (given !== undefined) posixSuite(t, { directory: given, capabilities: lacks });
else {
  const directory = await mkdtemp(join(tmpdir(), 'plain-'));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  // ext4 limits the xattrs of a file to one block.
  posixSuite(t, { directory, capabilities: { xattrSizeMax: 3000, otherUsers: root, deviceNodes: root, trustedXattrs: root, ...lacks } });
  linuxSuite(t, { directory, capabilities: { root, xattrTotal: 3000 } });
}
