/**
 * S3 credentials from AWS services, which servers on loopback play. Each test sets environment variables of this
 * process, since the package reads no others.
 */
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { openAwsProvider } from '../../src/store/aws-provider.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { openStore } from '../../src/store/open-store.js';
import { CredentialSource } from '../../src/store/s3-credentials.js';
import { ManualClock } from '../suite/manual-clock.js';
import { sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { complain, ScriptedBucket } from '../support/scripted-bucket.js';
import type { Script } from '../support/scripted-server.js';
import { ScriptedServer } from '../support/scripted-server.js';

type Test = Pick<typeof t, 'teardown'>;

const seed = testSeed();
t.comment(`TEST_SEED=${seed}`);
const before = { ...process.env };

interface Place {
  readonly home: string;
  /** The keys that requests to the bucket were signed with, without consecutive duplicates. */
  readonly signers: string[];
  /** The keys that the bucket accepts; empty for all. */
  readonly taken: Set<string>;
  write(name: string, text: string): Promise<string>;
  open(parameters?: string): Promise<ObjectStore>;
}

/** A home without credentials and a bucket that records the signing keys; `variables` are the only AWS variables. */
async function makePlace(t: Test, variables: Readonly<Record<string, string>> = {}): Promise<Place> {
  const home = await scratchDirectory(t);
  for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
  Object.assign(process.env, { HOME: home, AWS_EC2_METADATA_DISABLED: 'true' }, variables);
  t.teardown(() => Object.assign(process.env, before));
  const bucket = new ScriptedBucket();
  const [signers, taken]: [string[], Set<string>] = [[], new Set()];
  bucket.faults = ({ headers }, answer) => {
    const signer = /Credential=([^/]+)\//.exec(headers.authorization ?? '')?.[1] ?? '';
    const token = String(headers['x-amz-security-token'] ?? '');
    if (signers.at(-1) !== `${signer} ${token}`) signers.push(`${signer} ${token}`);
    if (taken.size === 0 || taken.has(signer)) return false;
    complain(answer, 400, 'ExpiredToken');
    return true;
  };
  const server = await bucket.start();
  t.teardown(() => server.stop());
  await mkdir(join(home, '.aws', 'sso', 'cache'), { recursive: true });
  return {
    home,
    signers,
    taken,
    async write(name, text) {
      const path = join(home, name);
      await writeFile(path, text);
      return path;
    },
    async open(parameters = '') {
      const location = `s3://bucket?endpoint=${server.origin}${parameters}`;
      const store = await openStore(location, { disk: systemDisk, random: new SeededRandom(seed), env: process.env });
      t.teardown(() => store.close());
      return store;
    },
  };
}

async function serve(t: Test, script: Script): Promise<string> {
  const server = await ScriptedServer.start(script);
  t.teardown(() => server.stop());
  return server.origin;
}

const handedOut = (key: string, lifeMs = 3600_000): Record<string, string> => ({
  AccessKeyId: key,
  SecretAccessKey: 'HIDDEN',
  Token: `token-${key}`,
  Expiration: new Date(Date.now() + lifeMs).toISOString(),
});

const stsAnswer = (action: string, key: string): string => {
  const { AccessKeyId, SecretAccessKey, Token, Expiration } = handedOut(key);
  return `<${action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><${action}Result><Credentials><AccessKeyId>${AccessKeyId}</AccessKeyId><SecretAccessKey>${SecretAccessKey}</SecretAccessKey><SessionToken>${Token}</SessionToken><Expiration>${Expiration}</Expiration></Credentials><AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser></${action}Result><ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></${action}Response>`;
};

const json = (answer: Parameters<Script>[1], value: unknown): void =>
  void answer.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value));

t.test('the role of an instance is used, and its credentials are renewed before they end', async (t) => {
  let asked = 0;
  const origin = await serve(t, ({ method, target }, answer) => {
    if (method === 'PUT' && target === '/latest/api/token') answer.writeHead(200, { 'x-aws-ec2-metadata-token-ttl-seconds': '600' }).end('session');
    else if (/security-credentials\/?$/.test(target)) answer.writeHead(200).end('role');
    else if (target.endsWith('security-credentials/role')) {
      asked++;
      json(answer, {
        Code: 'Success',
        Type: 'AWS-HMAC',
        LastUpdated: new Date().toISOString(),
        ...handedOut(`ROLE${asked}`, asked === 1 ? 120_000 : 3600_000),
      });
    } else answer.writeHead(404).end();
  });
  const place = await makePlace(t, { AWS_EC2_METADATA_DISABLED: 'false', AWS_EC2_METADATA_SERVICE_ENDPOINT: origin });
  await t.rejects(place.open(), { code: 'DENIED', message: /no S3 credentials.*credentials=aws/ }, 'nobody is asked without being named');
  const store = await place.open('&credentials=aws');
  t.equal(asked, 0, 'opening makes no request');
  t.equal(await store.put('keys/a', sealedText('a')), 'created');
  t.equal(place.signers[0], 'ROLE1 token-ROLE1');
  // The first ones are valid for two more minutes, and are used while others are fetched.
  while (place.signers.length === 1) await store.head('keys/a');
  t.same(place.signers, ['ROLE1 token-ROLE1', 'ROLE2 token-ROLE2']);
  t.equal(asked, 2);
});

t.test('the role of a container is used when its variables are set', async (t) => {
  let token: string | undefined;
  const origin = await serve(t, ({ headers }, answer) => {
    token = headers.authorization;
    json(answer, handedOut('CONTAINER'));
  });
  const place = await makePlace(t, {
    AWS_CONTAINER_CREDENTIALS_FULL_URI: `${origin}/credentials`,
    AWS_CONTAINER_AUTHORIZATION_TOKEN: 'container-token',
  });
  await (await place.open()).put('keys/a', sealedText('a'));
  t.same(place.signers, ['CONTAINER token-CONTAINER']);
  t.equal(token, 'container-token');
});

t.test('web identities and assumed roles get their credentials from STS', async (t) => {
  const actions: string[] = [];
  const origin = await serve(t, ({ body }, answer) => {
    const action = new URLSearchParams(body.toString()).get('Action') ?? '';
    actions.push(action);
    answer.writeHead(200, { 'content-type': 'text/xml' }).end(stsAnswer(action, action.toUpperCase()));
  });
  const place = await makePlace(t, { AWS_ENDPOINT_URL_STS: origin, AWS_REGION: 'eu-central-1', AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/r' });
  process.env['AWS_WEB_IDENTITY_TOKEN_FILE'] = await place.write('identity', 'signed-identity');
  await (await place.open()).put('keys/a', sealedText('a'));
  t.same(place.signers, ['ASSUMEROLEWITHWEBIDENTITY token-ASSUMEROLEWITHWEBIDENTITY']);
  await place.write('.aws/config', '[profile work]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n');
  await place.write('.aws/credentials', '[base]\naws_access_key_id = BASE\naws_secret_access_key = HIDDEN\n');
  await (await place.open('&profile=work')).put('keys/b', sealedText('b'));
  t.equal(place.signers.at(-1), 'ASSUMEROLE token-ASSUMEROLE');
  await (await place.open('&profile=base')).put('keys/c', sealedText('c'));
  t.equal(place.signers.at(-1), 'BASE ', 'keys need nobody');
  t.same(actions, ['AssumeRoleWithWebIdentity', 'AssumeRole']);
});

t.test('SSO and the program of a profile supply credentials, and their errors are one line', async (t) => {
  const origin = await serve(t, (_, answer) =>
    json(answer, {
      roleCredentials: { accessKeyId: 'SSO', secretAccessKey: 'HIDDEN', sessionToken: 'token-SSO', expiration: Date.now() + 3600_000 },
    }),
  );
  const place = await makePlace(t, { AWS_ENDPOINT_URL_SSO: origin });
  const program = `${process.execPath} -e "console.log(JSON.stringify({Version:1,AccessKeyId:'PROGRAM',SecretAccessKey:'HIDDEN'}))"`;
  await place.write(
    '.aws/config',
    `[profile sso]\nsso_session = s\nsso_account_id = 123456789012\nsso_role_name = r\n[sso-session s]\nsso_region = us-east-1\nsso_start_url = https://start.invalid\n` +
      `[profile program]\ncredential_process = ${program}\n[profile broken]\ncredential_process = false --password=HIDDEN\n`,
  );
  const cache = `.aws/sso/cache/${createHash('sha1').update('s').digest('hex')}.json`;
  await t.rejects((await place.open('&profile=sso')).get('keys/a'), { code: 'DENIED', message: /SSO.*aws sso login/ });
  await place.write(cache, JSON.stringify({ accessToken: 'signed-in', expiresAt: new Date(Date.now() + 3600_000).toISOString() }));
  await (await place.open('&profile=sso')).put('keys/a', sealedText('a'));
  t.same(place.signers, ['SSO token-SSO']);
  await (await place.open('&profile=program')).put('keys/b', sealedText('b'));
  t.equal(place.signers.at(-1), 'PROGRAM ');
  const broken = await (await place.open('&profile=broken')).get('keys/a').catch((error: unknown) => error as Error);
  t.match(broken, { code: 'DENIED', message: /AWS hands out no S3 credentials for profile broken/ });
  t.notMatch(String(broken), /HIDDEN|\n/);
});

t.test('a service that does not answer is distinguished from one that refuses', async (t) => {
  let status = 503;
  const origin = await serve(
    t,
    (_, answer) => void answer.writeHead(status).end('<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>'),
  );
  const place = await makePlace(t, {
    AWS_ENDPOINT_URL_STS: origin,
    AWS_REGION: 'eu-central-1',
    AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/r',
    AWS_MAX_ATTEMPTS: '1',
  });
  process.env['AWS_WEB_IDENTITY_TOKEN_FILE'] = await place.write('identity', 'signed-identity');
  const store = await place.open();
  await t.rejects(store.get('keys/a'), { code: 'UNAVAILABLE', message: /AWS hands out no S3 credentials/ });
  status = 403;
  await t.rejects(store.get('keys/a'), { code: 'DENIED', message: /AWS hands out no S3 credentials/ });
});

t.test('credentials that the store refuses are requested anew', async (t) => {
  let asked = 0;
  const origin = await serve(t, (_, answer) => json(answer, handedOut(`KEY${++asked}`)));
  const place = await makePlace(t, { AWS_CONTAINER_CREDENTIALS_FULL_URI: `${origin}/credentials` });
  place.taken.add('KEY2');
  await (await place.open()).put('keys/a', sealedText('a'));
  t.same(place.signers, ['KEY1 token-KEY1', 'KEY2 token-KEY2']);
});

t.test('a missing package is reported with the way to install it', async (t) => {
  const load = (): Promise<never> => Promise.reject(Object.assign(new Error('Cannot find package'), { code: 'ERR_MODULE_NOT_FOUND' }));
  await t.rejects(openAwsProvider({ region: 'us-east-1', load }), { code: 'DENIED', message: /"npm install @aws-sdk\/credential-provider-node"/ });
  const broken = (): Promise<never> => Promise.reject(new Error('it is damaged'));
  await t.rejects(openAwsProvider({ region: 'us-east-1', load: broken }), { code: 'DENIED', message: /cannot be loaded: it is damaged/ });
});

t.test('credentials close to expiry are used until new ones can be had', async (t) => {
  const clock = new ManualClock();
  const nowMs = clock.now().sec * 1000;
  let isAway = false;
  const source = new CredentialSource(async () => {
    if (isAway) throw new Error('away');
    return { credentials: { accessKeyId: 'KEY', secretAccessKey: 'x', expiresMs: nowMs + 60_000 } };
  }, clock);
  t.equal((await source.current()).accessKeyId, 'KEY');
  isAway = true;
  t.equal((await source.current()).accessKeyId, 'KEY');
  clock.advance(61_000);
  await t.rejects(source.current(), { message: 'away' });
});
