/**
 * Repairs a volume: examines it, plans (`repair-plan.ts`), and commits the plan as an ordinary device (doc/cli.md,
 * "check, repair, salvage"). If another device commits in between, it examines again. Everything that it replaces stays
 * in the log.
 */

import { equalBytes, MalformedBytesError } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import type { Random } from '../base/random.js';
import type { Mutation } from '../commit/commit.js';
import type { CommitLog } from '../commit/commit-log.js';
import type { Inode } from '../meta/inode.js';
import { S_IFDIR } from '../meta/inode.js';
import { firstCounter, type Ino, makeIno, rootIno } from '../meta/key.js';
import { lookup, readInode, scanEntries, scanExtents, scanNames } from '../operation/inode-view.js';
import type { ReadView } from '../operation/view.js';
import { PackSource } from '../pack/pack-source.js';
import type { ObjectStore } from '../store/object-store.js';
import type { BareVolume } from './bare-volume.js';
import { openBareVolume } from './bare-volume.js';
import type { CheckProgress, CheckReport, Examination } from './check-volume.js';
import { checkVolume, totalsOf } from './check-volume.js';
import { Findings } from './finding.js';
import type { LogSurvey } from './log-survey.js';
import { namesOf } from './path-names.js';
import { RepairError } from './repair-error.js';
import type { DirectoryEntries, InodeContents, RepairPlan } from './repair-plan.js';
import { listingCodes, placeNames, planRepair } from './repair-plan.js';
import { mergedEntries, newestMutations } from './state-entries.js';
import { StateView } from './state-view.js';
import { walkLeaves } from './tree-walk.js';

interface RepairOptions {
  readonly store: ObjectStore;
  /** 32 bytes, borrowed. */
  readonly rootSecret: Uint8Array;
  readonly volumeId: Uint8Array;
  readonly random: Random;
  readonly clock: Clock;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: CheckProgress) => void) | undefined;
}

export interface PlannedRepair {
  readonly report: CheckReport;
  readonly plan: RepairPlan;
  /** The newest commit that was examined, whose state `salvage --at` can bring back. */
  readonly sequence: number;
}

export interface AppliedRepair extends PlannedRepair {
  /** The numbers of the commits; none when there was nothing to repair. */
  readonly commits: readonly number[];
}

interface ApplyOptions extends RepairOptions {
  /** Opens the log as the device that commits; the log is closed here. */
  readonly openLog: (volume: BareVolume) => Promise<CommitLog>;
}

const attemptsMax = 5;
const commitBytesMax = 24 * 1024 * 1024;
/**
 * The journal may contain inode numbers that are in no commit yet, far fewer than this. The numbers that repair
 * allocates begin behind them.
 */
const inoGap = 2 ** 20;

/** Plans a repair and changes nothing. Throws RepairError `BEYOND_REPAIR`, StoreError. */
export async function planVolumeRepair(options: RepairOptions): Promise<PlannedRepair> {
  const bare = await openWhole(options);
  try {
    let counter = firstCounter;
    const { planned } = await examineAndPlan(options, bare, () => makeIno(0, counter++));
    return planned;
  } finally {
    bare.keys.root.wipe();
  }
}

/** Plans and commits a repair. Throws RepairError, CommitError, StoreError. */
export async function repairVolume(options: ApplyOptions): Promise<AppliedRepair> {
  const bare = await openWhole(options);
  try {
    // Before the examination, since opening checks the log against what this device has seen, and enrols a new device
    // with a commit.
    const log = await options.openLog(bare);
    try {
      return await commitRepair(options, bare, log);
    } finally {
      await log.close();
    }
  } finally {
    bare.keys.root.wipe();
  }
}

async function openWhole(options: RepairOptions): Promise<BareVolume> {
  const bare = await openBareVolume({ ...options, findings: new Findings(1) });
  if (!bare) throw new RepairError('BEYOND_REPAIR', 'the genesis of the volume is missing or damaged');
  return bare;
}

async function commitRepair(options: ApplyOptions, bare: BareVolume, log: CommitLog): Promise<AppliedRepair> {
  for (let attempt = 0; attempt < attemptsMax; attempt++) {
    while ((await log.poll(options.signal)).length > 0);
    let counter = log.own.nextInoCounter + inoGap;
    const { planned, survey } = await examineAndPlan(options, bare, () => makeIno(log.deviceIndex, counter++));
    const { plan } = planned;
    if (plan.steps.length === 0) return { ...planned, commits: [] };
    if (survey.head?.sequence !== log.head.sequence || !equalBytes(survey.head.hash, log.head.hash)) continue;
    const commits = await put(options, log, plan, counter);
    if (commits) return { ...planned, commits };
  }
  throw new RepairError('RACING', 'other devices commit faster than this one can examine: unmount them, or try again');
}

/** The numbers of the commits; `undefined` when another device came first, before the first of them. */
async function put(options: ApplyOptions, log: CommitLog, plan: RepairPlan, nextInoCounter: number): Promise<readonly number[] | undefined> {
  const numbers: number[] = [];
  for (const mutations of split(plan.mutations)) {
    const isFirst = numbers.length === 0;
    const commit = await log.put({
      wallTimeMs: options.clock.now().sec * 1000,
      nextInoCounter,
      operationSerial: log.own.operationSerial,
      filesDelta: isFirst ? plan.filesDelta : 0,
      bytesDelta: isFirst ? plan.bytesDelta : 0,
      packs: [],
      checkpoint: undefined,
      mutations,
    });
    if (commit === 'lost') {
      if (isFirst) return undefined;
      // A part of it is committed: nothing is worse than before, and the next run finds the rest.
      throw new RepairError('RACING', 'another device committed in the middle of the repair: run it again');
    }
    numbers.push(commit.sequence);
  }
  return numbers;
}

/** As many commits as the size limit requires: one, except for huge repairs. */
function split(mutations: readonly Mutation[]): Mutation[][] {
  let part: Mutation[] = [];
  const parts = [part];
  let bytes = 0;
  for (const mutation of mutations) {
    const size = mutation[0].length + (mutation[1]?.byteLength ?? 0) + 16;
    if (bytes + size > commitBytesMax) {
      part = [];
      parts.push(part);
      bytes = 0;
    }
    part.push(mutation);
    bytes += size;
  }
  return parts;
}

async function examineAndPlan(
  options: RepairOptions,
  { keys }: BareVolume,
  allocateIno: () => Ino,
): Promise<{ readonly planned: PlannedRepair; readonly survey: LogSurvey }> {
  const examination = await checkVolume({ ...options, data: false, names: false, keptMax: Number.POSITIVE_INFINITY });
  const { report, survey, lost, totals } = examination;
  if (!survey?.isCurrentWhole || lost.length > 0 || report.worst === 'fatal')
    throw new RepairError('BEYOND_REPAIR', 'the newest state cannot be read as a whole: restore the objects from a copy of the store');
  const source = new PackSource({ store: options.store, keys: keys.current, staging: new Map(), memory: { chunks: 0 } });
  const facts = await gather(examination, survey, source);
  const plan = planRepair({
    ...facts,
    findings: report.findings,
    counted: totals,
    claimed: totalsOf(survey),
    time: options.clock.now(),
    allocateIno,
  });
  return { planned: { report, plan, sequence: survey.head?.sequence ?? 0 }, survey };
}

/** Everything that the plan needs to know about the inodes that the findings name. */
async function gather({ report }: Examination, survey: LogSurvey, source: PackSource) {
  const state = new StateView(source, survey);
  const wanted = new Set<Ino>([rootIno]);
  for (const { ino, parent } of report.findings) {
    if (ino !== undefined) wanted.add(ino);
    if (parent !== undefined) wanted.add(parent);
  }
  const root = survey.checkpoint?.root;
  const leaves = walkLeaves({ source, root, to: 'E', onLost: () => {} });
  const entries = await namesOf(wanted, mergedEntries(leaves, newestMutations(survey.recent, '', 'E'), '', 'E'));
  // A directory that contains one of the entries may lose a subdirectory.
  for (const known of entries.values()) for (const { parent } of known) wanted.add(parent);
  const places = new Map<string, Ino | undefined>();
  for (const name of placeNames) {
    const ino = await state.read((view) => lookup(view, rootIno, name)?.ino);
    places.set(name, ino);
    if (ino !== undefined) wanted.add(ino);
  }
  const inodes = new Map<Ino, Inode>();
  const contents = new Map<Ino, InodeContents>();
  const needsContents = new Set(report.findings.filter(({ code }) => contentCodes.has(code)).map(({ ino, parent }) => ino ?? parent));
  for (const ino of wanted) {
    const inode = await state.read((view) => decodable(() => readInode(view, ino)));
    if (inode) inodes.set(ino, { ...inode, inline: new Uint8Array(inode.inline) as Inode['inline'] });
    const held = needsContents.has(ino) ? await state.read((view) => decodable(() => contentsOf(view, ino))) : undefined;
    if (held) contents.set(ino, held);
  }
  const directories = new Map<Ino, DirectoryEntries>();
  for (const { code, parent } of report.findings) {
    if (!listingCodes.has(code) || parent === undefined || directories.has(parent)) continue;
    const held = await state.read((view) => decodable(() => ({ named: [...scanNames(view, parent)], numbered: [...scanEntries(view, parent)] })));
    if (held) directories.set(parent, held);
  }
  return { entries, places, inodes, contents, directories };
}

/** Findings whose repair depends on the content of the inode. */
const contentCodes: ReadonlySet<string> = new Set([
  'ENTRY_DANGLES',
  'EXTENT_STRAY',
  'XATTR_STRAY',
  'ENTRY_WITHOUT_DIRECTORY',
  'INODE_UNREACHABLE',
  'DIRECTORY_CYCLE',
  'LINK_COUNT',
]);

function contentsOf(view: ReadView, ino: Ino): InodeContents {
  let entries = 0;
  let subdirectories = 0;
  for (const { type } of scanNames(view, ino)) {
    entries++;
    if (type === S_IFDIR) subdirectories++;
  }
  let covered = 0;
  let dataEnd = 0;
  for (const { offset, extent } of scanExtents(view, ino, 0, Number.MAX_SAFE_INTEGER)) {
    covered += extent.length;
    if (extent.kind === 'data') dataEnd = offset + extent.length;
  }
  return { entries, subdirectories, covered, dataEnd };
}

/** `undefined` for a record that does not decode, which has been reported and is left alone. */
function decodable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}
