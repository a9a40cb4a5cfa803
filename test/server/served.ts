/** A server within the test's own process, on loopback, with tokens of every right, and clients for it. */

import { writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { systemClock } from '../../src/base/clock.js';
import { createLogger } from '../../src/base/logger.js';
import type { Random } from '../../src/base/random.js';
import { ConfinedFolder } from '../../src/disk/confined-folder.js';
import type { Disk } from '../../src/disk/disk.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { ObjectServerOptions } from '../../src/server/object-server.js';
import { ObjectServer } from '../../src/server/object-server.js';
import type { AccessEntry } from '../../src/server/request-records.js';
import type { TokenRight } from '../../src/server/token.js';
import { makeToken } from '../../src/server/token.js';
import { changeTokenFile, TokenTable } from '../../src/server/token-file.js';
import { UploadFolder } from '../../src/server/upload.js';
import { HttpStore } from '../../src/store/http-store.js';
import type { ObjectStore } from '../../src/store/object-store.js';

export interface ServedOptions extends Partial<Omit<ObjectServerOptions, 'base' | 'tokens'>> {
  readonly base: ObjectStore;
  /** Empty, and for this server alone unless `tokenFile` is another's. */
  readonly folder: string;
  readonly tokenFile?: string;
  readonly random: Random;
  /** The quota of the volume `photos`, in bytes. */
  readonly volumeQuota?: number;
}

export const uploadFolderAt = (path: string, random: Random, disk: Disk = systemDisk): UploadFolder =>
  new UploadFolder(new ConfinedFolder(disk, dirname(path)), basename(path), disk, random);

export class Served {
  readonly server: ObjectServer;
  readonly tokenFile: string;
  readonly access: AccessEntry[];
  readonly logLines: string[];
  readonly #random: Random;
  readonly #isTls: boolean;

  private constructor(server: ObjectServer, tokenFile: string, access: AccessEntry[], logLines: string[], random: Random, isTls: boolean) {
    this.server = server;
    this.tokenFile = tokenFile;
    this.access = access;
    this.logLines = logLines;
    this.#random = random;
    this.#isTls = isTls;
  }

  static async start(options: ServedOptions): Promise<Served> {
    const { folder, random, tokenFile = join(folder, 'tokens.json'), ...rest } = options;
    const access: AccessEntry[] = [];
    const logLines: string[] = [];
    const logger = createLogger((line) => logLines.push(line), 'debug');
    // Reread for every request, so that a test need not wait for the usual second.
    const tokens = await TokenTable.open(tokenFile, { clock: systemClock, logger, recheckMs: 0 });
    const server = await ObjectServer.start({
      uploads: uploadFolderAt(join(folder, 'uploads'), random),
      clock: systemClock,
      logger,
      listen: { host: '127.0.0.1', port: 0 },
      pollMs: 20,
      onAccess: (entry) => access.push(entry),
      ...rest,
      tokens,
    });
    const served = new Served(server, tokenFile, access, logLines, random, rest.certificate !== undefined);
    if (options.volumeQuota !== undefined) await served.setQuota('photos', options.volumeQuota);
    return served;
  }

  get origin(): string {
    return `${this.#isTls ? 'https' : 'http'}://127.0.0.1:${this.server.port}`;
  }

  /** A new token. */
  async token(right: TokenRight = 'full', volume = 'photos'): Promise<string> {
    const { id, text, hash } = makeToken(this.#random);
    await changeTokenFile(systemDisk, this.tokenFile, ({ tokens, quotas }) => ({
      tokens: [...tokens, { id, volume, right, hash, label: '', created: 0 }],
      quotas,
    }));
    return text;
  }

  setQuota(volume: string, bytes: number): Promise<void> {
    return changeTokenFile(systemDisk, this.tokenFile, ({ tokens, quotas }) => ({ tokens, quotas: new Map([...quotas, [volume, bytes]]) }));
  }

  removeToken(token: string): Promise<void> {
    const id = token.split('_')[1];
    return changeTokenFile(systemDisk, this.tokenFile, ({ tokens, quotas }) => ({ tokens: tokens.filter((entry) => entry.id !== id), quotas }));
  }

  /** A malformed token file, as a user may leave it in the middle of an edit. */
  async spoilTokens(): Promise<void> {
    await writeFile(this.tokenFile, '{"version":1,"tok', { mode: 0o600 });
  }

  client(token: string | undefined, volume = 'photos', authorities?: string): HttpStore {
    return new HttpStore({
      origin: new URL(this.origin),
      segments: [volume],
      loadToken: async () => token,
      disk: systemDisk,
      ...(authorities === undefined ? {} : { transport: { authorities } }),
    });
  }
}
