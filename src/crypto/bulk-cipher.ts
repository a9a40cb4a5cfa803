/**
 * Where most bytes are encrypted and decrypted: by Node.js on this thread, or by the native addon, which seals in
 * batches on the thread pool and opens at once. It sees keys that serve one message each, and no format
 * (seal-format.ts).
 */
import { type DecryptInto, decryptInto, encryptInto } from './node-aead.js';
import { type Sealing, sealNonce, tagLength } from './seal-format.js';

/** One message to encrypt: `parts` side by side. */
export interface BulkMessage extends Sealing {
  readonly parts: readonly Uint8Array[];
}

export interface BulkCipher {
  /** Borrows everything, and owns `target`, until it settles. */
  encrypt(messages: readonly BulkMessage[], target: Uint8Array): Promise<void>;
  readonly decryptInto: DecryptInto;
}

/** AES-256-GCM does about 1.5 GB/s: after this many bytes others get their turn on the event loop. */
const sliceBytes = 512 * 1024;

/** Without the addon. */
export const inlineCipher: BulkCipher = {
  async encrypt(messages, target) {
    let slice = 0;
    for (const { suite, key, aad, parts, at } of messages) {
      if (slice > sliceBytes) {
        await new Promise((resolve) => setImmediate(resolve));
        slice = 0;
      }
      slice += encryptInto(suite, key, sealNonce, aad, parts, target, at) - at;
    }
  },
  decryptInto,
};

/** The addon's part in it. */
export interface NativeAead {
  aeadEncrypt(target: Uint8Array, messages: readonly (readonly (number | Uint8Array)[])[]): Promise<number>;
  aeadDecrypt(suite: number, key: Uint8Array, aad: Uint8Array, sealed: Uint8Array, target: Uint8Array): boolean;
}

/** On the thread pool; what is too small to be worth the trip is done here. */
export function nativeCipher(native: NativeAead): BulkCipher {
  // The pool works on raw memory: what it was given must not be collected meanwhile.
  const held = new Set<object>();
  return {
    async encrypt(messages, target) {
      let bytes = 0;
      for (const { parts } of messages) for (const part of parts) bytes += part.byteLength;
      if (bytes < 32 * 1024) return inlineCipher.encrypt(messages, target);
      const batch = { target, messages: messages.map(({ suite, at, key, aad, parts }) => [suite, at, key, aad, ...parts]) };
      held.add(batch);
      try {
        await native.aeadEncrypt(batch.target, batch.messages);
      } finally {
        held.delete(batch);
      }
      return undefined;
    },
    decryptInto: (suite, key, aad, sealed, target) => sealed.byteLength >= tagLength && native.aeadDecrypt(suite, key, aad, sealed, target),
  };
}
