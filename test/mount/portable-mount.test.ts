/**
 * The drive through the portable driver (fuse-native): the POSIX suite, except for what a path-based driver on libfuse
 * 2 cannot carry. Exceptions are listed here, by title or the beginning of one, with the reason; everything else must
 * hold.
 */
import t from 'tap';
import { whyNoFuse } from '../suite/driver-suite.js';
import { posixSuite } from '../suite/posix-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { Drive } from './drive-process.js';

const exceptions: readonly (readonly [why: string, ...names: string[]])[] = [
  [
    'names reach the driver as UTF-8 text',
    'names of 255 bytes',
    'a directory with a name of 255 bytes',
    'a name that is not UTF-8',
    'a symbolic link holds any bytes',
  ],
  [
    'listings have no inode numbers, no . and .., and begin anew',
    'mkdir makes an empty',
    'a listing gives each entry once',
    'seekdir goes back',
    'two files never share',
  ],
  [
    'a path is all that libfuse knows of an inode',
    'a directory that is removed while open',
    'a hard link is the same file',
    'a file can have a hundred links',
    'link to a symbolic link',
  ],
  ['rename comes without flags', 'NOREPLACE refuses'],
  ['the kernel decides by itself which bits go, and does not know the groups of who asks', 'set-group-id without group execution is kept after'],
  ['chown with neither owner nor group does not reach it', 'chown without an owner and a group'],
  ['who asks is not told: what is made belongs to the daemon’s user', 'a new file belongs', 'in a sticky directory only owners'],
  [
    'times have milliseconds, and both are set to one',
    'times: ',
    'utimens',
    'a time ',
    'directories keep set times',
    'reading with O_NOATIME',
    'cp -a, mv and rm',
  ],
];

const why = whyNoFuse() || (process.getuid?.() === 0 ? false : 'other users need root');

if (why !== false) t.plan(0, why);
else {
  const drive = new Drive({ scratch: await scratchDirectory(t), withKeyFile: true, mountOptions: ['--driver', 'fuse-native', '--allow-other'] });
  t.teardown(() => drive.destroy());
  await drive.init();
  await drive.mount();
  await t.test('the POSIX suite passes', (t) => {
    posixSuite(t, {
      directory: drive.directory,
      capabilities: {
        tmpfile: false,
        exchange: false,
        birthTime: false,
        holes: false,
        punchHole: false,
        zeroRange: false,
        preallocate: false,
        userXattrs: false,
        trustedXattrs: false,
        acls: false,
      },
      exception: (name) => exceptions.find(([, ...names]) => names.some((begin) => name.startsWith(begin)))?.[0],
    });
    t.end();
  });
  await t.test('the drive unmounts without warnings, and the volume is sound', async (t) => {
    await drive.unmount();
    t.same(await drive.warnings(), []);
    await drive.check();
  });
}
