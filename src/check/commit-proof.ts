/**
 * Decides which of the commits that still open were written by a device of the volume (doc/security.md, "Salvage"). Any
 * holder of the volume's keys can seal a commit, but only a device can sign one. No I/O.
 *
 * - Without a gap the rules of the chain decide (`src/commit/chain.ts`), since no device follows a commit that breaks
 *   them.
 * - Behind a gap a commit is proven if a known device has signed it. A proven checkpoint names the devices that
 *   enrolled in the gap.
 * - A proven commit vouches for those before it, back to a gap, since its device had verified them.
 */
import { equalBytes, toHex } from '../base/bytes.js';
import type { ChainState, LogPosition } from '../commit/chain.js';
import { chainBeforeCheckpoint, chainFromGenesis, extendChain } from '../commit/chain.js';
import type { DeviceId, Enrolment } from '../commit/commit.js';
import type { DecodedCommit } from '../commit/commit-codec.js';
import { CommitError } from '../commit/commit-error.js';
import { isSignedBy } from '../crypto/signature.js';

/** The history that this device has verified. */
export interface VerifiedHistory {
  readonly head: LogPosition;
  /** The devices that were enrolled up to then. */
  readonly enrolments: readonly Enrolment[];
}

/** A commit that opens on top of some bytes. */
export interface OpenedCommit {
  readonly decoded: DecodedCommit;
  readonly hash: Uint8Array;
}

/** What is known before the log is read. Each further reading begins with what the one before has learnt. */
export interface KnownDevices {
  /** In the order of enrolment, as far as it is known. */
  readonly enrolments: readonly Enrolment[];
  /** Devices that an older device does not know: they wrote another history. */
  readonly excluded: ReadonlySet<DeviceId>;
  /** Hashes, as hex, of commits that a proven one follows. */
  readonly vouched: ReadonlySet<string>;
}

export const nothingKnown: KnownDevices = { enrolments: [], excluded: new Set(), vouched: new Set() };

export class CommitProof {
  readonly #trust: VerifiedHistory | undefined;
  readonly #devices: Map<DeviceId, Enrolment>;
  readonly #excluded: Set<DeviceId>;
  /** Devices that enrolled in this reading, in that order. */
  readonly #joined = new Set<DeviceId>();
  readonly #unknown = new Set<DeviceId>();
  readonly #vouched: Set<string>;
  /** The commits that open and are not proven: the hash of each with the hash of the one before it, as hex. */
  readonly #unproven = new Map<string, string>();
  /** `undefined` behind a gap. */
  #chain: ChainState | undefined;
  #isStale = false;

  constructor(volumeId: Uint8Array, creator: Enrolment, known: KnownDevices, trust: VerifiedHistory | undefined) {
    this.#chain = chainFromGenesis(volumeId, creator);
    this.#trust = trust;
    this.#devices = new Map([creator, ...(trust?.enrolments ?? []), ...known.enrolments].map((enrolment) => [enrolment.deviceId, enrolment]));
    this.#excluded = new Set(known.excluded);
    this.#vouched = new Set(known.vouched);
  }

  /**
   * Judges the commits that open at one number, and returns the proven one, if any. Called for every number, ascending.
   */
  judge(candidates: readonly OpenedCommit[]): OpenedCommit | undefined {
    const chain = this.#chain;
    const proven = candidates.find((candidate) => this.#isProven(candidate, chain));
    if (proven) this.#learn(proven, chain);
    else this.#chain = undefined;
    for (const candidate of candidates) {
      if (candidate !== proven) this.#unproven.set(toHex(candidate.hash), toHex(candidate.decoded.commit.previousHash));
    }
    return proven;
  }

  /** Hashes of the commits that open and are not proven, as hex. */
  get unproven(): ReadonlySet<string> {
    return new Set(this.#unproven.keys());
  }

  /**
   * Whether something that was learnt late may change earlier judgements: then the log is read once more with
   * `devices`.
   */
  get isStale(): boolean {
    return this.#isStale;
  }

  get devices(): KnownDevices {
    return { enrolments: [...this.#devices.values()], excluded: this.#excluded, vouched: this.#vouched };
  }

  #isProven({ decoded, hash }: OpenedCommit, chain: ChainState | undefined): boolean {
    const { commit } = decoded;
    if (this.#excluded.has(commit.deviceId) || (this.#trust && isContradicted(this.#trust, decoded, hash))) return false;
    if (this.#vouched.has(toHex(hash))) return true;
    if (chain) return extended(chain, decoded, hash) !== undefined;
    const device = this.#devices.get(commit.deviceId);
    if (!device) this.#unknown.add(commit.deviceId);
    return device !== undefined && isSignedBy(device.publicKey, decoded.signedMessage, decoded.signature);
  }

  #learn({ decoded, hash }: OpenedCommit, chain: ChainState | undefined): void {
    const { commit } = decoded;
    this.#vouch(toHex(commit.previousHash));
    this.#chain = extended(chain, decoded, hash);
    if (!this.#chain && commit.checkpoint) {
      this.#chain = extended(chainOf(decoded), decoded, hash);
      this.#exclude(decoded);
    }
    // An enrolment behind a gap was verified by nobody, unless the commit is vouched for.
    if (!this.#chain && !commit.checkpoint && !this.#vouched.has(toHex(hash))) return;
    for (const enrolment of commit.enrolments) {
      const { deviceId } = enrolment;
      if (!commit.checkpoint) this.#joined.add(deviceId);
      if (this.#devices.has(deviceId)) continue;
      this.#devices.set(deviceId, enrolment);
      if (this.#unknown.has(deviceId)) this.#isStale = true;
    }
  }

  /** Marks a commit and those before it as vouched for, back to a gap. */
  #vouch(hash: string): void {
    for (let at: string | undefined = hash; at !== undefined; at = this.#unproven.get(at)) {
      if (!this.#unproven.has(at) || this.#vouched.has(at)) continue;
      this.#vouched.add(at);
      this.#isStale = true;
    }
  }

  /**
   * Excludes devices that seemed to have enrolled before this checkpoint but are unknown to its device, which is older:
   * they wrote another history, and the older one counts.
   */
  #exclude({ commit }: DecodedCommit): void {
    const roster = new Set(commit.enrolments.map(({ deviceId }) => deviceId));
    const order = [...this.#joined];
    for (const deviceId of order.slice(order.indexOf(commit.deviceId) + 1)) {
      if (roster.has(deviceId) || this.#excluded.has(deviceId)) continue;
      this.#excluded.add(deviceId);
      this.#isStale = true;
    }
  }
}

/** Whether this device has verified another commit in its place. */
function isContradicted({ head, enrolments }: VerifiedHistory, { commit }: DecodedCommit, hash: Uint8Array): boolean {
  if (commit.sequence > head.sequence) return false;
  if (commit.sequence === head.sequence && !equalBytes(hash, head.hash)) return true;
  return enrolments.every(({ deviceId }) => deviceId !== commit.deviceId);
}

function extended(chain: ChainState | undefined, decoded: DecodedCommit, hash: Uint8Array): ChainState | undefined {
  try {
    return chain && extendChain(chain, decoded, hash).state;
  } catch (error) {
    if (error instanceof CommitError) return undefined;
    throw error;
  }
}

function chainOf({ commit }: DecodedCommit): ChainState | undefined {
  try {
    return chainBeforeCheckpoint(commit);
  } catch (error) {
    if (error instanceof CommitError) return undefined;
    throw error;
  }
}
