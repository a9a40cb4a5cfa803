/**
 * Part of the POSIX suite (posix-suite.ts): which names a folder distinguishes, and the bytes that a name may contain.
 */
import { RawName } from '../mount/posix-probe.js';
import type { It } from './posix-place.js';

export function nameTests(it: It): void {
  it('names of 255 bytes work, of any bytes but slash and NUL', async (t, p) => {
    const every = Buffer.from(Array.from({ length: 255 }, (_, i) => i + 1).map((byte) => (byte === 47 ? 65 : byte)));
    const names = [every, Buffer.alloc(255, 0xff), Buffer.from('ä'.repeat(127) + 'x'), Buffer.alloc(255, 0x20), Buffer.alloc(255, 0x0a)];
    for (const [i, name] of names.entries()) {
      await p.file(new RawName(name), `content ${i}`);
      t.equal(await p.text(new RawName(name)), `content ${i}`);
    }
    t.same(await p.names(), names.map((name) => name.toString('latin1')).toSorted());
    for (const name of names) await p.ok('unlink', new RawName(name));
    t.same(await p.names(), []);
  });
  it('a directory with a name of 255 bytes can be made and renamed', async (t, p) => {
    const [a, b] = [Buffer.alloc(255, 0xe4), Buffer.alloc(255, 0xf6)];
    await p.ok('mkdir', new RawName(a));
    await p.file(new RawName(Buffer.concat([a, Buffer.from('/f')])), 'x');
    await p.ok('rename', new RawName(a), new RawName(b));
    t.equal(await p.text(new RawName(Buffer.concat([b, Buffer.from('/f')]))), 'x');
  });
  it('names differ by case, by normal form and by each byte', async (t, p) => {
    const names = [
      'name',
      'Name',
      'NAME',
      'é',
      'e\u0301',
      'a ',
      'a',
      ' a',
      'a.',
      '...',
      '-rf',
      '*',
      'a\tb',
      '\u{1F600}',
      'con',
      'nul.txt',
      '\\',
      '%41',
      'A',
    ];
    for (const [i, name] of names.entries()) await p.file(name, `${i}`);
    for (const [i, name] of names.entries()) t.equal(await p.text(name), `${i}`);
    t.equal((await p.names()).length, names.length);
  });
  it('a name that is not UTF-8 is not confused with its replacement text', async (t, p) => {
    await p.file(new RawName(Buffer.from([0x61, 0xff])), 'raw');
    await p.file('a\ufffd', 'text');
    t.equal(await p.text(new RawName(Buffer.from([0x61, 0xff]))), 'raw');
    t.equal(await p.text('a\ufffd'), 'text');
    await p.fails('ENOENT', 'stat', new RawName(Buffer.from([0x61, 0xfe])));
  });
}
