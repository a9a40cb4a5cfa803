/**
 * Two users of a group who share a store in a folder of the group, each with a mount of their own (doc/stores.md, "A
 * folder for several users").
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { programPath, Workplace } from '../cli/command-line.js';
import { whyNoFuse } from '../suite/driver-suite.js';

const place = new Workplace();
t.teardown(() => place.remove());
t.setTimeout(600_000);
const tools = ['/usr/bin/setpriv', '/usr/bin/unshare', '/usr/bin/fusermount3'];
const skip =
  whyNoFuse() || (process.getuid?.() === 0 && tools.every((tool) => existsSync(tool)) ? false : 'needs root, setpriv, unshare and fusermount3');

const group = 30_000;
const users = { ann: 20_001, bob: 20_002 } as const;

t.test('both users write and see all files, whichever enrolled last', { skip }, async (t) => {
  chmodSync(place.folder, 0o755);
  const store = place.makeFolder('store');
  chownSync(store, users.ann, group);
  chmodSync(store, 0o2770);
  for (const [name, id] of Object.entries(users)) {
    for (const folder of [place.makeFolder(name), place.makeFolder(name, 'mnt')]) chownSync(folder, id, id);
  }
  mkdirSync(place.path('device'));
  const lines = Object.entries(users).map(([name, id]) => `${name}:x:${id}:${id}::/:/bin/sh`);
  writeFileSync(place.path('passwd'), `root:x:0:0::/:/bin/sh\n${lines.join('\n')}\n`);
  // A private namespace, in which everybody may open the device, and fusermount3 knows the users.
  const script = `
    trap 'umount -l ann/mnt bob/mnt 2>/dev/null || true' EXIT
    mount -t tmpfs none device
    mknod -m 666 device/fuse c 10 229
    mount --bind device/fuse /dev/fuse
    mount --bind passwd /etc/passwd
    unset NODE_OPTIONS
    as() {
      user=$1 id=$2
      shift 2
      env HOME="$PWD/$user" XDG_STATE_HOME="$PWD/$user/state" setpriv --reuid "$id" --regid "$id" --groups "$id,${group}" -- sh -ec 'umask "$0"; "$@"' "$@"
    }
    ann() { as ann ${users.ann} "$@"; }
    bob() { as bob ${users.bob} "$@"; }
    drive="${process.execPath} ${programPath}"
    whenThere() { until "$@"; do sleep 0.1; done; }

    ann 077 $drive init store --key-file ann/key --no-recovery
    cp ann/key bob/key
    chown ${users.bob} bob/key
    ann 077 $drive mount store ann/mnt --key-file ann/key
    ann 007 sh -c 'chgrp ${group} ann/mnt; chmod 2770 ann/mnt; echo of ann > ann/mnt/a; head -c 3000000 /dev/urandom > ann/mnt/big'
    ann 077 $drive flush ann/mnt

    bob 027 $drive mount store bob/mnt --key-file bob/key
    bob 007 sh -c 'cat bob/mnt/a; cmp bob/mnt/big bob/mnt/big; echo of bob > bob/mnt/b; head -c 3000000 /dev/urandom > bob/mnt/large'
    bob 077 $drive flush bob/mnt

    whenThere ann 077 test -s ann/mnt/b -a -s ann/mnt/large
    ann 007 sh -c 'cat ann/mnt/b; cksum < ann/mnt/large > ann/mnt/sum; rm ann/mnt/big; echo more of ann > ann/mnt/c'
    ann 077 $drive flush ann/mnt
    whenThere bob 077 test -s bob/mnt/c -a ! -e bob/mnt/big
    bob 007 sh -c 'cat bob/mnt/c; cksum < bob/mnt/large | cmp - bob/mnt/sum'
    bob 077 $drive unmount bob/mnt
    ann 077 $drive unmount ann/mnt
    ann 077 $drive check store --key-file ann/key --data
    bob 077 $drive check store --key-file bob/key --data
  `;
  const said = execFileSync('unshare', ['--mount', 'sh', '-ec', script], {
    cwd: place.folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for (const text of ['of ann', 'of bob', 'more of ann']) t.match(said, new RegExp(`^${text}$`, 'm'));
  t.equal(said.match(/^Nothing is wrong\.$/gm)?.length, 2);
  for (const entry of readdirSync(store, { recursive: true, withFileTypes: true })) {
    const { mode, gid } = lstatSync(join(entry.parentPath, entry.name));
    t.same([gid, (mode & 0o7777).toString(8)], [group, entry.isDirectory() ? '2770' : '640'], entry.name);
  }
});
