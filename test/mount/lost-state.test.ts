/**
 * The state directory of a mounted drive, or a part of it, is removed, moved or replaced: from then on nothing is
 * acknowledged that would not survive, and everything accepted before goes into the store (doc/semantics.md,
 * "Durability").
 */
import { closeSync, cpSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { exitCodes } from '../../src/terminal/exit-code.js';
import { Workplace } from '../cli/command-line.js';

/** Starting processes takes time. */
t.setTimeout(600_000);
const skip = existsSync('/dev/fuse') ? false : 'needs /dev/fuse';

interface Loss {
  readonly name: string;
  /** `state` is the state directory, `aside` a path beside it that is free. */
  lose(state: string, aside: string): void;
}

const losses: readonly Loss[] = [
  { name: 'the whole folder of Sealdrive is removed', lose: (state) => rmSync(join(state, '..'), { recursive: true }) },
  { name: 'the state directory is removed', lose: (state) => rmSync(state, { recursive: true }) },
  {
    name: 'only the segments of the journal are removed',
    lose: (state) => {
      for (const name of readdirSync(join(state, 'journal'))) rmSync(join(state, 'journal', name));
    },
  },
  { name: 'only the staged packs are removed, with their folder', lose: (state) => rmSync(join(state, 'staging'), { recursive: true }) },
  { name: 'the state directory is moved away', lose: (state, aside) => renameSync(state, aside) },
  {
    name: 'the state directory is replaced by an empty one',
    lose: (state, aside) => {
      renameSync(state, aside);
      mkdirSync(state, { mode: 0o700 });
    },
  },
  {
    name: 'the state directory is replaced by a copy',
    lose: (state, aside) => {
      renameSync(state, aside);
      cpSync(aside, state, { recursive: true, filter: (path) => !path.endsWith('.sock') });
    },
  },
];

/** Writes, syncs and closes; returns the code of the first error. */
function writeDurably(path: string, bytes: Uint8Array): string | undefined {
  try {
    const fd = openSync(path, 'w');
    try {
      writeFileSync(fd, bytes);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code;
  }
}

for (const { name, lose } of losses) {
  t.test(name, { skip }, async (t) => {
    const place = new Workplace();
    t.teardown(() => place.remove());
    const { store, keyFile } = await place.makeVolume();
    const mountPoint = place.makeFolder('drive');
    await place.succeed(['mount', store, mountPoint, '--key-file', keyFile]);
    const base = place.path('state', 'sealdrive');
    const state = join(base, readdirSync(base).find((one) => /^[0-9a-f]{16}$/.test(one)) ?? '');
    const large = Buffer.alloc(3 * 1024 * 1024, 'large');
    writeFileSync(join(mountPoint, 'small'), 'closed before');
    writeFileSync(join(mountPoint, 'large'), large);
    const listed = readdirSync(state);

    lose(state, place.path('aside'));

    // Large, so that it needs the journal and a staged pack.
    for (const file of ['after', 'again']) {
      const code = writeDurably(join(mountPoint, file), large);
      t.ok(code === 'EIO' || code === 'EROFS', `${file}: ${code ?? 'acknowledged'}`);
    }
    t.equal(readFileSync(join(mountPoint, 'small'), 'utf8'), 'closed before', 'it is read as before');
    await place.succeed(['flush', mountPoint]);
    const status = await place.run(['status', '--json']);
    t.equal(status.code, exitCodes.LOCAL_DISK);
    const { mounts } = JSON.parse(status.stdout) as { mounts: { details: { device: { failure: string } } }[] };
    t.match(mounts[0]!.details.device.failure, /state directory was removed, moved or replaced/);
    t.match((await place.run(['status'])).stdout, /BROKEN/);
    await place.succeed(['unmount', mountPoint]);
    if (existsSync(state) && existsSync(place.path('aside'))) {
      const added = readdirSync(state).filter((one) => !listed.includes(one));
      t.strictSame(added, [], 'nothing is put into what took its place');
    }

    // Another machine sees everything that was accepted.
    await place.succeed(['mount', store, mountPoint, '--key-file', keyFile, '--state-dir', place.path('other-state')]);
    t.equal(readFileSync(join(mountPoint, 'small'), 'utf8'), 'closed before');
    t.ok(readFileSync(join(mountPoint, 'large')).equals(large));
    await place.succeed(['unmount', mountPoint]);
  });
}
