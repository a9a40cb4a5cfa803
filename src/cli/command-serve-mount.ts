/** The hidden command that `mount` starts: the process that serves. People never type it. */
import type { CommandModule } from 'yargs';
import { serveCommandName } from './detached-mount.js';
import { serveDetachedMount } from './serve-mount.js';

export const serveMountCommand: CommandModule = {
  command: serveCommandName,
  describe: false,
  handler: async () => {
    process.exitCode = await serveDetachedMount();
  },
};
