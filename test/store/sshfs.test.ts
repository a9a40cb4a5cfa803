/**
 * A directory store in a folder of another machine, through sshfs and without hard links (doc/stores.md, "A folder on
 * any file system").
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { probeStore } from '../../src/store/probe.js';
import { whyNoFuse } from '../suite/driver-suite.js';
import { objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { writeWhole } from '../suite/whole-file.js';

const run = promisify(execFile);
const server = '/usr/lib/openssh/sftp-server';
const random = new SeededRandom(testSeed());
const skip = whyNoFuse() || (existsSync('/usr/bin/sshfs') && existsSync(server) ? false : 'needs sshfs and the sftp-server of OpenSSH');

if (skip !== false) t.test('sshfs', { skip }, async () => {});
else {
  const scratch = await scratchDirectory(t);
  const [far, near, command] = [join(scratch, 'far'), join(scratch, 'near'), join(scratch, 'command')];
  for (const folder of [far, near]) await mkdir(folder);
  // There is no shell and no network in between: the server talks to the process that starts it.
  await writeFile(command, `#!/bin/sh\nexec ${server}\n`);
  await chmod(command, 0o700);
  await run('sshfs', ['-o', `ssh_command=${command},disable_hardlink`, `nobody:${far}`, near]);
  t.teardown(() => run('fusermount3', ['-u', '-z', near]));
  let count = 0;
  const makeStore = (): Promise<DirectoryStore> => DirectoryStore.create(join(near, `store-${count++}`), { disk: systemDisk, random });

  objectStoreSuite(t, 'directory on sshfs without hard links', async () => ({
    store: await makeStore(),
    writeFile: (bytes) => writeWhole(systemDisk, join(scratch, `file-${count++}`), bytes),
    async plantForeign(name) {
      await mkdir(dirname(join(near, `store-${count - 1}`, name)), { recursive: true });
      await writeFile(join(near, `store-${count - 1}`, name), 'foreign');
    },
  }));

  t.test('writers still exclude each other, and missing features are reported', async (t) => {
    const store = await makeStore();
    t.match(await probeStore(store, random), { conditionalPut: 'exact', delete: 'works', lacks: ['hard-links'] });
    t.equal(await store.put('log/1', sealedText('one'), { ifAbsent: true }), 'created');
    t.equal(await store.put('log/1', sealedText('two'), { ifAbsent: true }), 'exists');
    t.same(await readdir(join(far, `store-${count - 1}`, 'log/1')), ['_body']);
  });
}
