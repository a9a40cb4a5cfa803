/**
 * The facts that an open volume reports in `status`: nothing secret, and no names of files (doc/security.md,
 * "Freshness").
 */
import { toHex } from '../base/bytes.js';
import type { Clock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import type { MemoryBudget } from '../base/memory-budget.js';
import type { DiskCache } from '../cache/disk-cache.js';
import type { CommitLog } from '../commit/commit-log.js';
import { deviceLabel, isoTime } from '../commit/device-label.js';
import { ownerIndex } from '../commit/enrolment.js';
import { programVersionText } from '../commit/program-version.js';
import type { Journal } from '../journal/journal.js';
import type { VolumeStatistics } from '../operation/statistics.js';
import type { CollectReport } from './collector.js';
import type { Committer } from './committer.js';
import type { Staleness } from './staleness.js';
import type { TreeKeeper } from './tree-keeper.js';
import type { UploadQueue } from './upload-queue.js';
import type { OpenOptions } from './volume-parts.js';

type Fact = string | number | boolean;

/** Facts by group and name. */
export type VolumeFacts = Readonly<Record<string, Readonly<Record<string, Fact>>>>;

export interface FactSources {
  readonly id: string;
  readonly statistics: VolumeStatistics;
  readonly log: CommitLog;
  readonly options: Pick<OpenOptions, 'reachability' | 'refused' | 'deviceName' | 'store' | 'syncClient' | 'clock'>;
  readonly committer: Committer;
  readonly staleness: Staleness;
  readonly queue: UploadQueue;
  readonly cache: DiskCache | undefined;
  readonly keeper: TreeKeeper | undefined;
  readonly journal: Journal;
  readonly memory: MemoryBudget;
  /** How much of it is used. */
  readonly memoryBytes: number;
  readonly collected: { readonly report: CollectReport; readonly atMs: number } | undefined;
}

export function volumeFacts(sources: FactSources): VolumeFacts {
  const { id, statistics, log, options, committer, staleness, queue, cache, keeper, journal, memory, memoryBytes, collected } = sources;
  const lastError = committer.failure ?? committer.lastError;
  const lastMs = committer.lastCommitMs;
  const offlineMs = options.reachability?.offlineSinceMs;
  return {
    volume: { id, ...statistics },
    commit: {
      sequence: log.head.sequence,
      headCode: `${log.head.sequence}-${toHex(log.head.hash).slice(0, 16)}`,
      stopped: committer.failure !== undefined,
      ...(committer.incompleteMs === undefined ? {} : { nextIncompleteSeconds: Math.round(committer.incompleteMs / 1000) }),
      ...(lastMs === undefined ? {} : { lastOwn: new Date(lastMs).toISOString() }),
    },
    ...(collected ? { space: spaceFacts(collected.report, collected.atMs) } : {}),
    device: {
      name: options.deviceName,
      index: log.deviceIndex,
      devices: log.members.filter(({ status }) => status !== 'removed').length,
      ...ownStanding(log),
      ...(journal.failure ? { failure: describeError(journal.failure) } : {}),
    },
    ...enrolmentFacts(log),
    freshness: {
      history: log.freshness,
      ...(log.answeredMs === undefined ? {} : { storeAnswered: new Date(log.answeredMs).toISOString() }),
      ...provenFacts(staleness),
      ...signsOfLife(log, options.clock),
    },
    store: {
      description: options.store.description,
      ...(options.syncClient === undefined ? {} : { handedTo: options.syncClient }),
      reachable: lastError === undefined && offlineMs === undefined,
      ...(offlineMs === undefined ? {} : { offlineSeconds: Math.round((options.clock.monotonicMs() - offlineMs) / 1000) }),
      ...(lastError === undefined ? {} : { lastError: describeError(lastError) }),
    },
    ...(options.refused?.facts ? { refused: { ...options.refused.facts } } : {}),
    queue: { bytes: queue.bytes, maxBytes: queue.bytesMax },
    memory: { bytes: memoryBytes, maxBytes: memory.totalBytes },
    cache: {
      diskBytes: cache?.bytes ?? 0,
      ...(cache ? { allowedBytes: cache.bytesAllowed, pinnedBytes: cache.pinnedBytes, wholeTree: keeper?.isWhole ?? false } : {}),
      journalBytes: journal.bytes,
    },
  };
}

function provenFacts({ ageMs, maxMs, isStale }: Staleness): Record<string, Fact> {
  return {
    ...(ageMs === undefined ? {} : { provenSecondsAgo: Math.round(ageMs / 1000) }),
    ...(maxMs === undefined ? {} : { maxStalenessSeconds: Math.round(maxMs / 1000), stale: isStale }),
  };
}

/** What this device may do; nothing before it enrols. */
function ownStanding(log: CommitLog): Record<string, Fact> {
  const { enrolment } = log.members[log.deviceIndex - 1] ?? {};
  return { ...(enrolment ? { role: enrolment.role } : {}), ...(log.formerIndex > 0 ? { formerIndex: log.formerIndex } : {}) };
}

/**
 * Which other devices take part, since when, as what, and on whose word: an unknown device among them has had a secret
 * of the volume.
 */
function enrolmentFacts(log: CommitLog): VolumeFacts {
  const enrolled: Record<string, string> = {};
  for (const { enrolment, enrolledMs, status } of log.members) {
    const { deviceIndex, name, role, program, admittedBy } = enrolment;
    if (deviceIndex === log.deviceIndex) continue;
    const by = admittedBy === ownerIndex ? 'the owner' : deviceLabel(admittedBy, log.roster[admittedBy - 1]?.name ?? '');
    const facts = [`enrolled ${isoTime(enrolledMs)}`, role, `version ${programVersionText(program)}`, `admitted by ${by}`];
    enrolled[deviceLabel(deviceIndex, name)] = (status === 'active' ? facts : [...facts, status]).join(', ');
  }
  return Object.keys(enrolled).length === 0 ? {} : { devices: enrolled };
}

/**
 * How long ago, in seconds, each other device wrote its newest known commit (its last sign of life). If a store
 * withholds commits, this only grows.
 */
function signsOfLife(log: CommitLog, clock: Clock): Record<string, string> {
  const nowMs = clock.now().sec * 1000;
  const signs: Record<string, string> = {};
  for (const { enrolment, status } of log.members) {
    const { deviceId, deviceIndex, name } = enrolment;
    if (deviceIndex === log.deviceIndex || status === 'removed') continue;
    const atMs = log.signOfLifeMs(deviceId);
    signs[deviceLabel(deviceIndex, name)] =
      atMs === undefined ? 'not since the last checkpoint' : `${Math.max(0, Math.round((nowMs - atMs) / 1000))} s ago`;
  }
  return signs;
}

/** What the last collection found. */
function spaceFacts({ live, kept, garbage, waiting, waitingFor, mayNotDelete }: CollectReport, atMs: number): Readonly<Record<string, Fact>> {
  return {
    liveBytes: live,
    keptBytes: kept,
    garbageBytes: garbage,
    counted: isoTime(atMs),
    ...(waitingFor.length === 0 ? {} : { waitingBytes: waiting.bytes, waitingFor: waitingFor.join(', ') }),
    ...(mayNotDelete ? { mayNotDelete } : {}),
  };
}
