/**
 * Plants mistakes into a copy of the built collector, one at a time, and lives with each until the oracle of
 * `collecting-life.ts` finds it. It ends with 1 when one is not found.
 *
 *   npm run collect-faults -- [--lives 400] [--fault NAME]
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import type { LifeResult } from './collecting-life.js';

interface Fault {
  readonly name: string;
  /** Below `dist/src`. */
  readonly file: string;
  readonly from: string;
  readonly to: string;
}

const collector = 'volume/collector.js';
const faults: readonly Fault[] = [
  {
    name: 'buries before others were heard of',
    file: collector,
    from: '#notHeardSince(sequence) {',
    to: '#notHeardSince(sequence) {\n    return [];',
  },
  { name: 'overlooks what came after the tree', file: collector, from: 'if (extent?.kind === "data") used.add(extent.pack);', to: '' },
  { name: 'does not ask whether the tree is still the newest', file: collector, from: 'isCurrent = await this.#isCurrent(plan);', to: '' },
  { name: 'forgets the counts of clones', file: 'collect/pack-account.js', from: 'count: count + delta });', to: 'count: 1 });' },
  { name: 'forgets snapshots', file: 'collect/retention.js', from: 'snapshots: snapshots.filter(', to: 'snapshots: [].filter(' },
  { name: 'forgets the window', file: 'collect/retention.js', from: 'from: windowMs === 0 ? step :', to: 'from: windowMs >= 0 ? step :' },
  { name: 'trusts a clock that runs fast', file: 'collect/observations.js', from: '=> monotonicMs ??', to: '=> 20 * (monotonicMs ?? 0) ||' },
  { name: 'does not count old pages down', file: 'collect/count-references.js', from: 'sign);', to: '1);' },
  { name: 'does not count new extents', file: 'collect/count-references.js', from: 'addExtent(is, 1);', to: '' },
  {
    name: 'gives content another place although it was written over',
    file: 'operation/operation-content.js',
    from: '!equalBytes(found, encodeExtent(from))',
    to: 'false',
  },
  { name: 'deletes what was named again', file: collector, from: 'before?.state === "buried") continue;', to: 'false) continue;' },
  { name: 'never deletes', file: collector, from: 'await store.delete(', to: 'void (' },
  { name: 'empties no pack', file: collector, from: 'if (chosen.length === 0) return false;', to: 'return false;' },
];

const { values } = parseArgs({ options: { lives: { type: 'string', default: '400' }, fault: { type: 'string', default: '' } } });
const root = resolve(import.meta.dirname, '..', '..', '..');

/** How many lives it took, and what was found; `undefined` when nothing was. */
async function hunt({ file, from, to, name }: Fault): Promise<string | undefined> {
  const copy = mkdtempSync(join(tmpdir(), 'sealdrive-fault-'));
  try {
    cpSync(join(root, 'dist'), join(copy, 'dist'), { recursive: true });
    for (const one of ['node_modules', 'native', 'package.json']) symlinkSync(join(root, one), join(copy, one));
    const path = join(copy, 'dist', 'src', file);
    const text = readFileSync(path, 'utf8');
    if (!text.includes(from)) throw new Error(`the place for "${name}" is not there any more`);
    writeFileSync(
      path,
      text.replace(from, () => to),
    );
    const life = (await import(pathToFileURL(join(copy, 'dist', 'test', 'collect', 'collecting-life.js')).href)) as {
      collectingLife(seed: number): Promise<LifeResult>;
    };
    for (let seed = 1; seed <= Number(values.lives); seed++) {
      const found = await life.collectingLife(seed).then(
        ({ findings }) => findings[0],
        (error: unknown) => (error instanceof Error ? error.message : String(error)),
      );
      if (found !== undefined) return `life ${seed}: ${found.split('\n')[0]}`;
    }
    return undefined;
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

for (const fault of faults.filter(({ name }) => values.fault === '' || name === values.fault)) {
  const found = await hunt(fault);
  process.stdout.write(`${fault.name.padEnd(60)} ${found ?? 'NOT FOUND'}\n`);
  if (found === undefined) process.exitCode = 1;
}
