import t from 'tap';
import { canonicalUrl } from '../../src/store/canonical-location.js';

/** Each line holds spellings of one location. */
const places: readonly (readonly string[])[] = [
  [
    'https://example.org/volume',
    'https://EXAMPLE.org/volume/',
    'https://example.org:443//volume',
    'https://example.org./vol%75me?ca=/etc/ca.pem',
    'https://example.org/other/../volume?token-file=/home/me/token&ca=/x',
    'HTTPS://example.org/volume',
  ],
  ['https://example.org:444/volume'],
  ['https://example.org/Volume'],
  ['https://example.org/volume/below'],
  ['http://localhost:8080/v', 'http://LOCALHOST:8080/v/'],
  ['webdav+https://example.org/dav/a%20b', 'webdav+https://Example.ORG:443/dav/a b/', 'webdav+https://example.org./dav//%61%20b?ca=/x'],
  ['webdav+https://me@example.org/dav/a%20b', 'webdav+https://m%65@example.org/dav/a%20b'],
  ['webdav+http://example.org/dav', 'webdav+http://example.org:80/dav/'],
  ['sftp://me@host/path', 'sftp://me@HOST:22/path/?key=/k&known_hosts=/h', 'sftp://me@host//path?known_hosts=/h&key=/k'],
  ['sftp://me@host:2222/path'],
  ['sftp://you@host/path'],
  ['sftp://me@[2001:db8::1]/path', 'sftp://me@[2001:DB8:0::1]:22/path'],
  [
    's3://bucket/prefix?endpoint=https://s3.example.org&region=eu',
    's3://bucket/prefix/?region=us&style=path&endpoint=https://S3.example.org:443/',
    's3://bucket/%70refix?endpoint=https%3A%2F%2Fs3.example.org&ca=/x',
  ],
  ['s3://bucket/prefix?endpoint=https://s3.example.org/storage/v1/s3', 's3://bucket/prefix?endpoint=https://s3.example.org/storage/v1/s3/'],
  [
    's3://bucket/prefix',
    's3://bucket/prefix/?region=eu-central-1',
    's3://bucket/prefix?endpoint=https://s3.eu-central-1.amazonaws.com',
    's3://bucket//prefix?style=virtual',
  ],
  ['s3://Bucket/prefix'],
  ['s3://bucket/prefix?profile=work'],
];

t.test('one location has one spelling, and two locations have two', (t) => {
  const seen = new Map<string, number>();
  for (const [index, spellings] of places.entries()) {
    const found = new Set(spellings.map(canonicalUrl));
    t.equal(found.size, 1, `${[...found].join(' ')} of ${spellings.join(' ')}`);
    const [one = ''] = [...found];
    t.notOk(seen.has(one), `${spellings[0]} is not the place ${seen.get(one)}`);
    seen.set(one, index);
  }
  t.end();
});

t.test('paths and malformed text are not taken for URLs', (t) => {
  for (const text of ['/path', './a', 'dir:/path', 'file:///path', 'https://', 'nonsense', 'https://exa mple/'])
    t.equal(canonicalUrl(text), undefined, text);
  t.end();
});
