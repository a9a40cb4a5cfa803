/**
 * Which mounts this user has: one small file a running daemon, in one folder per user, so that `status`, `flush` and `unmount` find the
 * daemon of a mount point whatever state directory it was given. It holds no secret and is only a hint: whether a daemon lives is
 * decided by asking its control socket.
 */
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface MountRecord {
  readonly pid: number;
  readonly mountPoint: string;
  readonly stateDirectory: string;
  readonly socket: string;
  readonly volumeId: string;
  readonly store: string;
}

/** Writes the record of process `record.pid` into `folder`, which is made when absent. */
export function registerMount(folder: string, record: MountRecord): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const path = recordPath(folder, record.pid);
  // Renamed into place: a reader never sees half a record.
  writeFileSync(`${path}.new`, `${JSON.stringify(record)}\n`, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

export function unregisterMount(folder: string, pid: number): void {
  rmSync(recordPath(folder, pid), { force: true });
}

/** All records, those of dead daemons included. Files that are not records are passed over. */
export function readMountRecords(folder: string): MountRecord[] {
  const records: MountRecord[] = [];
  for (const name of namesIn(folder)) {
    if (!/^[0-9]+\.json$/.test(name)) continue;
    const record = readRecord(join(folder, name));
    if (record) records.push(record);
  }
  return records.toSorted((a, b) => (a.mountPoint < b.mountPoint ? -1 : 1));
}

const recordPath = (folder: string, pid: number): string => join(folder, `${pid}.json`);

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

function readRecord(path: string): MountRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    // Removed meanwhile, or no record: either way there is nothing to ask.
    return undefined;
  }
  if (typeof value !== 'object' || value === null) return undefined;
  const fields = value as Readonly<Record<string, unknown>>;
  const text = (name: string): string => (typeof fields[name] === 'string' ? fields[name] : '');
  const pid = typeof fields['pid'] === 'number' ? fields['pid'] : 0;
  const record = {
    pid,
    mountPoint: text('mountPoint'),
    stateDirectory: text('stateDirectory'),
    socket: text('socket'),
    volumeId: text('volumeId'),
    store: text('store'),
  };
  return pid > 0 && record.mountPoint !== '' && record.socket !== '' ? record : undefined;
}
