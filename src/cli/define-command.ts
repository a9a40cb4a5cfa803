/** How a command is written down: yargs's module, with the arguments typed as the handler gets them (camelCase, which yargs adds by itself). */
import type { Argv, CommandModule } from 'yargs';

export interface CommandDefinition<Arguments> {
  readonly command: string;
  readonly aliases?: readonly string[];
  /** False: not shown in the help. */
  readonly describe: string | false;
  /** Declares the same options, in kebab-case. */
  readonly builder: (yargs: Argv) => Argv<unknown>;
  readonly handler: (args: Arguments) => void | Promise<void>;
}

/** yargs's types know options in the spelling of their declaration only: this is the one place that claims the other one. */
export function defineCommand<Arguments>(definition: CommandDefinition<Arguments>): CommandModule {
  return definition as unknown as CommandModule;
}
