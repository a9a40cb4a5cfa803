/**
 * Recognizes a folder that a sync client carries to other machines, by the marks that the client leaves
 * (doc/stores.md, "A folder that is synced"). There put-if-absent holds on each machine by itself, and what is stored
 * is not on the other machines yet.
 */
import { basename, dirname, join } from 'node:path';
import { readdir } from '../disk/file-promises.js';
import { localFolderOf } from './volume-store.js';

interface SyncClient {
  readonly name: string;
  /** What it leaves at the top of what it carries. */
  readonly mark: RegExp;
  /** Names of folders of which the mark must be one; without it, any. */
  readonly folder?: RegExp;
}

const clients: readonly SyncClient[] = [
  { name: 'Syncthing', mark: /^\.st(folder|versions|ignore)$/ },
  { name: 'Dropbox', mark: /^\.dropbox(\.cache|\.device)?$/, folder: /dropbox/i },
  { name: 'Nextcloud', mark: /^\.(_sync_[0-9a-f]+|sync_[0-9a-f]+)\.db$|^\.nextcloudsync\.log$/ },
  { name: 'ownCloud', mark: /^\.owncloudsync\.log$/ },
  { name: 'OneDrive', mark: /^\.849C9593-D756-4E56-8D6E-42412F2A707B$/i },
  { name: 'Google Drive', mark: /^\.(tmp\.drive(up|down)load|shortcut-targets-by-id)$/ },
  { name: 'iCloud', mark: /^com~apple~CloudDocs$/ },
];
/** Its mark lies inside a folder of a common name. */
const resilio = { name: 'Resilio Sync', folder: '.sync', mark: /^(ID|IgnoreList|StreamsList|Archive)$/ };
const iCloudFolder = 'com~apple~CloudDocs';
/** How far up the marks are looked for. */
const depthMax = 32;
/** Names of a folder that are looked at. */
const namesMax = 10_000;

/** The name of the client that carries the folder of a store; `undefined` when no mark is found, or it is no folder. */
export async function syncClientOf(location: string): Promise<string | undefined> {
  let folder = localFolderOf(location);
  for (let depth = 0; folder !== undefined && depth < depthMax; depth++) {
    const found = await clientAt(folder);
    if (found !== undefined) return found;
    const above = dirname(folder);
    if (above === folder) break;
    folder = above;
  }
  return undefined;
}

async function clientAt(folder: string): Promise<string | undefined> {
  if (basename(folder) === iCloudFolder) return 'iCloud';
  const entries = await namesIn(folder);
  for (const name of entries) {
    const client = clients.find(({ mark, folder: where }) => mark.test(name) && (!where || where.test(basename(folder))));
    if (client) return client.name;
  }
  if (!entries.includes(resilio.folder)) return undefined;
  const inside = await namesIn(join(folder, resilio.folder));
  return inside.some((name) => resilio.mark.test(name)) ? resilio.name : undefined;
}

/** Nothing where the folder cannot be read: marks are a hint. */
async function namesIn(folder: string): Promise<readonly string[]> {
  try {
    return (await readdir(folder)).slice(0, namesMax);
  } catch {
    return [];
  }
}

/** What it means for a volume that is made there, for people. */
export const syncNote = (client: string): string =>
  `${client} carries this folder to other machines: the volume is made for that. What several machines write before ${client} has brought it to all is put together, with conflict copies; see "A folder that is synced" in doc/stores.md`;

/** What it means for the drive, for people. */
export const syncWarning = (client: string): string =>
  `warning: ${client} carries this folder to other machines: use the drive on one machine at a time, and let ${client} finish before you use it on another; see "A folder that is synced" in doc/stores.md`;
