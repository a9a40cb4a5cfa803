/** Digest authentication against the example of RFC 2617, 3.5, and how challenges are read and chosen. */
import t from 'tap';
import type { Random } from '../../src/base/random.js';
import { HttpAuthentication, parseChallenges } from '../../src/store/http-authentication.js';
import { parseNetrc } from '../../src/store/netrc.js';
import { SeededRandom } from '../suite/seeded-random.js';

const random = new SeededRandom(1);
const authentication = (isProtected = true, password = 'Circle of Life', source: Random = random): HttpAuthentication =>
  new HttpAuthentication({ kind: 'password', user: 'Mufasa', password }, isProtected, source);

t.test('the example of RFC 2617 gets the answer printed there', async (t) => {
  // Its client nonce is "0a4f113b".
  const auth = authentication(true, 'Circle Of Life', { bytes: () => Uint8Array.of(0x0a, 0x4f, 0x11, 0x3b) });
  t.equal(auth.header('GET', '/dir/index.html'), undefined, 'nothing is sent unasked');
  t.ok(
    auth.accept(
      'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41"',
    ),
  );
  const header = auth.header('GET', '/dir/index.html') ?? '';
  t.match(header, /^Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="\/dir\/index.html"/);
  t.match(
    header,
    /response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41", qop=auth, nc=00000001, cnonce="0a4f113b"$/,
  );
});

t.test('a server that does not support a client nonce gets the older form of the answer', async (t) => {
  const auth = authentication();
  t.ok(auth.accept('Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'));
  t.match(auth.header('GET', '/dir/index.html'), /response="2951cdbad33b2271fcb6b8e7b8feac23"$/);
});

t.test('the strongest digest is chosen, and its counter is incremented', async (t) => {
  const auth = authentication(false);
  const sha = 'Digest realm="r", qop="auth, auth-int", algorithm=SHA-256, nonce="n1", opaque="o"';
  t.ok(auth.accept(`Basic realm="r", Digest realm="r", qop="auth", nonce="n0", algorithm=MD5, ${sha}`));
  t.match(auth.header('GET', '/a'), /nonce="n1".*response="[0-9a-f]{64}", algorithm=SHA-256.*nc=00000001/);
  t.match(auth.header('GET', '/a'), /nc=00000002/);
});

t.test('neither a password nor a token is sent in the clear over a network', async (t) => {
  t.notOk(authentication(false).accept('Basic realm="r"'));
  const basic = authentication(true);
  t.ok(basic.accept('Basic realm="r"'));
  t.equal(basic.header('GET', '/'), `Basic ${Buffer.from('Mufasa:Circle of Life').toString('base64')}`);
  const token = { kind: 'bearer', token: 'TOKEN' } as const;
  t.notOk(new HttpAuthentication(token, false, random).accept('Bearer'));
  const bearer = new HttpAuthentication(token, true, random);
  t.notOk(bearer.accept('Basic realm="r"'));
  t.ok(bearer.accept('Basic realm="r", Bearer realm="x", error="invalid_token"'));
  t.equal(bearer.header('GET', '/'), 'Bearer TOKEN');
});

t.test('malformed challenges are ignored', async (t) => {
  t.same(parseChallenges('Digest realm="a \\"b\\", c", nonce=x,, Basic realm="r", Negotiate'), [
    { scheme: 'digest', parameters: { realm: 'a "b", c', nonce: 'x' } },
    { scheme: 'basic', parameters: { realm: 'r' } },
    { scheme: 'negotiate', parameters: {} },
  ]);
  for (const odd of ['', ',,,', '=', '"', 'Digest', 'Digest nonce', 'Digest algorithm=MD9, nonce="x"', '\u0000'])
    t.notOk(authentication().accept(odd), odd);
});

t.test('netrc files are read as other programs read them', async (t) => {
  const text =
    '# home\nmachine a login x password "p q" # mine\nmachine b:8080\n  bearer TOKEN\nmacdef init\ncd /pub\nmachine no login no password no\n\ndefault login guest password none\n';
  t.same(parseNetrc(text), [
    { machine: 'a', login: 'x', password: 'p q' },
    { machine: 'b:8080', bearer: 'TOKEN' },
    { machine: undefined, login: 'guest', password: 'none' },
  ]);
});
