/**
 * The work of bench/scale.ts that must be done in a process of its own, with plain blocking calls. It prints its
 * progress as lines of JSON.
 *
 *   node dist/bench/scale-work.js tree|flat|sparse DIRECTORY COUNT
 */
import { closeSync, fstatSync, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const [work = '', directory = '', countText = '0'] = process.argv.slice(2);
const count = Number(countText);
const filesPerDirectory = 1000;
const directoriesPerGroup = 50;
const reportEvery = 100_000;

const say = (fact: object): void => void process.stdout.write(`${JSON.stringify(fact)}\n`);

function createAll(pathOf: (index: number) => string): void {
  const content = Buffer.from('a few words, as many small files hold them');
  let [began, reported] = [performance.now(), 0];
  for (let index = 0; index < count; index++) {
    const fd = openSync(pathOf(index), 'wx');
    writeSync(fd, content);
    closeSync(fd);
    if (index + 1 - reported === reportEvery || index + 1 === count) {
      say({ made: index + 1, perSecond: Math.round(((index + 1 - reported) * 1000) / (performance.now() - began)) });
      [began, reported] = [performance.now(), index + 1];
    }
  }
}

const works: Readonly<Record<string, () => void>> = {
  /** COUNT files, a thousand to a folder, in groups of fifty folders. */
  tree() {
    createAll((index) => {
      const group = join(directory, `group ${Math.floor(index / filesPerDirectory / directoriesPerGroup)}`);
      const folder = join(group, `folder ${Math.floor(index / filesPerDirectory)}`);
      if (index % (filesPerDirectory * directoriesPerGroup) === 0) mkdirSync(group, { recursive: true });
      if (index % filesPerDirectory === 0) mkdirSync(folder);
      return join(folder, `document-${index}.txt`);
    });
  },
  /** COUNT files in one folder. */
  flat() {
    mkdirSync(directory);
    createAll((index) => join(directory, `entry-${index}`));
  },
  /** A file of COUNT bytes with a few stamps, read back. */
  sparse() {
    const fd = openSync(join(directory, 'sparse'), 'w+');
    ftruncateSync(fd, count);
    const places = Array.from({ length: 64 }, (_, index) => Math.floor(((count - 8) / 63) * index));
    const stamp = Buffer.alloc(8);
    for (const place of places) {
      stamp.writeDoubleLE(place);
      writeSync(fd, stamp, 0, 8, place);
    }
    const found = Buffer.alloc(8);
    for (const place of places) {
      readSync(fd, found, 0, 8, place);
      if (found.readDoubleLE() !== place) throw new Error(`the stamp at ${place} is gone`);
    }
    const { size, blocks } = fstatSync(fd);
    closeSync(fd);
    if (size !== count) throw new Error(`the file has ${size} bytes, not ${count}`);
    say({ size, stored: blocks * 512 });
  },
};

const chosen = works[work];
if (chosen === undefined) throw new Error(`no work named ${work}; there is ${Object.keys(works).join(', ')}`);
chosen();
