/** Where the golden volumes lie, and what belongs to one (make-golden.ts). */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { sourcePath } from '../mount/posix-probe.js';

export interface GoldenSecrets {
  readonly passphrase: string;
  readonly recoveryWords: string;
}

export interface GoldenVolume {
  readonly name: string;
  readonly store: string;
  readonly keyFile: string;
  readonly secrets: GoldenSecrets;
  /** What `golden-content.py describe` says of the tree of files. */
  readonly content: unknown;
}

export const contentScript: string = sourcePath('test', 'golden', 'golden-content.py');
const volumesFolder = sourcePath('test', 'golden', 'volumes');
const json = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));

export function goldenVolumes(): readonly GoldenVolume[] {
  return readdirSync(volumesFolder).map((name) => {
    const folder = join(volumesFolder, name);
    const secrets = json(join(folder, 'secrets.json')) as GoldenSecrets;
    return { name, store: join(folder, 'store'), keyFile: join(folder, 'key'), secrets, content: json(join(folder, 'content.json')) };
  });
}
