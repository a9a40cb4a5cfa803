/**
 * What a store can do, as this machine found out: it is probed once, remembered beside the store's pin, and put into
 * words. The decisions are made by `init`, `mount` and `doctor` (doc/stores.md, "What each can do").
 */
import { EventEmitter, once } from 'node:events';
import { systemClock } from '../base/clock.js';
import { describeError } from '../base/errors.js';
import { type Logger } from '../base/logger.js';
import { writesUsual } from '../base/memory-budget.js';
import { systemRandom } from '../crypto/system-random.js';
import type { FolderLack, ObjectStore } from '../store/object-store.js';
import type { ProbeOptions, ProbeReport, ProbeVerdict } from '../store/probe.js';
import { probeStore } from '../store/probe.js';
import { Failure } from '../terminal/exit-code.js';
import type { Finding } from './machine.js';
import { readNote, writeNote } from './note-file.js';
import { storeNotePath } from './store-pin.js';

/** One more than when its fields last changed their meaning. */
const formatVersion = 1;

const probePath = (location: string): string => storeNotePath(location, 'probe');

/** The result of the last probe from this machine; `undefined` if there was none, or by another version. */
export async function rememberedProbe(location: string): Promise<ProbeReport | undefined> {
  try {
    const value: unknown = JSON.parse((await readNote(probePath(location))) ?? '');
    if (typeof value !== 'object' || value === null || !('version' in value) || value.version !== formatVersion || !('report' in value))
      return undefined;
    const { report } = value;
    if (typeof report !== 'object' || report === null || !('conditionalPut' in report)) return undefined;
    // The file is our own, in a folder that only this user writes: what decisions rest on is checked, the rest is only
    // shown.
    if (!['exact', 'by-claim', 'none'].includes(String(report.conditionalPut))) return undefined;
    if (!('ranges' in report) || typeof report.ranges !== 'boolean') return undefined;
    return report as ProbeReport;
  } catch {
    // It is missing or damaged: the store is probed again.
    return undefined;
  }
}

/** A folder keeps writers apart by hard links: one short race is enough to find a filesystem that does not. */
const localRace = { writers: 4, rounds: 1 };
/** There are no more puts at once than this (volume-store.ts): further ones would arrive when the race is over. */
const remoteRace = { writers: writesUsual };

/** Probes the store and remembers what it found. Throws StoreError, Failure `LOCAL_DISK`. */
export async function examineStoreNow(
  store: ObjectStore,
  location: string,
  options: Pick<ProbeOptions, 'signal' | 'onVerdict'> = {},
): Promise<ProbeReport> {
  const report = await probeStore(store, systemRandom, { ...options, clock: systemClock, ...(store.local ? localRace : remoteRace) });
  await writeNote(probePath(location), `${JSON.stringify({ version: formatVersion, report })}\n`);
  return report;
}

/** A probe beside other work. */
export interface RunningProbe {
  /**
   * Known before the end. `undefined` when the store cannot be probed now: whoever goes on is told by the store what is
   * wrong.
   */
  readonly verdict: Promise<ProbeVerdict | undefined>;
  /** Ends the probe if it is still running, and removes what it made. Never rejects. */
  stop(): Promise<void>;
}

export function beginProbe(store: ObjectStore, location: string, logger: Logger): RunningProbe {
  const stopping = new AbortController();
  const { signal } = stopping;
  const found = new EventEmitter<{ verdict: [ProbeVerdict | undefined] }>();
  const verdict = once(found, 'verdict').then(([known]) => known as ProbeVerdict | undefined);
  const ended = examineStoreNow(store, location, { signal, onVerdict: (known) => found.emit('verdict', known) })
    .catch((error: unknown) => logger.info('the store was not probed to its end; the next mount begins again', { reason: describeError(error) }))
    .then(() => void found.emit('verdict', undefined));
  return {
    verdict,
    stop() {
      stopping.abort();
      return ended;
    },
  };
}

/**
 * Why no volume can be used in a store, and what to do; `undefined`: one can. `init`, `mount` and `doctor` decide by
 * this alone.
 */
export function whyUnusable({ ranges }: ProbeVerdict): Required<Pick<Finding, 'id' | 'text' | 'remedy'>> | undefined {
  if (ranges) return undefined;
  return {
    id: 'store-ranges',
    text: 'ranges: no: the store sends whole objects, and content cannot be read through it',
    remedy: 'take a proxy or cache out of the way that drops the Range header, or choose another store',
  };
}

/** Throws Failure `STORE` for a store in which no volume can be used. */
export function requireUsable(verdict: ProbeVerdict): void {
  const why = whyUnusable(verdict);
  if (why) throw new Failure('STORE', `no volume can be used in this store (${why.text}): ${why.remedy}`);
}

/** The warning about a store for one writer. */
export const singleWriterWarning =
  'warning: this store cannot keep two devices apart (it has no exclusive put): it is for ONE device at a time; use it from another one and work may be lost';

const lackTexts: Readonly<Record<FolderLack, readonly [text: string, remedy: string]>> = {
  'hard-links': [
    'hard links: none: each object is a folder with one file, which takes more room and time',
    'nothing needs to be done; a file system such as ext4, XFS or Btrfs is faster',
  ],
  'folder-sync': [
    'durable names: none: the file system cannot sync a folder, and a power cut there may lose what it was last given',
    'keep the store on a file system that can, or where power does not fail',
  ],
  rights: [
    'rights: the file system gives what is made there other rights or another group than the folder has',
    'see with "ls -l" that all who share the store may read it; mount options such as uid=, gid= and umask= decide on some file systems',
  ],
};

/** One line for each thing that was found, with what it means. */
export function describeProbe(report: ProbeReport): Finding[] {
  const { conditionalPut, batchDelete, lacks = [], resumablePuts, versionsLeft, retentionHours, putMs, getMs } = report;
  const findings: Finding[] = [];
  const add = (id: string, isGood: boolean, text: string, remedy?: string): void => {
    findings.push({ id: `store-${id}`, state: isGood ? 'ok' : 'advice', text, ...(remedy === undefined ? {} : { remedy }) });
  };
  if (conditionalPut === 'none') {
    add(
      'conditional-put',
      false,
      'conditional put: none: the store lets two writers believe that both were first',
      'use the volume from one device only, or move it to a store that can tell; a mount refuses a second device',
    );
  } else {
    const how = conditionalPut === 'exact' ? 'exact' : 'by claim (the server ignores conditions, moves are exclusive; three requests for one)';
    add('conditional-put', true, `conditional put: ${how}: several devices can write at the same time`);
  }
  const unusable = whyUnusable(report);
  if (unusable) findings.push({ ...unusable, state: 'missing' });
  else add('ranges', true, 'ranges: yes: only what is read is fetched');
  add(
    'delete',
    report.delete !== 'ignored',
    {
      works: `delete: yes${batchDelete === undefined ? '' : batchDelete ? ', in batches' : ', one by one'}${versionsLeft === undefined ? ': space that is no longer used can be freed' : ''}`,
      refused: 'delete: refused: these credentials only add; what is no longer used stays (a few probes of 512 bytes now, too)',
      ignored: 'delete: ignored: what was deleted is still there',
    }[report.delete],
    report.delete === 'ignored' ? 'look for versioning or a cache in front of the store' : undefined,
  );
  if (versionsLeft !== undefined) {
    const lock = retentionHours === undefined ? '' : `; a retention (Object Lock) keeps each of them for ${retentionHours} hours`;
    add(
      'versions',
      false,
      `versions: kept: what is deleted stays as an old version${lock} (${versionsLeft} probes of 512 bytes and their delete markers now, too)`,
      'a lifecycle rule that expires old versions and lone delete markers frees their space',
    );
  }
  if (resumablePuts !== undefined) {
    add(
      'resumable',
      resumablePuts,
      resumablePuts
        ? 'large puts: in parts: an upload that is cut off goes on where it stopped'
        : 'large puts: in one piece: an upload that is cut off begins anew (the store takes no multipart uploads, or these credentials do not permit them)',
    );
  }
  add(
    'list',
    report.listOrdered && report.listAfterWrite,
    `list: ${report.listOrdered ? 'in order' : 'not in order'}, ${report.listAfterWrite ? 'up to date' : 'late'}${
      report.listOrdered && report.listAfterWrite ? '' : ': others may see new work later'
    }`,
  );
  add(
    'read-after-write',
    report.readAfterWrite,
    report.readAfterWrite ? 'new objects: there at once' : 'new objects: there after a while: others may see new work later',
  );
  for (const lack of lacks) add(lack, false, ...lackTexts[lack]);
  add('latency', true, `latency: ${putMs} ms for a small put, ${getMs} ms for a small get`);
  return findings;
}
