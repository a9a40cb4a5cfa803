/**
 * The findings of an examination: stable codes, their severities, and a bounded list of them (doc/cli.md, "check,
 * repair, salvage"). Messages name objects, inode numbers and counts, never files; paths are added only on request.
 */
import type { Ino } from '../meta/key.js';

/**
 * - `note`: nothing is wrong
 * - `warning`: something is wrong, but nothing is lost, and `repair` fixes it (or nobody needs it)
 * - `error`: something is lost or contradictory
 * - `fatal`: a new device cannot mount the volume in this state
 */
export type Severity = 'note' | 'warning' | 'error' | 'fatal';
const severities: readonly Severity[] = ['note', 'warning', 'error', 'fatal'];

const ordinary = {
  // Keyslots and genesis.
  KEYSLOT_DAMAGED: 'warning',
  KEYSLOT_MISSING: 'error',
  KEYSLOT_FOREIGN: 'error',
  /** The log lists it, and the store lacks it. */
  KEYSLOT_ABSENT: 'warning',
  /** The store has it, and the log does not list it. */
  KEYSLOT_UNLISTED: 'warning',
  GENESIS_MISSING: 'fatal',
  GENESIS_DAMAGED: 'fatal',
  // The log.
  COMMIT_MISSING: 'error',
  COMMIT_DAMAGED: 'error',
  /**
   * It may be intact, but cannot be opened, because its key comes from the commit before it, which is missing or
   * damaged.
   */
  COMMIT_CUT_OFF: 'error',
  /** It opens, but breaks a rule of the chain, so that every device skips it: somebody with the keys has written it. */
  COMMIT_VOID: 'note',
  LOG_ROLLED_BACK: 'fatal',
  LOG_FORKED: 'fatal',
  // The tree.
  PAGE_MISSING: 'error',
  PAGE_DAMAGED: 'error',
  KEY_MALFORMED: 'error',
  VALUE_MALFORMED: 'error',
  // Metadata as a whole.
  ROOT_MISSING: 'fatal',
  ENTRY_DANGLES: 'error',
  ENTRY_TYPE: 'warning',
  /** A name that no listing shows, or that a listing shows otherwise. */
  ENTRY_UNLISTED: 'warning',
  /** What a listing shows, and is not there under that name. */
  ENTRY_UNNAMED: 'warning',
  /** Two entries have one number: only one of them could be listed, if they came into the same directory. */
  ENTRY_NUMBER: 'warning',
  ENTRY_WITHOUT_DIRECTORY: 'error',
  DIRECTORY_NAMES: 'error',
  DIRECTORY_CYCLE: 'error',
  INODE_UNREACHABLE: 'error',
  ORPHAN_STRAY: 'warning',
  LINK_COUNT: 'warning',
  PARENT: 'warning',
  ALLOCATED: 'warning',
  SIZE: 'error',
  CONTENT_TWICE: 'error',
  CONTENT_KIND: 'error',
  DATA_PAST_END: 'warning',
  EXTENT_OVERLAP: 'error',
  EXTENT_STRAY: 'error',
  XATTR_STRAY: 'error',
  TOTALS: 'warning',
  // Packs.
  PACK_UNKNOWN: 'error',
  PACK_MISSING: 'error',
  PACK_SIZE: 'warning',
  /** What the tree says of a pack is not what the commits say. */
  PACK_ENTRY: 'error',
  PACK_INDEX_DAMAGED: 'warning',
  EXTENT_OUTSIDE_PACK: 'error',
  CHUNK_DAMAGED: 'error',
  PACK_UNUSED: 'note',
  OBJECT_FOREIGN: 'note',
} as const satisfies Record<string, Severity>;

export type FindingCode = keyof typeof ordinary;

/** What a finding is about, as far as it applies. */
interface FindingFacts {
  readonly ino?: Ino;
  /** The directory that holds the entry in question. */
  readonly parent?: Ino;
  readonly sequence?: number;
  readonly pack?: string;
  /** Bytes from the start of the file or the pack. */
  readonly offset?: number;
  /** A key of the store. */
  readonly object?: string;
  readonly expected?: number;
  readonly found?: number;
}

export interface Finding extends FindingFacts {
  readonly code: FindingCode;
  readonly severity: Severity;
  readonly message: string;
  /** Only when names were asked for. */
  readonly path?: string;
}

function isWorse(a: Severity, b: Severity): boolean {
  return severities.indexOf(a) > severities.indexOf(b);
}

/** Keeps the first findings of every code, and counts all. */
export class Findings {
  readonly #keptMax: number;
  readonly #kept: Finding[] = [];
  readonly #counts = new Map<FindingCode, number>();
  #worst: Severity | undefined;

  /** `keptMax`: how many findings of each code are kept. */
  constructor(keptMax: number) {
    this.#keptMax = keptMax;
  }

  add(code: FindingCode, message: string, facts: FindingFacts = {}, severity: Severity = ordinary[code]): void {
    const count = (this.#counts.get(code) ?? 0) + 1;
    this.#counts.set(code, count);
    if (this.#worst === undefined || isWorse(severity, this.#worst)) this.#worst = severity;
    if (count <= this.#keptMax) this.#kept.push({ code, severity, message, ...facts });
  }

  /** In the order in which they were found. */
  get kept(): readonly Finding[] {
    return this.#kept;
  }

  /** How many there are of each code, including those that were not kept. */
  get counts(): Readonly<Partial<Record<FindingCode, number>>> {
    return Object.fromEntries(this.#counts);
  }

  /** `undefined` when there are no findings. */
  get worst(): Severity | undefined {
    return this.#worst;
  }

  has(code: FindingCode): boolean {
    return this.#counts.has(code);
  }
}
