/** Tree pages in memory, for tests of the tree alone. It counts requests and can damage its pages. */
import type { Plaintext } from '../../src/base/brand.js';
import { toHex } from '../../src/base/bytes.js';
import { hashBytes } from '../../src/crypto/hash.js';
import { PackError } from '../../src/pack/pack-error.js';
import type { PackId } from '../../src/pack/pack-id.js';
import type { PageReference } from '../../src/pack/page-reference.js';
import type { PageSource } from '../../src/tree/tree-reader.js';
import type { PageSink } from '../../src/tree/tree-writer.js';

export class PageStore implements PageSource, PageSink {
  readonly pages = new Map<string, Uint8Array>();
  reads = 0;
  writes = 0;
  writtenBytes = 0;
  #offset = 0;
  /** When set, the next writes fail with it. */
  failure: Error | undefined;

  async readPage(reference: PageReference): Promise<Plaintext> {
    this.reads++;
    const page = this.pages.get(toHex(reference.hash));
    if (!page) throw new PackError('MISSING', 'no such page');
    return Buffer.from(page) as Uint8Array as Plaintext;
  }

  async appendPage(page: Plaintext): Promise<PageReference> {
    const copy = new Uint8Array(page);
    await new Promise((resolve) => setImmediate(resolve));
    if (this.failure) throw this.failure;
    return this.add(copy);
  }

  /** Puts a page there unchecked. */
  add(page: Uint8Array): PageReference {
    this.writes++;
    this.writtenBytes += page.byteLength;
    const hash = hashBytes(page);
    this.pages.set(toHex(hash), page);
    const reference = { pack: '00112233445566778899aabbccddeeff' as PackId, offset: this.#offset, length: page.byteLength, hash };
    this.#offset += page.byteLength;
    return reference;
  }
}
