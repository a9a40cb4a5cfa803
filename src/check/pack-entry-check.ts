/**
 * Compares what the tree knows of packs with what the commits say (doc/format.md, "Tree keys"): every commit that
 * counts implies one entry for each of its packs.
 */
import { equalBytes } from '../base/bytes.js';
import type { PackEntry } from '../meta/pack-entry.js';
import type { PackId } from '../pack/pack-id.js';
import type { Findings } from './finding.js';

export class PackEntryCheck {
  readonly #findings: Findings;
  readonly #known: ReadonlyMap<PackId, PackEntry>;
  readonly #isLogWhole: boolean;
  readonly #seen = new Set<PackId>();

  /** `known`: what the commits say; `isLogWhole`: all of them. */
  constructor(findings: Findings, known: ReadonlyMap<PackId, PackEntry>, isLogWhole: boolean) {
    this.#findings = findings;
    this.#known = known;
    this.#isLogWhole = isLogWhole;
  }

  /** An entry of the newest state. */
  add(pack: PackId, entry: PackEntry): void {
    this.#seen.add(pack);
    const known = this.#known.get(pack);
    if (!known) {
      if (this.#isLogWhole) this.#findings.add('PACK_ENTRY', `the tree has an entry for pack ${pack}, which no commit brought`, { pack });
      return;
    }
    // A commit that cannot be read may have named the pack as well.
    if (known.birth !== entry.birth && !this.#isLogWhole) return;
    const isSame = known.birth === entry.birth && known.size === entry.size && known.epoch === entry.epoch;
    if (!isSame || !equalBytes(known.indexHash, entry.indexHash))
      this.#findings.add('PACK_ENTRY', `the tree says something else of pack ${pack} than commit ${known.birth}`, { pack, sequence: known.birth });
  }

  /** After the last entry. `isComplete`: all of them could be read. */
  finish(isComplete: boolean): void {
    if (!isComplete) return;
    for (const [pack, { birth }] of this.#known) {
      if (!this.#seen.has(pack))
        this.#findings.add('PACK_ENTRY', `the tree has no entry for pack ${pack} of commit ${birth}`, { pack, sequence: birth });
    }
  }
}
