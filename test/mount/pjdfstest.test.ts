/**
 * pjdfstest (github.com/pjd/pjdfstest) on the mounted drive, where it is present: PJDFSTEST names its folder, with the
 * program built in it. It needs root and prove(1), and takes minutes. suite/posix-suite.ts covers the same behaviour
 * and needs neither.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { Drive } from './drive-process.js';

const folder = process.env['PJDFSTEST'];
const absent = folder !== undefined && existsSync(join(folder, 'pjdfstest')) ? false : 'PJDFSTEST does not name the folder of a built pjdfstest';
const why = whyNoFuse() || absent || (process.getuid?.() === 0 ? false : 'pjdfstest needs root');

if (why !== false || folder === undefined) t.plan(0, why || '');
else {
  t.setTimeout(0);
  void t.test('every assertion of pjdfstest holds', async (t) => {
    const scratch = await scratchDirectory(t);
    const drive = new Drive({ scratch, mountOptions: ['--allow-other'] });
    t.teardown(() => drive.destroy());
    await drive.init();
    await drive.mount();
    const directory = join(drive.directory, 'pjdfstest');
    await mkdir(directory);
    // pjdfstest tests optional promises (a rename updates the ctime) only on filesystems that it knows by name, and we
    // make them.
    const tools = join(scratch, 'tools');
    await mkdir(tools);
    await writeFile(join(tools, 'df'), '#!/bin/sh\necho drive ext4\n', { mode: 0o755 });
    const env = { ...process.env, PATH: `${tools}:${process.env['PATH']}` };
    // The drive runs in a process of its own, since nothing in here may wait for a mount that it serves.
    const prove = spawn('prove', ['-rQ', join(folder, 'tests')], { cwd: directory, env, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    const collect = (part: Buffer): void => {
      said += part.toString();
    };
    prove.stdout.on('data', collect);
    prove.stderr.on('data', collect);
    const [code] = (await once(prove, 'close')) as [number | null];
    t.equal(code, 0, said.trim().split('\n').slice(-40).join('\n'));
    const count = Number(/Tests=(\d+)/.exec(said)?.[1] ?? 0);
    t.ok(count > 8800, `${count} assertions`);
    await drive.unmount();
  });
}
