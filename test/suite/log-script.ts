/**
 * A log in memory that a test writes as any author, by the rules or against them: what somebody can do who has all the
 * keys of a volume. The log keeps what everybody with its whole history makes of it.
 */

import type { Sealed } from '../../src/base/brand.js';
import { type ChainState, chainFromGenesis, type Extension, extendChain, nextCommit } from '../../src/commit/chain.js';
import type { CommitDraft } from '../../src/commit/commit.js';
import type { CommitFields } from '../../src/commit/commit-codec.js';
import { workFeatures } from '../../src/commit/features.js';
import { createVolumeLog, type Genesis, openGenesis } from '../../src/commit/genesis.js';
import { openCommit } from '../../src/commit/open-commit.js';
import type { LogRecord } from '../../src/commit/record.js';
import { StoredLog } from '../../src/commit/stored-log.js';
import type { Signer } from '../../src/crypto/signature.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { RootKeys, VolumeKeys } from '../../src/crypto/volume-keys.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { type Author, enrolmentOf, newAuthor, ownerOf, sealCommit } from './commit-author.js';
import { testProgram } from './test-program.js';

const emptyDraft: CommitDraft = {
  wallTimeMs: 5,
  nextInoCounter: 0,
  operationSerial: 0,
  filesDelta: 0,
  bytesDelta: 0,
  packs: [],
  checkpoint: undefined,
  mutations: [],
};

/** Changes to what the author should write by the rules. */
export interface Deviation {
  readonly draft?: Partial<CommitDraft>;
  readonly records?: readonly LogRecord[];
  readonly change?: (fields: CommitFields) => CommitFields;
  readonly signer?: Signer;
}

export class LogScript {
  readonly store = new MemoryStore({ disk: systemDisk });
  readonly stored: StoredLog;
  readonly keys: VolumeKeys;
  readonly genesis: Genesis;
  readonly rootSecret: Uint8Array;
  readonly ownerSeed: Uint8Array;
  readonly owner: Author;
  /** What the whole history comes to. */
  state: ChainState;
  /** The numbers of the commits that count, ascending. */
  readonly counting: number[] = [];
  /** The numbers of those among them that are checkpoints. */
  readonly checkpoints: number[] = [];

  private constructor(store: MemoryStore, rootSecret: Uint8Array, genesis: Genesis, ownerSeed: Uint8Array) {
    const root = new RootKeys(new Uint8Array(rootSecret), systemRandom);
    this.store = store;
    this.genesis = genesis;
    this.rootSecret = rootSecret;
    this.ownerSeed = ownerSeed;
    this.keys = new VolumeKeys({ root, volumeId: genesis.volumeId, suite: genesis.suite, random: systemRandom });
    this.stored = new StoredLog(store, root);
    this.owner = ownerOf(ownerSeed);
    this.state = chainFromGenesis(genesis.volumeId, genesis);
  }

  static async begin(): Promise<LogScript> {
    const store = new MemoryStore({ disk: systemDisk });
    const rootSecret = systemRandom.bytes(32);
    const root = new RootKeys(new Uint8Array(rootSecret), systemRandom);
    const ownerSeed = systemRandom.bytes(32);
    const constants = { createdMs: 1, chunkSize: 65_536, suite: 1, program: testProgram } as const;
    const rest = { random: systemRandom, makeSlots: () => Promise.resolve([]), mutations: [], filesDelta: 1, features: workFeatures };
    const { volumeId } = await createVolumeLog({ store, root, ownerSeed, ...constants, ...rest });
    const sealed = await new StoredLog(store, root).fetch(0);
    if (!sealed) throw new Error('a volume has a genesis');
    const script = new LogScript(store, rootSecret, openGenesis(root, sealed, volumeId), ownerSeed);
    await script.#read();
    return script;
  }

  /** What `author` writes next. */
  fieldsOf(author: Author, { draft = {}, records = [], change = (fields) => fields }: Deviation = {}): CommitFields {
    const own = this.state.log.members[author.index - 1];
    const counters = { nextInoCounter: own?.nextInoCounter ?? 0, operationSerial: own?.operationSerial ?? 0 };
    return change(nextCommit(this.state, author.id, testProgram, { ...emptyDraft, ...counters, ...draft }, records));
  }

  /** Appends a commit. */
  write(author: Author, deviation: Deviation = {}): Promise<Extension> {
    return this.append(sealCommit(this.keys, this.fieldsOf(author, deviation), deviation.signer ?? author.signer));
  }

  /** Appends any bytes that open. */
  async append(sealed: Sealed): Promise<Extension> {
    if (!(await this.stored.put(this.state.head.sequence + 1, sealed))) throw new Error('the number is free');
    return this.#read();
  }

  /** A checkpoint by the rules. */
  checkpoint(author: Author, covers = this.state.head.sequence, deviation: Deviation = {}): Promise<Extension> {
    const checkpoint = { root: undefined, covers, files: 1, bytes: 0 };
    return this.write(author, { ...deviation, draft: { ...deviation.draft, checkpoint } });
  }

  /** Enrols somebody new with a certificate of `admitter`. */
  async admit(admitter: Author, role: 'admin' | 'writer' | 'reader'): Promise<Author> {
    const author = newAuthor(this.state.log.members.length + 1);
    await this.write(author, { records: [{ type: 'admission', enrolment: enrolmentOf(author, admitter, this.keys.volumeId, role) }] });
    return author;
  }

  /** Takes in the commit after the head. */
  async #read(): Promise<Extension> {
    const extension = await this.extend(this.state);
    if (!extension) throw new Error('there is a commit');
    this.state = extension.state;
    if (extension.commit) this.counting.push(extension.commit.sequence);
    if (extension.commit?.checkpoint) this.checkpoints.push(extension.commit.sequence);
    return extension;
  }

  /** What a reader that has come to `state` makes of the next commit; `undefined` at the end. */
  async extend(state: ChainState): Promise<Extension | undefined> {
    const sequence = state.head.sequence + 1;
    const sealed = await this.stored.fetch(sequence);
    return sealed && extendChain(state, openCommit(this.keys, sealed, sequence, state.head.hash));
  }

  /** The end that a reader comes to who begins at `state`. */
  async follow(state: ChainState): Promise<ChainState> {
    for (let at = state; ; ) {
      const extension = await this.extend(at);
      if (!extension) return at;
      at = extension.state;
    }
  }
}
