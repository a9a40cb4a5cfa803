/**
 * `sealdrive doctor [STORE]`: shows what is missing on this machine and what a store can do. It changes nothing, except
 * for probes, which it removes again.
 */

import { listKnownSlots, openKnownStore } from '../access/known-volume.js';
import type { Finding } from '../access/machine.js';
import { examineMachine, systemProbe } from '../access/machine.js';
import { defaultStateBase } from '../access/state-directory.js';
import { describeProbe, examineStoreNow } from '../access/store-probe.js';
import { printable } from '../base/printable.js';
import { explain } from '../program/explain.js';
import type { ObjectStore } from '../store/object-store.js';
import type { ProbeReport } from '../store/probe.js';
import { isSingleWriter } from '../store/probe.js';
import { exitCodes, Failure } from '../terminal/exit-code.js';
import { plural, print, printJson } from '../terminal/terminal.js';
import { jsonOption, stateOption } from './command-options.js';
import { defineCommand } from './define-command.js';

interface DoctorArguments {
  readonly store: string | undefined;
  readonly stateDir: string | undefined;
  readonly probe: boolean;
  readonly json: boolean;
}

const marks: Readonly<Record<Finding['state'], string>> = { ok: 'ok     ', advice: 'advice ', missing: 'MISSING' };

export const doctorCommand = defineCommand<DoctorArguments>({
  command: 'doctor [store]',
  describe: 'Say what is missing on this machine and how to get it, and what a store can do',
  builder: (yargs) =>
    yargs.positional('store', { type: 'string', describe: 'Look at this store, too, and try out what it can do' }).options({
      probe: { type: 'boolean', default: true, describe: 'Write a few small objects into the store and remove them; --no-probe: only look' },
      ...stateOption,
      ...jsonOption,
    }),
  handler: async (args) => {
    const findings = examineMachine(systemProbe, args.stateDir ?? defaultStateBase());
    const examined = args.store === undefined ? undefined : await examineStore(args.store, args.probe);
    if (examined) findings.push(...examined.findings);
    const isWell = findings.every(({ state }) => state !== 'missing');
    if (args.json) {
      const report = examined?.report;
      printJson({ ok: isWell, findings, ...(report ? { store: { ...report, singleWriter: isSingleWriter(report) } } : {}) });
    } else {
      for (const { state, text, remedy } of findings) {
        print(`${marks[state]} ${text}`);
        if (state !== 'ok' && remedy !== undefined) print(`        -> ${remedy}`);
      }
    }
    if (!isWell) process.exitCode = exitCodes.MACHINE;
  },
});

/** How many objects are looked at: a rule that archives objects takes all alike. */
const archiveLooks = 20_000;

async function countArchived(store: ObjectStore): Promise<number> {
  if (store.local) return 0;
  let [looked, archived] = [0, 0];
  for await (const { isArchived } of store.list('')) {
    if (isArchived === true) archived++;
    if (++looked >= archiveLooks) break;
  }
  return archived;
}

async function examineStore(location: string, isProbed: boolean): Promise<{ readonly findings: readonly Finding[]; readonly report?: ProbeReport }> {
  const findings: Finding[] = [];
  try {
    const store = await openKnownStore(location);
    try {
      try {
        const { slots, unreadable } = await listKnownSlots(store, location);
        const broken = unreadable.length === 0 ? '' : `, ${unreadable.length} that cannot be read`;
        findings.push({
          id: 'store',
          state: 'ok',
          text: `${printable(store.description)} holds a volume with ${plural(slots.length, 'keyslot')}${broken}`,
        });
      } catch (error) {
        // A place without a volume is examined as well.
        if (!(error instanceof Failure && error.code === 'NOT_A_VOLUME')) throw error;
        findings.push({
          id: 'store',
          state: 'advice',
          text: `${printable(store.description)} answers, and holds no volume`,
          remedy: 'make one with "sealdrive init"',
        });
      }
      const archived = await countArchived(store);
      if (archived > 0) {
        findings.push({
          id: 'store-archived',
          state: 'advice',
          text: `${plural(archived, 'object')} in an archive (GLACIER, DEEP_ARCHIVE): reading one fails until it is restored`,
          remedy: 'restore them ("aws s3api restore-object"), and end the lifecycle rule that archives what lies here',
        });
      }
      if (!isProbed) return { findings };
      const report = await examineStoreNow(store, location);
      return { findings: [...findings, ...describeProbe(report)], report };
    } finally {
      await store.close();
    }
  } catch (error) {
    return { findings: [...findings, { id: findings.length === 0 ? 'store' : 'store-probe', state: 'missing', text: explain(error).message }] };
  }
}
