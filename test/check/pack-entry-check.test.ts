/** What `check` says when the tree and the commits disagree about packs. */
import t from 'tap';
import { Findings } from '../../src/check/finding.js';
import { PackEntryCheck } from '../../src/check/pack-entry-check.js';
import type { PackEntry } from '../../src/meta/pack-entry.js';
import type { PackId } from '../../src/pack/pack-id.js';

const [a, b] = ['aa', 'bb'].map((two) => two.repeat(16) as PackId) as [PackId, PackId];
const entry: PackEntry = { birth: 7, size: 1000, epoch: 1, indexHash: new Uint8Array(32).fill(1) };

interface Row {
  readonly name: string;
  readonly tree: readonly [PackId, PackEntry][];
  readonly isLogWhole?: boolean;
  readonly isTreeWhole?: boolean;
  readonly found: RegExp | undefined;
}

const rows: readonly Row[] = [
  { name: 'agree', tree: [[a, entry]], found: undefined },
  { name: 'disagree on the size', tree: [[a, { ...entry, size: 1001 }]], found: /something else of pack a+ than commit 7/ },
  { name: 'disagree on the epoch', tree: [[a, { ...entry, epoch: 2 }]], found: /something else/ },
  { name: 'disagree on the commit', tree: [[a, { ...entry, birth: 6 }]], found: /something else/ },
  { name: 'disagree on the index', tree: [[a, { ...entry, indexHash: new Uint8Array(32) }]], found: /something else/ },
  { name: 'disagree, and only a lost commit can say who is right', tree: [[a, { ...entry, birth: 8 }]], isLogWhole: false, found: undefined },
  {
    name: 'have a pack that no commit brought',
    tree: [
      [a, entry],
      [b, entry],
    ],
    found: /pack b+, which no commit brought/,
  },
  {
    name: 'have a pack that a lost commit may have brought',
    tree: [
      [a, entry],
      [b, entry],
    ],
    isLogWhole: false,
    found: undefined,
  },
  { name: 'lack a pack', tree: [], found: /no entry for pack a+ of commit 7/ },
  { name: 'lack a pack whose entry may be in a lost page', tree: [], isTreeWhole: false, found: undefined },
];

for (const { name, tree, isLogWhole = true, isTreeWhole = true, found } of rows) {
  t.test(`tree and commits ${name}`, (t) => {
    const findings = new Findings(10);
    const check = new PackEntryCheck(findings, new Map([[a, entry]]), isLogWhole);
    for (const [pack, one] of tree) check.add(pack, one);
    check.finish(isTreeWhole);
    t.equal(findings.kept.length, found ? 1 : 0);
    if (found) t.match(findings.kept[0], { code: 'PACK_ENTRY', severity: 'error', message: found });
    t.end();
  });
}
