/** `sealdrive doctor [STORE]`: what is missing on this machine, and how to get it. Changes nothing. */
import { jsonOption, stateOption } from './command-options.js';
import { defineCommand } from './define-command.js';
import { exitCodes } from './exit-code.js';
import { explain } from './explain.js';
import { listSlotsOnce } from './keyslots.js';
import { examineMachine, systemProbe } from './machine.js';
import type { Finding } from './machine.js';
import { defaultStateBase } from './state-directory.js';
import { plural, print, printJson } from './terminal.js';
import { openVolumeStore } from './volume-store.js';

interface DoctorArguments {
  readonly store: string | undefined;
  readonly stateDir: string | undefined;
  readonly json: boolean;
}

const marks: Readonly<Record<Finding['state'], string>> = { ok: 'ok     ', advice: 'advice ', missing: 'MISSING' };

export const doctorCommand = defineCommand<DoctorArguments>({
  command: 'doctor [store]',
  describe: 'Say what is missing on this machine and how to get it',
  builder: (yargs) => yargs.positional('store', { type: 'string', describe: 'Look at this store, too' }).options({ ...stateOption, ...jsonOption }),
  handler: async (args) => {
    const findings = examineMachine(systemProbe, args.stateDir ?? defaultStateBase());
    if (args.store !== undefined) findings.push(await examineStore(args.store));
    const isWell = findings.every(({ state }) => state !== 'missing');
    if (args.json) printJson({ ok: isWell, findings });
    else {
      for (const { state, text, remedy } of findings) {
        print(`${marks[state]} ${text}`);
        if (state !== 'ok' && remedy !== undefined) print(`        -> ${remedy}`);
      }
    }
    if (!isWell) process.exitCode = exitCodes.MACHINE;
  },
});

async function examineStore(location: string): Promise<Finding> {
  try {
    const store = await openVolumeStore(location);
    const { slots, unreadable } = await listSlotsOnce(store);
    const broken = unreadable.length === 0 ? '' : `, ${unreadable.length} that cannot be read`;
    return { id: 'store', state: 'ok', text: `${store.description} holds a volume with ${plural(slots.length, 'keyslot')}${broken}` };
  } catch (error) {
    return { id: 'store', state: 'missing', text: explain(error).message };
  }
}
