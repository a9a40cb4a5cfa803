/**
 * Decides which of the commits that still open were written by a device of the volume (doc/security.md, "Salvage"). Any
 * holder of the volume's keys can seal a commit, but only a device that was admitted can sign one. No I/O.
 *
 * - Without a gap the rules of the chain decide (`src/commit/chain.ts`), as they do for every device.
 * - Behind a gap a commit is proven if the owner or a known device has signed it. A device is known by a certificate
 *   that leads to the owner, in its own first commit or in a checkpoint, where the rules of the chain begin again.
 */
import { equalBytes, toHex } from '../base/bytes.js';
import type { ChainState, Extension } from '../commit/chain.js';
import { chainBeforeCheckpoint, chainFromGenesis, extendChain } from '../commit/chain.js';
import { CommitError } from '../commit/commit-error.js';
import { type DeviceId, type Enrolment, isAdmittedBy, ownerId, ownerIndex } from '../commit/enrolment.js';
import type { Genesis } from '../commit/genesis.js';
import type { Member } from '../commit/log-state.js';
import type { OpenedCommit } from '../commit/open-commit.js';

/** The history that this device has verified. */
export type VerifiedHistory = Pick<ChainState, 'head' | 'log'>;

const canWrite = ({ enrolment, status }: Member): boolean => status !== 'removed' && enrolment.role !== 'reader';

export class CommitProof {
  readonly #genesis: Genesis;
  readonly #trust: VerifiedHistory | undefined;
  /** Those that may write, as far as it is known at this number. */
  readonly #devices: Map<DeviceId, Enrolment>;
  /** Those that could write at some number. */
  readonly #known: Map<DeviceId, Enrolment>;
  /** Authors of unproven commits who were not known. */
  readonly #unknown = new Set<DeviceId>();
  /** Hashes, as hex, of the commits that open and are not proven. */
  readonly #unproven = new Set<string>();
  /** `undefined` behind a gap. */
  #chain: ChainState | undefined;
  #isStale = false;

  /** `known`: what an earlier reading of the log has learnt. */
  constructor(genesis: Genesis, known: readonly Enrolment[], trust: VerifiedHistory | undefined) {
    this.#genesis = genesis;
    this.#chain = chainFromGenesis(genesis.volumeId, genesis);
    this.#trust = trust;
    const trusted = trust?.log.members.filter(canWrite).map(({ enrolment }) => enrolment) ?? [];
    this.#known = new Map([...trusted, ...known].map((enrolment) => [enrolment.deviceId, enrolment]));
    this.#devices = new Map(this.#known);
  }

  /**
   * Judges the commits that open at one number, and returns the proven one, if any. Called for every number, ascending.
   */
  judge(candidates: readonly OpenedCommit[]): OpenedCommit | undefined {
    const possible = candidates.filter((candidate) => !this.#isContradicted(candidate));
    const proven = this.#follow(possible) ?? this.#beginAgain(possible);
    for (const candidate of candidates) if (candidate !== proven) this.#unproven.add(toHex(candidate.hash));
    return proven;
  }

  /** Whether there is no gap up to the number that was judged last: where nothing is proven, nothing is lost either. */
  get isWhole(): boolean {
    return this.#chain !== undefined;
  }

  /** Hashes of the commits that open and are not proven, as hex. */
  get unproven(): ReadonlySet<string> {
    return this.#unproven;
  }

  /** Whether a device was learnt of too late: then the log is read once more with `devices`. */
  get isStale(): boolean {
    return this.#isStale;
  }

  get devices(): readonly Enrolment[] {
    return [...this.#known.values()];
  }

  /** Without a gap: the candidate that counts. A void one leads on, if it is the only one. */
  #follow(candidates: readonly OpenedCommit[]): OpenedCommit | undefined {
    const chain = this.#chain;
    if (!chain) return undefined;
    const extensions = candidates.flatMap((candidate) => {
      const extension = extended(chain, candidate);
      return extension ? [{ candidate, extension }] : [];
    });
    const next = extensions.find(({ extension }) => extension.commit) ?? (extensions.length === 1 ? extensions[0] : undefined);
    this.#chain = next?.extension.state;
    if (!next?.extension.commit) return undefined;
    this.#learnState(next.extension.state);
    return next.candidate;
  }

  /** Behind a gap, or at one: the candidate that the owner or a known device has signed. */
  #beginAgain(candidates: readonly OpenedCommit[]): OpenedCommit | undefined {
    if (this.#chain) return undefined;
    for (const candidate of candidates) {
      const before = chainBeforeCheckpoint(candidate, this.#genesis.ownerKey);
      const extension = before && extended(before, candidate);
      if (!extension?.commit) continue;
      this.#chain = extension.state;
      this.#learnState(extension.state);
      return candidate;
    }
    return candidates.find((candidate) => this.#isSigned(candidate));
  }

  #isSigned(opened: OpenedCommit): boolean {
    if (!opened.origin) return false;
    const { author, admission } = opened.origin;
    if (admission && admission.role !== 'reader') {
      const admitter = admission.admittedBy === ownerIndex ? this.#genesis.ownerKey : this.#adminKey(admission.admittedBy);
      if (admitter && isAdmittedBy(admitter, opened.volumeId, admission)) this.#learn(admission);
    }
    const key = author === ownerId ? this.#genesis.ownerKey : this.#devices.get(author)?.signingKey;
    if (!key) this.#unknown.add(author);
    return key !== undefined && opened.isSignedBy(key) && opened.decoded !== undefined;
  }

  #adminKey(index: number): Uint8Array | undefined {
    return [...this.#devices.values()].find(({ deviceIndex, role }) => deviceIndex === index && role === 'admin')?.signingKey;
  }

  #learnState({ log }: ChainState): void {
    for (const member of log.members) {
      if (canWrite(member)) this.#learn(member.enrolment);
      else this.#devices.delete(member.enrolment.deviceId);
    }
  }

  #learn(enrolment: Enrolment): void {
    const { deviceId } = enrolment;
    this.#devices.set(deviceId, enrolment);
    if (this.#known.has(deviceId)) return;
    this.#known.set(deviceId, enrolment);
    if (this.#unknown.has(deviceId)) this.#isStale = true;
  }

  /** Whether this device has verified another commit in its place. */
  #isContradicted({ origin, sequence, hash }: OpenedCommit): boolean {
    if (!this.#trust || sequence > this.#trust.head.sequence) return false;
    const { head, log } = this.#trust;
    if (sequence === head.sequence) return !equalBytes(hash, head.hash);
    const author = origin?.author;
    return author !== ownerId && log.members.every(({ enrolment }) => enrolment.deviceId !== author);
  }
}

/** `undefined`: it does not follow. */
function extended(chain: ChainState, opened: OpenedCommit): Extension | undefined {
  try {
    return extendChain(chain, opened);
  } catch (error) {
    if (error instanceof CommitError) return undefined;
    throw error;
  }
}
