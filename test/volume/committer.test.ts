/**
 * Tests the background half of a volume (src/volume/committer.ts): the order of the steps of a commit, and the state
 * that each failure leaves.
 */
import t from 'tap';
import { createLogger } from '../../src/base/logger.js';
import type { Commit, CommitDraft } from '../../src/commit/commit.js';
import { CommitError } from '../../src/commit/commit-error.js';
import type { CommitLog } from '../../src/commit/commit-log.js';
import type { Journal } from '../../src/journal/journal.js';
import { makeIno } from '../../src/meta/key.js';
import type { PackId } from '../../src/pack/pack-id.js';
import { StoreError } from '../../src/store/object-store.js';
import { TreeReader } from '../../src/tree/tree-reader.js';
import { Committer, type CommitterOptions } from '../../src/volume/committer.js';
import type { ContentWriter } from '../../src/volume/content-writer.js';
import { FrontEnds } from '../../src/volume/front-ends.js';
import { decodeJournalEntry } from '../../src/volume/journal-entry.js';
import { localPace } from '../../src/volume/log-watch.js';
import type { PendingOperation } from '../../src/volume/pending-layers.js';
import type { Staging } from '../../src/volume/staging.js';
import { commitOf, createFile, emptyState, hasName, otherDevice, ownDevice, rebaseContextOf, run } from '../suite/memory-state.js';
import { PageStore } from '../suite/page-store.js';
import { StepClock } from '../suite/step-clock.js';

/** Members that the real class has too. */
type Named<Real> = { readonly [Name in keyof Real]?: unknown };

/** A committer with a fake log, journal and packs. `said` records the calls to them, in order. */
function begin(options: Partial<CommitterOptions> = {}) {
  const state = emptyState();
  const said: string[] = [];
  const drafts: CommitDraft[] = [];
  const arrivals: Commit[][] = [];
  const counters = { deviceIndex: ownDevice, nextIno: 100, serial: 0 };
  const pages = new PageStore();
  const logger = createLogger(() => {}, 'error');
  const head = { sequence: 0, hash: new Uint8Array(32) };
  const own = { operationSerial: 0 };
  const scene = {
    put: async (draft: CommitDraft): Promise<'lost' | Commit> => {
      head.sequence++;
      own.operationSerial = draft.operationSerial;
      return { ...draft, sequence: head.sequence, deviceId: 'me' } as unknown as Commit;
    },
    upload: async (): Promise<void> => {},
    seal: async (): Promise<void> => {},
  };
  const committer: Committer = new Committer({
    state,
    log: {
      deviceId: 'me',
      deviceIndex: ownDevice,
      mustEnrol: false,
      landedSerial: 0,
      members: [],
      head,
      own,
      hasLostWork: false,
      landedOfOthers: new Map(),
      isSettled: ({ serial }: PendingOperation) => serial <= own.operationSerial,
      nextKey: () => 'log/next',
      signOfLifeMs: () => undefined,
      checkAroundHead: async () => {},
      removeCopies: async () => {},
      poll: async () => {
        said.push('poll');
        const commits = arrivals.shift() ?? [];
        head.sequence += commits.length;
        for (const commit of commits) if (commit.author === 'me') own.operationSerial = commit.operationSerial;
        return commits;
      },
      put: async (draft: CommitDraft) => {
        said.push(draft.checkpoint ? 'put checkpoint' : 'put');
        drafts.push(draft);
        return scene.put(draft);
      },
    } satisfies Named<CommitLog>,
    journal: {
      failure: undefined,
      end: 7,
      append: (bytes: Uint8Array) => said.push(decodeJournalEntry(bytes).type),
      appendBatch: (entries: readonly Uint8Array[]) => entries.forEach((bytes) => said.push(decodeJournalEntry(bytes).type)),
      sync: async () => said.push('sync'),
      trim: async (cut: number) => said.push(`trim ${cut}`),
    } satisfies Named<Journal>,
    staging: {
      namelessPacks: [],
      upload: async () => {
        said.push('upload');
        await scene.upload();
        said.push('uploaded');
        return [];
      },
      appendPage: pages.appendPage.bind(pages),
      committed: () => {},
      release: async () => {},
      areStored: () => true,
      taken: new Set<PackId>(),
      waiting: [],
      meet: async () => {},
      sync: async () => said.push('sync packs'),
    } satisfies Named<Staging>,
    writer: {
      bytes: 0,
      inos: () => [].values(),
      sealAll: async () => {
        said.push('seal');
        await scene.seal();
      },
      persistAll: async () => said.push('persist'),
    } satisfies Named<ContentWriter>,
    tree: new TreeReader(pages),
    counters,
    clock: new StepClock(),
    logger,
    readOnly: false,
    commitDelayMs: 1000,
    store: {},
    pace: localPace,
    heartbeatMs: Infinity,
    foldBounds: { entries: 1e9, bytes: 1e9 },
    isOffline: () => false,
    rebaseContext: () => rebaseContextOf(state, counters),
    frontEnds: new FrontEnds(logger),
    onRound: () => {},
    ...options,
  } as unknown as CommitterOptions);
  const create = (name: string): void => run(state, ++counters.serial, createFile(name, makeIno(ownDevice, ++counters.nextIno)));
  return { state, said, drafts, arrivals, scene, create, committer };
}

const theirs = commitOf(1, 'other', [createFile('theirs', makeIno(otherDevice, 5))], true);
const noAnswer = new StoreError('UNAVAILABLE', 'no answer');

t.test('a commit is put after its packs, and the journal drops only what is in the log', async (t) => {
  const { state, said, create, committer } = begin();
  create('mine');
  await committer.flush();
  // The first sync: the content of the commit cannot be lost here any more, so its inode numbers are not given out
  // again.
  t.strictSame(said, ['seal', 'upload', 'sync', 'uploaded', 'put', 'base', 'sync', 'trim 7']);
  t.equal(state.operationCount, 0);
});

t.test('after losing the race, a commit is retried with the same operations on top of the winner', async (t) => {
  const { state, said, drafts, arrivals, scene, create, committer } = begin();
  create('mine');
  const put = scene.put;
  scene.put = async () => {
    scene.put = put;
    arrivals.push([theirs]);
    create('meanwhile');
    return 'lost';
  };
  await committer.flush();
  t.equal(said.filter((what) => what === 'upload').length, 1, 'nothing is uploaded between the two puts');
  t.equal(drafts.length, 2);
  t.strictSame([hasName(state, 'mine'), hasName(state, 'theirs'), state.operationCount], [true, true, 1]);
  t.equal(drafts[1]?.operationSerial, drafts[0]?.operationSerial, 'operations that are run again keep their serials');
});

t.test('operations stay pending and are put again if a put got no answer', async (t) => {
  const { state, drafts, scene, create, committer } = begin();
  create('mine');
  const put = scene.put;
  scene.put = () => Promise.reject(noAnswer);
  await t.rejects(committer.flush(), noAnswer);
  t.strictSame([state.operationCount, state.flyingOperations.length], [1, 0]);
  scene.put = put;
  await committer.flush();
  t.strictSame([state.operationCount, drafts.length], [0, 2]);
});

t.test('a commit that reached the log without an answer is not put again', async (t) => {
  const { state, drafts, arrivals, scene, create, committer } = begin();
  create('mine');
  scene.put = () => Promise.reject(noAnswer);
  await t.rejects(committer.flush(), noAnswer);
  const [draft] = drafts;
  arrivals.push([{ ...theirs, ...draft, deviceId: 'me' } as unknown as Commit]);
  await committer.poll();
  t.ok(hasName(state, 'mine'));
  await committer.flush();
  t.strictSame([state.operationCount, drafts.length], [0, 1]);
});

t.test('nothing is committed if an upload fails', async (t) => {
  const { state, said, scene, create, committer } = begin();
  create('mine');
  scene.upload = () => Promise.reject(noAnswer);
  await t.rejects(committer.flush(), noAnswer);
  t.notOk(said.includes('put'));
  t.equal(state.operationCount, 1);
});

t.test('a history that does not fit stops the volume for good', async (t) => {
  const { said, scene, create, committer } = begin();
  create('mine');
  scene.put = () => Promise.reject(new CommitError('ROLLBACK', 'an older history'));
  await t.rejects(committer.flush(), { code: 'FENCED' });
  t.equal(committer.failure?.code, 'FENCED');
  said.length = 0;
  await t.rejects(committer.flush(), { code: 'FENCED' });
  t.strictSame(said, [], 'nothing is retried');
});

t.test('while offline, pending operations are synced to the local disk and nothing is put', async (t) => {
  const { said, create, committer } = begin({ isOffline: () => true });
  create('mine');
  await t.rejects(committer.flush(), { code: 'UNAVAILABLE' });
  t.strictSame(said, ['persist', 'sync packs', 'sync']);
});

t.test('a checkpoint holds all committed changes and is put after its pages', async (t) => {
  const { state, said, create, committer } = begin({ foldBounds: { entries: 0, bytes: 0 } });
  create('mine');
  await committer.flush();
  t.strictSame(said.slice(said.indexOf('trim 7') + 1, said.indexOf('put checkpoint') + 1), ['upload', 'uploaded', 'put checkpoint']);
  t.equal(state.committed.count, 0);
  t.ok(state.root);
});

t.test('if a checkpoint cannot be put, the next one holds its changes', async (t) => {
  const { state, scene, create, committer } = begin({ foldBounds: { entries: 0, bytes: 0 } });
  create('mine');
  const put = scene.put;
  scene.put = (draft) => (draft.checkpoint ? Promise.reject(noAnswer) : put(draft));
  await t.rejects(committer.flush(), noAnswer);
  t.ok(state.committed.count > 0);
  t.ok(hasName(state, 'mine'));
  scene.put = put;
  await committer.flush();
  t.equal(state.committed.count, 0);
});

t.test('nothing is put if sealing fails, and the next flush retries', async (t) => {
  const { state, said, scene, create, committer } = begin();
  create('mine');
  scene.seal = () => Promise.reject(new Error('the disk is full'));
  await t.rejects(committer.flush(), { message: 'the disk is full' });
  t.strictSame(said, ['seal']);
  scene.seal = async () => {};
  await committer.flush();
  t.equal(state.operationCount, 0);
});
