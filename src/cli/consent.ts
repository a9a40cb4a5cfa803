/** What commands have in common that change the history of this device: nothing is mounted, and the user agrees. */
import { holderOf } from '../program/control-client.js';
import { Failure } from '../terminal/exit-code.js';
import { ask, hasTerminal } from '../terminal/prompt.js';
import type { SecretOptions } from '../terminal/secret.js';
import { secretOptions } from '../terminal/secret.js';
import { jsonOption, stateOption } from './command-options.js';

export interface ConsentArguments extends SecretOptions {
  readonly store: string;
  readonly yes: boolean;
  readonly stateDir: string | undefined;
  readonly json: boolean;
}

export const consentOptions = {
  yes: { type: 'boolean', alias: 'y', default: false, describe: 'Do it, without a question' },
  ...stateOption,
  ...secretOptions,
  ...jsonOption,
} as const;

/**
 * Only one process may write a device's commits: a mount on this machine would not expect commits in its name. Throws
 * Failure `IN_USE`.
 */
export async function refuseMounted(stateDirectory: string): Promise<void> {
  const mount = await holderOf(stateDirectory);
  if (mount) throw new Failure('IN_USE', `this volume is mounted at ${mount.mountPoint}: unmount it first; mounts on other machines may stay`);
}

/** No without a terminal. */
export async function isAgreed(): Promise<boolean> {
  if (!hasTerminal()) return false;
  return /^y(es)?$/i.test((await ask('Do that? [y/N] ', true)).trim());
}
