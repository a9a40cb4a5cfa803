/** The version of this program. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Read from package.json at the root of the installation. */
export const version: string = readVersion(import.meta.dirname);

function readVersion(folder: string): string {
  for (let at = folder; dirname(at) !== at; at = dirname(at)) {
    try {
      const value: unknown = JSON.parse(readFileSync(join(at, 'package.json'), 'utf8'));
      if (typeof value === 'object' && value !== null && 'name' in value && value.name === 'sealdrive' && 'version' in value)
        return String(value.version);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return 'unknown';
}
