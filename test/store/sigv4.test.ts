/**
 * The test vectors that Amazon publishes: "Examples: Signature Calculations" of the Amazon S3 API Reference, and the
 * Signature Version 4 test suite.
 */
import t from 'tap';
import { sha256Hex } from '../../src/store/request-digest.js';
import type { SignableRequest } from '../../src/store/sigv4.js';
import { encodeQuery, signRequest, unsignedPayload } from '../../src/store/sigv4.js';

const timeSec = Date.UTC(2013, 4, 24) / 1000;
const credentials = { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY' };
const host = 'examplebucket.s3.amazonaws.com';
const empty = sha256Hex('');

function signatureOf(request: Omit<SignableRequest, 'method'> & { readonly method?: string }): string | undefined {
  const headers = signRequest({ method: 'GET', ...request }, { credentials, region: 'us-east-1', service: 's3', timeSec });
  return /Signature=([0-9a-f]{64})$/.exec(headers['authorization'] ?? '')?.[1];
}

t.test('the examples of the S3 reference get the signatures printed there', async (t) => {
  const sha = { 'x-amz-content-sha256': empty };
  t.equal(
    signatureOf({ path: '/test.txt', query: [], headers: { host, range: 'bytes=0-9', ...sha }, payloadHash: empty }),
    'f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41',
  );
  const payloadHash = sha256Hex('Welcome to Amazon S3.');
  t.equal(
    signatureOf({
      method: 'PUT',
      path: '/test%24file.text',
      query: [],
      headers: { host, date: 'Fri, 24 May 2013 00:00:00 GMT', 'x-amz-storage-class': 'REDUCED_REDUNDANCY', 'x-amz-content-sha256': payloadHash },
      payloadHash,
    }),
    '98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd',
  );
  t.equal(
    signatureOf({ path: '/', query: [['lifecycle', '']], headers: { host, ...sha }, payloadHash: empty }),
    'fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543',
  );
  const query = [
    ['prefix', 'J'],
    ['max-keys', '2'],
  ] as const;
  t.equal(
    signatureOf({ path: '/', query, headers: { host, ...sha }, payloadHash: empty }),
    '34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7',
  );
});

t.test('the simplest case of the AWS test suite gets the signature given there', async (t) => {
  const headers = signRequest(
    { method: 'GET', path: '/', query: [], headers: { host: 'example.amazonaws.com' }, payloadHash: empty },
    {
      credentials: { accessKeyId: 'AKIDEXAMPLE', secretAccessKey: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY' },
      region: 'us-east-1',
      service: 'service',
      timeSec: Date.UTC(2015, 7, 30, 12, 36) / 1000,
    },
  );
  t.match(headers['authorization'], /Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31$/);
  t.equal(headers['x-amz-date'], '20150830T123600Z');
});

t.test('a session token is signed too, and the secret is never sent', async (t) => {
  const headers = signRequest(
    { method: 'PUT', path: '/x', query: [], headers: { host }, payloadHash: unsignedPayload },
    { credentials: { ...credentials, sessionToken: 'TOKEN' }, region: 'eu-west-1', service: 's3', timeSec },
  );
  t.equal(headers['x-amz-security-token'], 'TOKEN');
  t.match(headers['authorization'], /SignedHeaders=host;x-amz-date;x-amz-security-token,/);
  t.notMatch(JSON.stringify(headers), /EXAMPLEKEY/);
});

t.test('a query is sent as it is signed, in order and with all but unreserved bytes encoded', async (t) => {
  const query = [
    ['prefix', "a b/c'(*)~+ü"],
    ['delete', ''],
    ['prefix', '!'],
  ] as const;
  t.equal(encodeQuery(query), 'delete=&prefix=%21&prefix=a%20b%2Fc%27%28%2A%29~%2B%C3%BC');
});
