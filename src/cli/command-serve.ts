/**
 * `sealdrive serve [BASE]`: serves an object store over HTTP (doc/server.md). It stays in the foreground, as services
 * do.
 */
import { dirname, isAbsolute, join, resolve } from 'node:path';
import { defaultConfigBase, defaultDataBase, homeFolder } from '../access/state-directory.js';
import { printable } from '../base/printable.js';
import { environment } from '../disk/environment.js';
import { systemDisk } from '../disk/system-disk.js';
import { ensureDirectoryPath } from '../disk/whole-file.js';
import type { Address } from '../program/serve-objects.js';
import { exitCodes, Failure } from '../terminal/exit-code.js';
import { duration, readOption, readOptional, size } from '../terminal/option-kind.js';
import { plural, print, printJson, tell } from '../terminal/terminal.js';
import { jsonOption } from './command-options.js';
import { defineCommand } from './define-command.js';

interface ServeArguments {
  readonly base: string | undefined;
  readonly listen: string;
  readonly tlsCert: string | undefined;
  readonly tlsKey: string | undefined;
  readonly behindProxy: boolean;
  readonly tokens: string | undefined;
  readonly quota: string | undefined;
  readonly objectMax: string;
  readonly requestsMax: number;
  readonly waitersMax: number;
  readonly poll: string | undefined;
  readonly spool: string | undefined;
  readonly accessLog: string | undefined;
  readonly metrics: string | undefined;
  readonly stopTimeout: string;
  readonly debug: boolean;
  readonly json: boolean;
}

export const tokensOption = {
  tokens: { type: 'string', normalize: true, describe: 'The file of tokens (default: ~/.config/sealdrive/server-tokens.json)' },
} as const;

export const tokensPathOf = (given: string | undefined): string =>
  given === undefined ? join(defaultConfigBase(), 'server-tokens.json') : resolve(given);

const wireGroup = 'Connections:';
const limitGroup = 'Limits:';

export const serveCommand = defineCommand<ServeArguments>({
  command: 'serve [base]',
  describe: 'Host volumes for other machines over HTTP',
  builder: (yargs) =>
    yargs
      .positional('base', {
        type: 'string',
        describe: 'What the volumes lie in: a directory or any store (default: ~/.local/share/sealdrive/served)',
      })
      .options({
        listen: { type: 'string', default: '127.0.0.1:8444', describe: 'HOST:PORT; [::]:8444 is everybody', group: wireGroup },
        'tls-cert': { type: 'string', normalize: true, describe: 'Certificate and those above it (PEM)', group: wireGroup },
        'tls-key': { type: 'string', normalize: true, describe: 'Its key (PEM)', group: wireGroup },
        'behind-proxy': { type: 'boolean', default: false, describe: 'Plain HTTP, because something in front does TLS', group: wireGroup },
        ...tokensOption,
        quota: { type: 'string', describe: 'Of each volume that has none of its own, such as 10G', group: limitGroup },
        'object-max': { type: 'string', default: '256M', describe: 'Size of an object', group: limitGroup },
        'requests-max': { type: 'number', default: 256, describe: 'Requests at once; half of them for one token', group: limitGroup },
        'waiters-max': { type: 'number', default: 4096, describe: 'Devices that wait for news at once', group: limitGroup },
        'stop-timeout': { type: 'string', default: '30s', describe: 'How long requests may go on after SIGTERM', group: limitGroup },
        poll: { type: 'string', describe: 'Look for what other servers put this often; 0: never (default: 0.5s, 1s on remote bases)' },
        spool: {
          type: 'string',
          normalize: true,
          describe: 'Where uploads lie meanwhile, if the base is no directory (default: ~/.cache/sealdrive/spool)',
        },
        'access-log': { type: 'string', nargs: 1, describe: 'A line of JSON for each request, to this file or - (no tokens, no keys)' },
        metrics: { type: 'string', describe: 'HOST:PORT for /metrics (Prometheus) and /healthz' },
        debug: { type: 'boolean', default: false, describe: 'Log more' },
        ...jsonOption,
      })
      .example('$0 serve /srv/sealdrive', 'for this machine, at http://127.0.0.1:8444')
      .example('$0 serve /srv/sealdrive --listen [::]:8444 --tls-cert cert.pem --tls-key key.pem', 'for everybody with a token')
      .example('$0 serve "s3://bucket?endpoint=https://host" --behind-proxy', 'in front of S3'),
  handler: async (args) => {
    const listen = addressOf(args.listen, 'listen');
    if ((args.tlsCert === undefined) !== (args.tlsKey === undefined)) throw new Failure('USAGE', '--tls-cert and --tls-key go together');
    const certificate =
      args.tlsCert === undefined || args.tlsKey === undefined ? undefined : { certPath: resolve(args.tlsCert), keyPath: resolve(args.tlsKey) };
    if (!certificate && !args.behindProxy && !isLoopback(listen.host)) {
      throw new Failure(
        'USAGE',
        `plain HTTP on ${listen.host} would show the tokens to everybody: give --tls-cert and --tls-key, or --behind-proxy where something in front does TLS`,
      );
    }
    const requestsMax = countOf(args.requestsMax, 'requests-max');
    // Loaded now, so that other commands start fast.
    const { serveObjects } = await import('../program/serve-objects.js');
    const isWhole = await serveObjects(
      {
        base: args.base ?? (await ownBase()),
        listen,
        certificate,
        isBehindProxy: args.behindProxy,
        tokensPath: tokensPathOf(args.tokens),
        quota: readOptional(size, args.quota, 'quota'),
        limits: { objectMax: readOption(size, args.objectMax, 'object-max'), requestsMax, waitersMax: countOf(args.waitersMax, 'waiters-max') },
        pollMs: readOptional(duration, args.poll, 'poll'),
        spool: args.spool === undefined ? defaultSpool() : resolve(args.spool),
        accessLog: args.accessLog === undefined || args.accessLog === '-' ? args.accessLog : resolve(args.accessLog),
        metrics: args.metrics === undefined ? undefined : addressOf(args.metrics, 'metrics'),
        stopTimeoutMs: readOption(duration, args.stopTimeout, 'stop-timeout'),
        isDebug: args.debug,
      },
      ({ description, url, metricsPort, tokenCount }) => {
        if (args.json) {
          printJson({ url, base: description, tokens: tokenCount, metricsPort: metricsPort ?? null });
          return;
        }
        print(`Serving ${printable(description)} at ${url}, for ${plural(tokenCount, 'token')}`);
        if (tokenCount === 0) tell('there are no tokens yet: "sealdrive token add VOLUME" makes one, also while this runs');
      },
    );
    if (!isWhole) process.exitCode = exitCodes.INTERRUPTED;
  },
});

async function ownBase(): Promise<string> {
  const path = join(defaultDataBase(), 'served');
  await ensureDirectoryPath(systemDisk, dirname(path));
  return path;
}

function defaultSpool(): string {
  const cache = environment()['XDG_CACHE_HOME'];
  return join(cache && isAbsolute(cache) ? cache : join(homeFolder(), '.cache'), 'sealdrive', 'spool');
}

function addressOf(text: string, option: string): Address {
  const [, address, name, digits] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = address ?? name;
  const port = Number(digits);
  if (host === undefined || port > 65_535)
    throw new Failure('USAGE', `--${option} takes HOST:PORT, such as 127.0.0.1:8444 or [::]:8444, not ${text}`);
  return { host, port };
}

const isLoopback = (host: string): boolean => host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);

function countOf(count: number, option: string): number {
  if (!Number.isInteger(count) || count < 1 || count > 100_000) throw new Failure('USAGE', `--${option} takes a number from 1 to 100000`);
  return count;
}
