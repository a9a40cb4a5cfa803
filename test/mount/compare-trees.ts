/**
 * Compares two trees in everything that a copy must keep: names, kinds, content, modes, owners, modification times in
 * nanoseconds, link targets, hard-link groups, xattrs (with them ACLs) and device numbers. It holds one directory's
 * names at a time and the hard-linked inodes, not the trees. Times of access and change, sizes of directories and inode
 * numbers may differ.
 *
 *   node dist/test/mount/compare-trees.js A B [--max N] [--ignore mtime,owner,xattrs]
 */
import { parseArgs } from 'node:util';
import { Probe, type ProbeAnswer, RawName, statOf } from './posix-probe.js';

export type ComparedProperty = 'mtime' | 'owner' | 'xattrs' | 'mode' | 'links';

export interface CompareOptions {
  /** Stops after this many differences. */
  readonly differenceMax?: number;
  readonly ignore?: readonly ComparedProperty[];
}

export interface Comparison {
  /** Entries in both trees, the roots included. */
  readonly entries: number;
  readonly bytes: number;
  readonly differences: readonly string[];
}

interface Side {
  readonly probe: Probe;
  readonly root: string;
  /** Inode to the first path that had it, for files with several links. */
  readonly linked: Map<string, string>;
}

/** Percent-escaped paths as the probe writes them, which sort and compare like bytes. */
function escaped(root: string, path: string): RawName {
  const bytes = path.replace(/%([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return new RawName(Buffer.concat([Buffer.from(root), Buffer.from(bytes, 'latin1')]));
}

async function namesOf(side: Side, path: string): Promise<string[]> {
  const handle = await side.probe.ok('opendir', escaped(side.root, path));
  const names: string[] = [];
  for (;;) {
    const { entries = [] } = await side.probe.need('readdir', handle, 4096);
    if (entries.length === 0) break;
    for (const { name } of entries) if (name !== '.' && name !== '..') names.push(name);
  }
  await side.probe.ok('closedir', handle);
  return names.toSorted();
}

const kinds: Readonly<Record<number, string>> = {
  0o100000: 'file',
  0o040000: 'directory',
  0o120000: 'symbolic link',
  0o010000: 'fifo',
  0o140000: 'socket',
  0o020000: 'character device',
  0o060000: 'block device',
};

/**
 * Compares two directories. Errors of either side are differences; only a tree that cannot be opened at all rejects.
 */
export async function compareTrees(a: string, b: string, options: CompareOptions = {}): Promise<Comparison> {
  const { differenceMax = 50, ignore = [] } = options;
  const differences: string[] = [];
  let [entries, bytes] = [0, 0];
  const say = (path: string, what: string): void => {
    if (differences.length < differenceMax) differences.push(`${path === '' ? '/' : path}: ${what}`);
  };
  const sides: readonly [Side, Side] = [
    { probe: await Probe.start(), root: a, linked: new Map() },
    { probe: await Probe.start(), root: b, linked: new Map() },
  ];

  const firstOf = (side: Side, path: string, answer: ProbeAnswer): string => {
    const { ino, nlink } = statOf(answer);
    if (nlink < 2) return path;
    const first = side.linked.get(ino);
    if (first === undefined) side.linked.set(ino, path);
    return first ?? path;
  };

  const compareEntry = (path: string, one: ProbeAnswer, other: ProbeAnswer): string | undefined => {
    entries++;
    if (one.error !== undefined || other.error !== undefined) {
      say(path, `${one.error ?? 'readable'} / ${other.error ?? 'readable'}`);
      return undefined;
    }
    const [x, y] = [statOf(one), statOf(other)];
    const [kind, otherKind] = [kinds[x.mode & 0o170000] ?? 'unknown', kinds[y.mode & 0o170000] ?? 'unknown'];
    if (kind !== otherKind) {
      say(path, `a ${kind} / a ${otherKind}`);
      return undefined;
    }
    if (kind === 'file') {
      bytes += x.size;
      if (x.size !== y.size) say(path, `${x.size} bytes / ${y.size} bytes`);
      else if (one.digest !== other.digest) say(path, 'the contents differ');
    }
    if (kind === 'symbolic link' && one.target !== other.target) say(path, 'the link targets differ');
    if (kind.endsWith('device') && x.rdev !== y.rdev) say(path, `device ${x.rdev} / ${y.rdev}`);
    if (!ignore.includes('mode') && x.mode !== y.mode) say(path, `mode ${(x.mode & 0o7777).toString(8)} / ${(y.mode & 0o7777).toString(8)}`);
    if (!ignore.includes('owner') && (x.uid !== y.uid || x.gid !== y.gid)) say(path, `owner ${x.uid}:${x.gid} / ${y.uid}:${y.gid}`);
    if (!ignore.includes('mtime') && x.mtime !== y.mtime) say(path, `mtime ${x.mtime} / ${y.mtime}`);
    if (!ignore.includes('xattrs')) compareXattrs(path, one.xattrs ?? {}, other.xattrs ?? {});
    if (!ignore.includes('links') && kind !== 'directory') {
      const [first, otherFirst] = [firstOf(sides[0], path, one), firstOf(sides[1], path, other)];
      if (first !== otherFirst) say(path, `a hard link of ${first} / of ${otherFirst}`);
      else if (x.nlink !== y.nlink) say(path, `${x.nlink} links / ${y.nlink}`);
    }
    return kind;
  };
  const compareXattrs = (path: string, one: Readonly<Record<string, string>>, other: Readonly<Record<string, string>>): void => {
    for (const name of new Set([...Object.keys(one), ...Object.keys(other)])) {
      if (one[name] !== other[name]) say(path, `xattr ${name}: ${one[name] ?? 'absent'} / ${other[name] ?? 'absent'}`.slice(0, 300));
    }
  };

  const describe = (path: string): Promise<[ProbeAnswer, ProbeAnswer]> =>
    Promise.all([sides[0].probe.call('describe', escaped(a, path)), sides[1].probe.call('describe', escaped(b, path))]);

  try {
    const [rootA, rootB] = await describe('/.');
    if (rootA.error !== undefined || rootB.error !== undefined) throw new Error(`${a}: ${rootA.error ?? 'OK'}, ${b}: ${rootB.error ?? 'OK'}`);
    compareEntry('', rootA, rootB);
    const waiting = [''];
    while (waiting.length > 0 && differences.length < differenceMax) {
      const directory = waiting.pop() ?? '';
      const [one, other] = await Promise.all([namesOf(sides[0], `${directory}/`), namesOf(sides[1], `${directory}/`)]);
      const [setOne, setOther] = [new Set(one), new Set(other)];
      if (setOne.size !== one.length || setOther.size !== other.length) say(directory, 'a name is listed twice');
      for (const name of one) if (!setOther.has(name)) say(`${directory}/${name}`, 'only in the first');
      for (const name of other) if (!setOne.has(name)) say(`${directory}/${name}`, 'only in the second');
      const shared = [...setOne].filter((name) => setOther.has(name));
      for (let i = 0; i < shared.length; i += 64) {
        const batch = shared.slice(i, i + 64).map((name) => `${directory}/${name}`);
        const answers = await Promise.all(batch.map(describe));
        for (const [j, path] of batch.entries()) {
          const answer = answers[j];
          if (answer !== undefined && compareEntry(path, ...answer) === 'directory') waiting.push(path);
        }
      }
    }
  } finally {
    await Promise.all(sides.map((side) => side.probe.close()));
  }
  return { entries, bytes, differences };
}

if (process.argv[1] === import.meta.filename) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { max: { type: 'string', default: '50' }, ignore: { type: 'string', default: '' } },
  });
  const [a, b] = positionals;
  if (a === undefined || b === undefined) throw new Error('usage: compare-trees.js A B [--max N] [--ignore mtime,owner,xattrs,mode,links]');
  const ignore = values.ignore.split(',').filter((name) => name !== '') as ComparedProperty[];
  const { entries, bytes, differences } = await compareTrees(a, b, { differenceMax: Number(values.max), ignore });
  for (const difference of differences) process.stdout.write(`${difference}\n`);
  process.stdout.write(`${entries} entries, ${bytes} bytes compared: ${differences.length === 0 ? 'equal' : `${differences.length} differences`}\n`);
  process.exitCode = differences.length === 0 ? 0 : 1;
}
