/**
 * What the commit log keeps in the state directory (doc/format.md, "Local files"): the trust state, copies of commits,
 * and the evidence of a fork. Nothing is written once another directory stands in the place of ours: this device then
 * ends with this process.
 */
import { join } from 'node:path';
import { toHex } from '../base/bytes.js';
import { describeError } from '../base/errors.js';
import type { Logger } from '../base/logger.js';
import { hashBytes } from '../crypto/hash.js';
import { HeldDirectory } from '../disk/held-directory.js';
import { ensureDirectory, replaceFile } from '../disk/whole-file.js';
import { type CommitCopy, LocalLog } from './local-log.js';
import { sequenceName } from './log-name.js';
import { LostFiles } from './lost-files.js';
import type { Trust, TrustFile } from './trust-state.js';
import { loadTrust, saveTrust } from './trust-state.js';

/** So much of the history is kept although no start needs it. */
const keptBytes = 64 * 1024 * 1024;

export class LogFiles {
  readonly copies: LocalLog;
  readonly lost: LostFiles;
  readonly #trust: TrustFile;
  readonly #directory: HeldDirectory;
  readonly #logger: Logger;

  private constructor(trust: TrustFile, directory: HeldDirectory, logger: Logger) {
    this.copies = new LocalLog(trust.disk, trust.stateDirectory);
    this.lost = new LostFiles(trust.disk, trust.stateDirectory);
    this.#trust = trust;
    this.#directory = directory;
    this.#logger = logger;
  }

  /** The state directory exists. Throws disk errors. */
  static async open(trust: TrustFile, logger: Logger): Promise<LogFiles> {
    const files = new LogFiles(trust, await HeldDirectory.hold(trust.disk, trust.stateDirectory), logger);
    await files.copies.prepare();
    return files;
  }

  /** `undefined` when this device trusts nothing yet. Throws CommitError `BAD_STATE`, disk errors. */
  loadTrust(): Promise<Trust | undefined> {
    return loadTrust(this.#trust);
  }

  /** Durable when it resolves: the copies first, then the state that refers to them. Throws disk errors. */
  async save(trust: Trust, copies: readonly CommitCopy[]): Promise<void> {
    if (!(await this.#directory.isInPlace())) return this.#logger.warn('the state directory is not where it was: trust is kept in memory only');
    await this.copies.write(copies);
    return saveTrust(this.#trust, trust);
  }

  /** Durable when it resolves. Throws disk errors. */
  async saveCopy(copy: CommitCopy): Promise<void> {
    if (await this.#directory.isInPlace()) await this.copies.write([copy]);
  }

  /** Removes copies before `sequence` but the newest, the genesis and `kept`. Throws disk errors. */
  async removeCopiesBefore(sequence: number, kept: number | undefined): Promise<void> {
    if (await this.#directory.isInPlace()) await this.copies.removeBefore(sequence, kept, keptBytes);
  }

  /**
   * Keeps a commit that the store showed in the place of another: its signature and its predecessor's hash prove the
   * fork to everybody with the keys. The one that this device knows is among the copies. Never throws: the drive must
   * stop with or without it.
   */
  async saveEvidence(sequence: number, bytes: Uint8Array): Promise<void> {
    const { disk, stateDirectory } = this.#trust;
    const directory = join(stateDirectory, 'evidence');
    try {
      if (!(await this.#directory.isInPlace())) return;
      await ensureDirectory(disk, directory);
      await replaceFile(disk, join(directory, `${sequenceName(sequence)}-${toHex(hashBytes(bytes)).slice(0, 16)}`), bytes);
    } catch (error) {
      this.#logger.warn('the evidence could not be saved', { sequence, reason: describeError(error) });
    }
  }
}
