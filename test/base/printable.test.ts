/** Names are printed so that they cannot control a terminal or hide a part, and no two look alike because of it. */
import t from 'tap';
import { printable, printableJson, printableLines, printableText, replaceUnprintable, unicodeValue } from '../../src/base/printable.js';

const rows: readonly (readonly [what: string, name: string, shown: string])[] = [
  ['text', 'Fotos été 写真 🎉', 'Fotos été 写真 🎉'],
  ['an emoji of several characters', '❤️ 👩‍💻 🇩🇪', '❤️ 👩‍💻 🇩🇪'],
  ['a line end', 'a\nb\rc\td', String.raw`a\nb\rc\td`],
  ['a backslash', String.raw`a\nb`, String.raw`a\\nb`],
  ['an escape sequence', '\u001b[31m', String.raw`\x1b[31m`],
  ['NUL and DEL', '\u0000\u007f', String.raw`\x00\x7f`],
  ['C1, which some terminals take for escape sequences', '\u009b31m\u0085', String.raw`\u{9b}31m\u{85}`],
  ['a byte that is no UTF-8', 'a\udc9b\udcff', String.raw`a\x9b\xff`],
  ['another lone surrogate', '\ud800', String.raw`\u{d800}`],
  ['bidirectional overrides', 'a\u202egpj.exe', String.raw`a\u{202e}gpj.exe`],
  ['bidirectional isolates and marks', '\u2066\u2069\u200e\u200f\u061c', String.raw`\u{2066}\u{2069}\u{200e}\u{200f}\u{61c}`],
  ['zero width', 'a\u200bb\u200d\ufeff', String.raw`a\u{200b}b\u{200d}\u{feff}`],
  ['separators of lines and paragraphs', '\u2028\u2029', String.raw`\u{2028}\u{2029}`],
  ['what is never seen', '\u00ad\u034f\u115f\u3164\ufe0f\u{e0041}', String.raw`\u{ad}\u{34f}\u{115f}\u{3164}\u{fe0f}\u{e0041}`],
];

for (const [what, name, shown] of rows) {
  t.test(`a name is printed: ${what}`, async (t) => {
    t.equal(printable(name), shown);
    t.equal(printableText(printable(name)), shown, 'a line that holds it needs nothing more');
    t.equal(JSON.parse(printableJson(name)), name, 'JSON has it exactly');
    // oxlint-disable-next-line no-control-regex
    t.notMatch(printableJson({ name }, 2), /[\p{Cf}\p{Zl}\p{Zp}\p{Cs}\u0000-\u0009\u000b-\u001f\u007f-\u009f]/u, 'and steers nothing');
  });
}

t.test('lines keep their ends where there are several', async (t) => {
  t.equal(printableText('a\nb'), String.raw`a\nb`);
  t.equal(printableLines('a\u001b\nb'), 'a\\x1b\nb');
});

t.test('a name that is not UTF-8 has its bytes beside it in JSON', async (t) => {
  const value = unicodeValue({ path: 'a\udcff', other: 'b', list: ['c', '\udcfe'], deep: [{ name: '\udcfd' }] });
  t.strictSame(value, {
    path: 'a\ufffd',
    pathBase64: Buffer.from([0x61, 0xff]).toString('base64'),
    other: 'b',
    list: ['c', '\ufffd'],
    listBase64: ['Yw==', '/g=='],
    deep: [{ name: '\ufffd', nameBase64: '/Q==' }],
  });
});

t.test('what is made here has a substitute in place of what cannot be printed', async (t) => {
  t.equal(replaceUnprintable('a\u202eb\nc', '_'), 'a_b_c');
});
