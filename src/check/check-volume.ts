/**
 * Examines a whole volume as its store shows it, while devices may continue to use it (doc/cli.md, "check, repair,
 * salvage"): keyslots, genesis, log, tree, metadata, packs and, on request, content. It reads the newest state at the
 * time of its start and ignores later commits. Everything that it finds goes into a report; it throws only when the
 * store is unavailable, or when it is aborted.
 */
import { toHex } from '../base/bytes.js';
import type { Random } from '../base/random.js';
import type { LogPosition } from '../commit/chain.js';
import type { SlotHeader } from '../crypto/keyslot.js';
import { PackSource } from '../pack/pack-source.js';
import type { ObjectStore } from '../store/object-store.js';
import type { BareVolume } from './bare-volume.js';
import { openBareVolume } from './bare-volume.js';
import { checkEntryPairs } from './entry-pairs.js';
import type { Finding, FindingCode, Severity } from './finding.js';
import { Findings } from './finding.js';
import { checkKeyslotList, checkKeyslots } from './keyslot-check.js';
import type { LogSurvey } from './log-survey.js';
import { surveyLog } from './log-survey.js';
import type { MetadataTotals } from './metadata-check.js';
import { MetadataCheck } from './metadata-check.js';
import { checkContent, checkPresence } from './pack-check.js';
import { PackEntryCheck } from './pack-entry-check.js';
import { PackUsage } from './pack-usage.js';
import { addPaths } from './path-names.js';
import { type Entry, mergedEntries, newestMutations } from './state-entries.js';
import type { LostRange } from './tree-walk.js';
import { isKindLost, isLost, walkLeaves } from './tree-walk.js';

type CheckPhase = 'log' | 'tree' | 'packs' | 'content' | 'names';

export interface CheckProgress {
  readonly phase: CheckPhase;
  /** Commits, pages, packs or bytes. */
  readonly done: number;
  /** `undefined` when it is not known. */
  readonly total: number | undefined;
}

export interface CheckOptions {
  readonly store: ObjectStore;
  /** 32 bytes, borrowed. */
  readonly rootSecret: Uint8Array;
  readonly volumeId: Uint8Array;
  readonly random: Random;
  /** Whether to open every chunk that a file refers to, and the index of every pack. */
  readonly data: boolean;
  /** Whether to add paths to findings about files. */
  readonly names: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: CheckProgress) => void) | undefined;
  /** The newest commit that this device has seen, if it has a history. */
  readonly anchor?: LogPosition | undefined;
  /** How many findings of each code are kept. */
  readonly keptMax?: number;
}

export interface CheckReport {
  readonly volumeId: string;
  /** `undefined` when there are no findings. */
  readonly worst: Severity | undefined;
  readonly findings: readonly Finding[];
  readonly counts: Readonly<Partial<Record<FindingCode, number>>>;
  readonly examined: {
    readonly keyslots: number;
    readonly commits: number;
    /** The newest commit, whose state was examined, and the beginning of its hash. */
    readonly sequence: number;
    readonly head: string;
    readonly pages: number;
    readonly entries: number;
    readonly files: number;
    readonly bytes: number;
    readonly packs: number;
    /** Zero unless content was asked for. */
    readonly chunks: number;
    readonly contentBytes: number;
  };
}

/** The report, and what repair needs besides. */
export interface Examination {
  readonly report: CheckReport;
  readonly survey: LogSurvey | undefined;
  readonly totals: MetadataTotals;
  readonly lost: readonly LostRange[];
}

const defaultKeptMax = 1000;

export async function checkVolume(options: CheckOptions): Promise<Examination> {
  const { store, volumeId, keptMax = defaultKeptMax } = options;
  const findings = new Findings(keptMax);
  const bare = await openBareVolume({ ...options, findings });
  const empty = { commits: 0, sequence: 0, head: '', pages: 0, entries: 0, files: 0, bytes: 0, packs: 0, chunks: 0, contentBytes: 0 };
  try {
    const keyslots = await checkKeyslots(store, volumeId, bare?.genesis.ownerKey, findings);
    if (bare) return await examine(options, bare, findings, keyslots);
    return {
      report: reportOf(options, findings, { keyslots: keyslots.length, ...empty }),
      survey: undefined,
      totals: { files: 0, bytes: 0 },
      lost: [],
    };
  } finally {
    bare?.keys.root.wipe();
  }
}

function reportOf(options: CheckOptions, findings: Findings, examined: CheckReport['examined'], kept = findings.kept): CheckReport {
  return { volumeId: toHex(options.volumeId), worst: findings.worst, findings: kept, counts: findings.counts, examined };
}

async function examine(
  options: CheckOptions,
  { keys, genesis }: BareVolume,
  findings: Findings,
  keyslots: readonly SlotHeader[],
): Promise<Examination> {
  const { store, data, signal, onProgress, anchor } = options;
  const progress = (phase: CheckPhase) => (done: number, total?: number) => onProgress?.({ phase, done, total });
  const survey = await surveyLog({ store, keys, genesis, findings, signal, anchor, onProgress: progress('log') });
  if (survey.keyslots) await checkKeyslotList(store, keyslots, survey.keyslots, findings);
  const usage = new PackUsage(data);
  const lost: LostRange[] = [];
  const source = new PackSource({ store, keys: keys.current, staging: new Map(), memory: { chunks: 0 } });
  const root = survey.checkpoint?.root;
  let pages = 0;
  let entries = 0;
  const isLogWhole = survey.commitCount === survey.newest;
  const packEntries = new PackEntryCheck(findings, survey.packs, isLogWhole);
  const metadata = new MetadataCheck({
    findings,
    lost: { isLost: (key) => isLost(lost, key), isKindLost: (letter) => isKindLost(lost, letter) },
    onExtent: (ino, _offset, extent) => {
      if (extent.kind === 'data') usage.addExtent(ino, extent);
    },
    onPack: (pack, entry) => packEntries.add(pack, entry),
  });
  const leaves = walkLeaves({
    source,
    root,
    signal,
    onPage: ({ pack, offset, length }) => {
      usage.addPage(pack, offset + length);
      progress('tree')(++pages);
    },
    onLost: (range) => {
      lost.push(range);
      reportLost(findings, range, range.reference === root);
    },
  });
  const entriesIn = (from: string, to: string): AsyncIterable<readonly Entry[]> =>
    mergedEntries(walkLeaves({ source, root, signal, from, to, onLost: () => {} }), newestMutations(survey.recent, from, to), from, to);
  for await (const batch of mergedEntries(leaves, newestMutations(survey.recent))) {
    for (const [key, value] of batch) metadata.add(key, value);
    entries += batch.length;
  }
  // The totals are known only if every commit since the checkpoint is.
  metadata.finish(survey.isCurrentWhole ? totalsOf(survey) : undefined);
  const directories = metadata.unpaired;
  if (directories.size > 0) await checkEntryPairs({ directories, source: { entries: entriesIn }, isLost: (key) => isLost(lost, key), findings });
  packEntries.finish(survey.isCurrentWhole && !isKindLost(lost, 'P'));
  const packOptions = { store, keys: keys.current, usage, known: survey.packs, isLogWhole, findings, signal };
  const present = await checkPresence(packOptions);
  progress('packs')(present.size, usage.packs.size);
  const content = data ? await checkContent({ ...packOptions, onProgress: progress('content') }, present) : { chunks: 0, bytes: 0 };
  const kept = options.names
    ? await addPaths(findings.kept, () => {
        progress('names')(0);
        return entriesIn('D', 'E');
      })
    : findings.kept;
  const { files, bytes } = metadata.totals;
  const examined = {
    keyslots: keyslots.length,
    commits: survey.commitCount,
    sequence: survey.head?.sequence ?? 0,
    head: survey.head ? toHex(survey.head.hash).slice(0, 16) : '',
    pages,
    entries,
    files,
    bytes,
    packs: usage.packs.size,
    chunks: content.chunks,
    contentBytes: content.bytes,
  };
  return { report: reportOf(options, findings, examined, kept), survey, totals: metadata.totals, lost };
}

function reportLost(findings: Findings, { reference, error }: LostRange, isRoot: boolean): void {
  const { pack, offset } = reference;
  const code = error.code === 'MISSING' ? 'PAGE_MISSING' : 'PAGE_DAMAGED';
  const what = isRoot ? 'the root of the tree' : 'a page of the tree, with everything below it,';
  findings.add(code, `${what} cannot be read: ${error.message}`, { pack, offset }, isRoot ? 'fatal' : 'error');
}

/** The totals according to the checkpoint and the commits after it. */
export function totalsOf({ checkpoint, recent }: LogSurvey): MetadataTotals {
  let files = checkpoint?.files ?? 0;
  let bytes = checkpoint?.bytes ?? 0;
  for (const { filesDelta, bytesDelta } of recent) {
    files += filesDelta;
    bytes += bytesDelta;
  }
  return { files, bytes };
}
