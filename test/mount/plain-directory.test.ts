/** The POSIX suite on a plain directory: what the suite demands of the mounted drive is what this machine's own filesystem does. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { posixSuite } from '../suite/posix-suite.js';

const directory = await mkdtemp(join(tmpdir(), 'plain-'));
t.teardown(() => rm(directory, { recursive: true, force: true }));
const root = process.getuid?.() === 0;
// ext4 keeps xattrs of a file within one block.
posixSuite(t, { directory, capabilities: { xattrSizeMax: 3000, otherUsers: root, deviceNodes: root, trustedXattrs: root } });
