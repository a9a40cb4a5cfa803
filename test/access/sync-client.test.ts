/** Tests by which marks a folder is recognized that a sync client carries to other machines. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { syncClientOf, syncWarning } from '../../src/access/sync-client.js';
import { scratchDirectory } from '../suite/scratch.js';

/** What lies in a folder above that of a store, and who carries it. */
const marks: readonly (readonly [mark: string, client: string | undefined])[] = [
  ['top/.stfolder/', 'Syncthing'],
  ['top/.stignore', 'Syncthing'],
  ['Dropbox/.dropbox.cache/', 'Dropbox'],
  ['Dropbox (Personal)/.dropbox', 'Dropbox'],
  ['top/.sync_0123456789ab.db', 'Nextcloud'],
  ['top/._sync_0123456789ab.db', 'Nextcloud'],
  ['top/.owncloudsync.log', 'ownCloud'],
  ['top/.849C9593-D756-4E56-8D6E-42412F2A707B', 'OneDrive'],
  ['top/.tmp.driveupload/', 'Google Drive'],
  ['com~apple~CloudDocs/x', 'iCloud'],
  ['top/.sync/ID', 'Resilio Sync'],
  ['top/.sync/other', undefined],
  ['top/.dropbox', undefined],
  ['top/.stfolder.txt', undefined],
  ['top/stfolder', undefined],
];

for (const [mark, client] of marks) {
  void t.test(`${mark} is a mark of ${client ?? 'nobody'}`, async (t) => {
    const scratch = await scratchDirectory(t);
    if (mark.endsWith('/')) mkdirSync(join(scratch, mark), { recursive: true });
    else {
      mkdirSync(dirname(join(scratch, mark)), { recursive: true });
      writeFileSync(join(scratch, mark), '');
    }
    const store = join(scratch, mark.slice(0, mark.indexOf('/')), 'a', 'drive');
    mkdirSync(store, { recursive: true });
    for (const location of [store, `dir:${store}`, join(store, 'is not there yet')]) t.equal(await syncClientOf(location), client, location);
  });
}

void t.test('a store that is no folder is carried by nobody', async (t) => {
  t.equal(await syncClientOf('s3://bucket/prefix?endpoint=https://s3.example.org'), undefined);
  t.match(syncWarning('Syncthing'), /^warning: Syncthing carries/);
});
