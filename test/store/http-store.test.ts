/** The store behind `sealdrive serve`, in front of every kind of base that this machine has; and servers that are none. */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { DirectoryStore } from '../../src/store/directory-store.js';
import { HttpStore } from '../../src/store/http-store.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import type { ObjectStore } from '../../src/store/object-store.js';
import { openStore } from '../../src/store/open-store.js';
import { probeStore } from '../../src/store/probe.js';
import { UploadFolder } from '../../src/server/upload.js';
import { Served } from '../server/served.js';
import { collect, objectStoreSuite, sealedText } from '../suite/object-store-suite.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { writeWhole } from '../suite/whole-file.js';
import { Rgw, skipS3 } from '../support/rgw.js';
import { ScriptedServer } from '../support/scripted-server.js';

const seed = testSeed();
const random = new SeededRandom(seed);
t.comment(`TEST_SEED=${seed}`);
const scratch = await scratchDirectory(t);
let count = 0;

async function folder(): Promise<string> {
  const path = join(scratch, `folder-${count++}`);
  await mkdir(path);
  return path;
}

/** The contract over a server in front of the base that `make` makes. */
function suite(name: string, make: (place: string) => Promise<{ readonly base: ObjectStore; readonly uploads?: string }>): void {
  objectStoreSuite(t, name, async () => {
    const place = await folder();
    const { base, uploads } = await make(place);
    const served = await Served.start({
      base,
      folder: place,
      random,
      ...(uploads === undefined ? {} : { uploads: new UploadFolder(uploads, systemDisk, random) }),
    });
    return {
      store: served.client(await served.token()),
      writeFile: (bytes) => writeWhole(systemDisk, join(place, `file-${count++}`), bytes),
      async remove() {
        t.ok(await served.server.stop(5000), 'nobody was cut off');
        await base.close();
        t.same(
          served.logLines.filter((line) => /"level":"(warn|error)"/.test(line)),
          [],
        );
      },
    };
  });
}

suite('serve on a directory', async (place) => {
  const base = await DirectoryStore.create(join(place, 'base'), { disk: systemDisk, random });
  return { base, uploads: base.temporaryFolder };
});
suite('serve in front of memory', async () => ({ base: new MemoryStore({ disk: systemDisk }) }));

const skip = skipS3();
if (skip === undefined) {
  const rgw = await Rgw.start(await folder());
  t.teardown(() => rgw.stop());
  const credentials = { AWS_ACCESS_KEY_ID: rgw.user.accessKeyId, AWS_SECRET_ACCESS_KEY: rgw.user.secretAccessKey };
  const open = (bucket: string): Promise<ObjectStore> =>
    openStore(`s3://${bucket}/served?endpoint=${rgw.endpoint}`, { disk: systemDisk, random, env: { HOME: scratch, ...credentials } });
  suite('serve in front of S3', async () => {
    const bucket = `served-${count++}`;
    await rgw.makeBucket(bucket);
    return { base: await open(bucket) };
  });
} else t.test('serve in front of S3', { skip }, async () => {});
