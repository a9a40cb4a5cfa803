/** The bytes of a claim, and which names count as claims. */
import t from 'tap';
import { claimKey, claimLength, encodeClaim, listClaims, readClaimTime } from '../../src/access/volume-claim.js';
import type { Sealed } from '../../src/base/brand.js';
import { MemoryStore } from '../../src/store/memory-store.js';

const id = Buffer.from('000102030405060708090a0b0c0d0e0f', 'hex');

t.test('a claim has the bytes of its table', async (t) => {
  const bytes = encodeClaim(id, 0x123456789a);
  t.equal(Buffer.from(bytes).toString('hex'), `5344434c41494d31${id.toString('hex')}9a78563412000000`);
  t.equal(bytes.byteLength, claimLength);
  t.equal(readClaimTime(bytes), 0x123456789a);
});

t.test('what is no claim has no time', async (t) => {
  const bytes = encodeClaim(id, 1);
  for (const wrong of [bytes.subarray(1), Buffer.concat([bytes, bytes]), new Uint8Array(0), Buffer.from(bytes).fill(0xff, 24), Buffer.alloc(32)]) {
    t.equal(readClaimTime(wrong), undefined);
  }
});

t.test('claims are listed by their numbers, without other names', async (t) => {
  const store = new MemoryStore();
  for (const key of ['volume/000a', 'volume/0002', 'volume/2', 'volume/0003/x', 'volume/zzzz', 'volume', 'log/0001']) {
    await store.put(key, Buffer.alloc(1) as Uint8Array as Sealed);
  }
  t.same(await listClaims(store), [2, 10]);
  t.equal(claimKey(1), 'volume/0001');
  t.equal(claimKey(0xffff), 'volume/ffff');
});
