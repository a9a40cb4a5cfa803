/**
 * Where most bytes are encrypted and decrypted: by Node.js on this thread, or by the native addon, in batches on the
 * thread pool and at once. It sees keys that serve one object each, and of formats only the stream of segments
 * (seal-format.ts, stream-format.ts).
 */
import { totalLength } from '../base/bytes.js';
import { type DecryptInto, decryptInto, encryptInto } from './node-aead.js';
import { openStream, type StreamOpening, type StreamSealing, sealStream } from './node-stream.js';
import { type Sealing, sealNonce, tagLength } from './seal-format.js';

/** One message to encrypt: `parts` side by side. */
export interface BulkMessage extends Sealing {
  readonly parts: readonly Uint8Array[];
}

export interface BulkCipher {
  /**
   * Borrows everything, and owns `target` and the hashes, until it settles. Messages with hashes are sealed as streams.
   */
  encrypt(messages: readonly (BulkMessage | StreamSealing)[], target: Uint8Array): Promise<void>;
  readonly decryptInto: DecryptInto;
  /** Opens segments at once. False when they are not authentic: then nothing of them is in the target. */
  openStream(opening: StreamOpening): boolean;
  /** The same for each of `openings`, which are borrowed until it settles. */
  openStreams(openings: readonly StreamOpening[]): Promise<readonly boolean[]>;
}

/** This thread does about 1 GB/s: after this many bytes others get their turn on the event loop. */
const sliceBytes = 512 * 1024;

/** Does `work` for each of `items`, and lets others have their turn in between. */
async function inSlices<T>(items: readonly T[], bytesOf: (item: T) => number, work: (item: T) => void): Promise<void> {
  let slice = 0;
  for (const item of items) {
    if (slice > sliceBytes) {
      await new Promise((resolve) => setImmediate(resolve));
      slice = 0;
    }
    slice += bytesOf(item);
    work(item);
  }
}

/** Without the addon. */
export const inlineCipher: BulkCipher = {
  encrypt: (messages, target) =>
    inSlices(
      messages,
      ({ parts }) => totalLength(parts),
      (message) => {
        const { suite, key, aad, parts, at } = message;
        if ('hashes' in message) sealStream(message, target);
        else encryptInto(suite, key, sealNonce, aad, parts, target, at);
      },
    ),
  decryptInto,
  openStream,
  async openStreams(openings) {
    const results: boolean[] = [];
    await inSlices(
      openings,
      ({ segments }) => segments.byteLength,
      (opening) => results.push(openStream(opening)),
    );
    return results;
  },
};

type Fields = readonly (number | Uint8Array | null)[];

/** The addon's part in it; native/src/aead.cc has the fields. */
export interface NativeAead {
  aeadEncrypt(target: Uint8Array, messages: readonly Fields[]): Promise<number>;
  aeadDecrypt(suite: number, key: Uint8Array, aad: Uint8Array, sealed: Uint8Array, target: Uint8Array): boolean;
  streamOpen(suite: number, key: Uint8Array, aad: Uint8Array, hashes: Uint8Array, segments: Uint8Array, first: number, target: Uint8Array): boolean;
  streamOpenAll(openings: readonly Fields[], results: Uint8Array): Promise<number>;
}

/** On the thread pool; what is too small to be worth the trip is done here. */
const pooledMin = 32 * 1024;
/** One job of the pool opens so much, so that several threads share a large read. */
const jobBytes = 512 * 1024;

export function nativeCipher(native: NativeAead): BulkCipher {
  // The pool works on raw memory: what it was given must not be collected meanwhile.
  const held = new Set<object>();
  const hold = async <T extends object>(work: T, run: (work: T) => Promise<number>): Promise<void> => {
    held.add(work);
    try {
      await run(work);
    } finally {
      held.delete(work);
    }
  };
  const open = ({ suite, key, aad, hashes, segments, first, target }: StreamOpening): boolean =>
    native.streamOpen(suite, key, aad, hashes, segments, first, target);
  return {
    async encrypt(messages, target) {
      if (messages.reduce((bytes, { parts }) => bytes + totalLength(parts), 0) < pooledMin) return inlineCipher.encrypt(messages, target);
      const batch = {
        target,
        messages: messages.map((message) => {
          const { suite, at, key, aad, parts } = message;
          return [suite, at, key, aad, 'hashes' in message ? message.hashes : null, ...parts];
        }),
      };
      return hold(batch, () => native.aeadEncrypt(batch.target, batch.messages));
    },
    decryptInto: (suite, key, aad, sealed, target) => sealed.byteLength >= tagLength && native.aeadDecrypt(suite, key, aad, sealed, target),
    openStream: open,
    async openStreams(openings) {
      if (openings.reduce((bytes, { segments }) => bytes + segments.byteLength, 0) < pooledMin) return openings.map(open);
      const results = new Uint8Array(openings.length);
      await Promise.all(
        jobsOf(openings).map(([from, to]) => {
          const job = {
            openings: openings
              .slice(from, to)
              .map(({ suite, key, aad, hashes, segments, first, target }) => [suite, key, aad, hashes, segments, first, target]),
            results: results.subarray(from, to),
          };
          return hold(job, () => native.streamOpenAll(job.openings, job.results));
        }),
      );
      return Array.from(results, (result) => result === 1);
    },
  };
}

/** Ranges of indices. */
function jobsOf(openings: readonly StreamOpening[]): readonly (readonly [from: number, to: number])[] {
  const jobs: [from: number, to: number][] = [];
  let bytes = jobBytes;
  for (const [index, { segments }] of openings.entries()) {
    const job = jobs.at(-1);
    if (!job || bytes >= jobBytes) {
      jobs.push([index, index + 1]);
      bytes = segments.byteLength;
    } else {
      job[1] = index + 1;
      bytes += segments.byteLength;
    }
  }
  return jobs;
}
