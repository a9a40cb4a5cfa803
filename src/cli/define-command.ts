/**
 * Defines a command: a module of yargs, with the arguments typed as the handler gets them (in camelCase, which yargs
 * adds).
 */
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

/** The types of yargs know options only as they are declared. This is the one place that asserts the other spelling. */
export function defineCommand<Arguments>(definition: CommandDefinition<Arguments>): CommandModule {
  return definition as unknown as CommandModule;
}
