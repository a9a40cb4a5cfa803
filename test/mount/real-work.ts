/**
 * Real work in a directory, each item verified by the program that did it: copies of a large tree, git, a C project,
 * SQLite, rsync, and npm when asked. One item's failure does not keep the others from running. It does not care what is
 * mounted; with `--store` it creates and mounts a drive on a real server of that kind, and runs `check --data`
 * afterwards.
 *
 *   node dist/test/mount/real-work.js DIRECTORY|--store s3|webdav|sftp|http|directory [--with-npm] [--json]
 *                                     [--only cp,tar,git,make,sqlite,rsync,npm]
 *                                     [--tree DIRECTORY] [--entries N] [--transactions N]
 */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { SeededRandom } from '../model/seeded-random.js';
import { startStoreServer, storeKindsOf } from '../support/store-server.js';
import { compareTrees } from './compare-trees.js';
import { Drive } from './drive-process.js';
import { sourcePath } from './posix-probe.js';

const execute = promisify(execFile);

export interface RealWorkOptions {
  readonly directory: string;
  /** Items to do; all but npm when not given. */
  readonly only?: readonly string[];
  /** The tree that is copied; one is made if not given. */
  readonly tree?: string;
  /** At least this many entries in a tree that is made. */
  readonly entries?: number;
  /** Transactions per journal mode of SQLite. */
  readonly transactions?: number;
}

export interface RealWorkResult {
  readonly item: string;
  readonly ok: boolean;
  readonly seconds: number;
  /** The result: counts of a success, the reason of a failure. */
  readonly detail: string;
}

/** Folders for the items: `place` on the drive under test, `aside` on the machine's own disk. */
interface Work {
  readonly place: string;
  readonly aside: string;
  readonly tree: () => Promise<string>;
  readonly transactions: number;
}

async function run(command: string, argument: readonly string[], cwd: string, input?: string): Promise<string> {
  const environment = { ...process.env, GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_SYSTEM: '/dev/null', GIT_TERMINAL_PROMPT: '0', LC_ALL: 'C' };
  const child = execute(command, argument, { cwd, env: environment, maxBuffer: 1 << 28 });
  if (input !== undefined) child.child.stdin?.end(input);
  return (await child).stdout;
}

const gitOptions = ['-c', 'user.name=Worker', '-c', 'user.email=worker@localhost', '-c', 'safe.directory=*', '-c', 'advice.detachedHead=false'];

function git(cwd: string, ...argument: string[]): Promise<string> {
  return run('git', [...gitOptions, ...argument], cwd);
}

function need(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

/** A tree like those of users: many small text files, some large ones, links, odd names, old times, modes. */
async function makeTree(path: string, entries: number): Promise<void> {
  const random = new SeededRandom(7);
  const words = Array.from({ length: 500 }, () => random.below(2 ** 31).toString(36));
  const text = (size: number): string => {
    let content = '';
    while (content.length < size) content += `${random.pick(words)} `;
    return content;
  };
  let made = 0;
  for (let group = 0; made < entries; group++) {
    const directory = join(path, `group-${Math.floor(group / 20)}`, `package ${group}`, 'src');
    await mkdir(directory, { recursive: true });
    made++;
    const names = Array.from({ length: 60 }, (_, i) => (i === 7 ? `größe ${i}.txt` : i === 8 ? `${'long-'.repeat(48)}${i}` : `file-${i}.ts`));
    await Promise.all(
      names.map((name, i) =>
        writeFile(join(directory, name), i === 0 ? random.bytes(random.below(200_000)) : text(random.skewed(60_000)), {
          mode: i % 10 === 0 ? 0o755 : 0o644,
        }),
      ),
    );
    made += names.length;
  }
  const script = `
    find . -name file-1.ts | while IFS= read -r f; do ln "$f" "$(dirname "$f")/hard"; ln -s file-2.ts "$(dirname "$f")/soft"; done
    find . -name file-3.ts -exec touch -d '2001-02-03 04:05:06.789012345' {} +
    find . -name file-4.ts -exec chmod 600 {} +
    find . -name file-5.ts -exec truncate -s 0 {} +
    ln -s /nonexistent/target dangling && mkfifo pipe && mkdir empty
    truncate -s 20M sparse && printf end >> sparse
    if setfattr -n user.note -v kept group-0 2>/dev/null; then setfattr -n user.note -v kept sparse; fi
    # rsync leaves a time alone that differs by less than a second: what it copies at once must not be as young as its copy.
    find . -newermt '-1 hour' -exec touch -h -d '2019-08-07 06:05:04.321098765' {} +`;
  await run('sh', ['-ec', script], path);
}

async function same(a: string, b: string, what: string): Promise<string> {
  const { entries, bytes, differences } = await compareTrees(a, b);
  need(differences.length === 0, `${what}: ${differences.length} differences, the first: ${differences.slice(0, 5).join('; ')}`);
  return `${entries} entries, ${Math.round(bytes / 1e6)} MB equal`;
}

/** A history with several authors' branches, merges, renames and deletions. */
async function makeRepository(path: string): Promise<void> {
  const random = new SeededRandom(11);
  await mkdir(path);
  await git(path, 'init', '-q', '-b', 'main', '.');
  const content = (i: number): string => Array.from({ length: 20 + random.below(200) }, (_, line) => `${i} ${line} ${random.below(1e9)}`).join('\n');
  for (let commit = 0; commit < 12; commit++) {
    if (commit % 4 === 3) await git(path, 'checkout', '-q', '-b', `topic-${commit}`);
    for (let i = 0; i < 200; i++) {
      const directory = join(path, `module-${(commit * 7 + i) % 25}`);
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, `source-${commit}-${i}.txt`), content(i));
    }
    if (commit > 0) await git(path, 'mv', `module-${((commit - 1) * 7) % 25}/source-${commit - 1}-0.txt`, `moved-${commit}.txt`);
    await git(path, 'add', '-A');
    await git(path, 'commit', '-q', '-m', `commit ${commit}`);
    if (commit % 4 === 3) {
      await git(path, 'checkout', '-q', 'main');
      await git(path, 'merge', '-q', '--no-ff', '-m', `merge ${commit}`, `topic-${commit}`);
    }
  }
  await git(path, 'tag', 'v1');
}

const items: Readonly<Record<string, (work: Work) => Promise<string>>> = {
  async cp({ place, tree }) {
    const source = await tree();
    const copy = join(place, 'copy');
    await run('cp', ['-a', source, copy], '/');
    const found = await same(source, copy, 'the copy');
    await run('cp', ['-a', copy, join(place, 'second')], '/');
    await same(copy, join(place, 'second'), 'the copy of the copy');
    await run('rm', ['-rf', join(place, 'second')], '/');
    need(!(await readdir(place)).includes('second'), 'rm -rf left the copy behind');
    return found;
  },
  async tar({ place, aside, tree }) {
    const source = await tree();
    const archive = join(aside, 'tree.tar');
    await run('tar', ['--xattrs', '-cf', archive, '-C', source, '.'], '/');
    const extracted = join(place, 'extracted');
    await mkdir(extracted);
    await run('tar', ['--xattrs', '-xpf', archive, '-C', extracted], '/');
    const found = await same(source, extracted, 'what tar extracted');
    await run('tar', ['-cf', join(place, 'again.tar'), '-C', extracted, '.'], '/');
    await run('tar', ['-df', join(place, 'again.tar'), '-C', source], '/');
    await run('rm', ['-rf', extracted], '/');
    return found;
  },
  async git({ place, aside }) {
    const origin = join(aside, 'origin');
    await makeRepository(origin);
    const clone = join(place, 'clone');
    await git('/', 'clone', '-q', '--no-local', origin, clone);
    await git(clone, 'fsck', '--full', '--strict');
    const commits = (await git(clone, 'rev-list', '--all')).trim().split('\n').toReversed();
    need(commits.join() === (await git(origin, 'rev-list', '--all')).trim().split('\n').toReversed().join(), 'the clone has other commits');
    for (const commit of [commits[0], commits[5], commits[9], 'v1', 'main']) {
      await git(clone, 'checkout', '-q', commit ?? 'main');
      need((await git(clone, 'status', '--porcelain')) === '', `a fresh checkout of ${commit} is not clean`);
    }
    await writeFile(join(clone, 'new.txt'), 'new\n');
    await git(clone, 'add', '-A');
    await git(clone, 'commit', '-q', '-m', 'a commit on the drive');
    await git(clone, 'rebase', '-q', 'HEAD~3');
    await git(clone, 'gc', '-q', '--aggressive', '--prune=now');
    await git(clone, 'fsck', '--full', '--strict');
    need((await git(clone, 'status', '--porcelain')) === '', 'not clean after gc');
    await git(clone, 'worktree', 'add', '-q', join(place, 'worktree'), 'v1');
    await same(join(place, 'worktree', 'module-3'), join(origin, 'module-3'), 'a worktree').catch(async () => {
      // Checkouts have new times, so only the contents are compared.
      await run('diff', ['-r', join(place, 'worktree', 'module-3'), join(origin, 'module-3')], '/');
    });
    await git('/', 'clone', '-q', '--bare', clone, join(place, 'bare.git'));
    await git(join(place, 'bare.git'), 'fsck', '--full');
    return `${commits.length} commits cloned, checked out, rebased, packed`;
  },
  async make({ place }) {
    const project = join(place, 'project');
    await mkdir(project);
    const count = 40;
    for (let i = 0; i < count; i++) {
      await writeFile(join(project, `part${i}.c`), `#include "parts.h"\nint part${i}(int x) { return x + ${i}; }\n`);
    }
    await writeFile(join(project, 'parts.h'), Array.from({ length: count }, (_, i) => `int part${i}(int x);\n`).join(''));
    const calls = Array.from({ length: count }, (_, i) => `sum = part${i}(sum);`).join(' ');
    await writeFile(
      join(project, 'main.c'),
      `#include <stdio.h>\n#include "parts.h"\nint main(void) { int sum = 0; ${calls} printf("%d\\n", sum); return 0; }\n`,
    );
    await writeFile(
      join(project, 'Makefile'),
      'OBJS := $(patsubst %.c,%.o,$(wildcard *.c))\nprogram: libparts.a main.o\n\t$(CC) -o $@ main.o -L. -lparts\nlibparts.a: $(filter-out main.o,$(OBJS))\n\t$(AR) rcs $@ $^\n%.o: %.c parts.h\n\t$(CC) -O1 -g -c -o $@ $<\nclean:\n\trm -f *.o *.a program\n',
    );
    const expected = String((count * (count - 1)) / 2);
    await run('make', ['-s', '-j2'], project);
    need((await run('./program', [], project)).trim() === expected, 'the program computes something else');
    need((await run('make', ['-j2'], project)).includes('up to date'), 'a second make builds again: times went wrong');
    await run('touch', ['part3.c'], project);
    const again = await run('make', ['-j2'], project);
    need(again.includes('-c -o part3.o') && !again.includes('-c -o part4.o'), `after a touch make built: ${again}`);
    await run('make', ['-s', 'clean'], project);
    await run('make', ['-s', '-j2'], project);
    need((await run('./program', [], project)).trim() === expected, 'the rebuilt program computes something else');
    return `${count + 1} sources built, nothing built twice`;
  },
  async sqlite({ place, transactions }) {
    for (const mode of ['delete', 'truncate', 'wal']) {
      const file = join(place, `${mode}.db`);
      const setUp = `PRAGMA journal_mode=${mode}; PRAGMA synchronous=FULL; CREATE TABLE entry(id INTEGER PRIMARY KEY, name TEXT UNIQUE, body BLOB); CREATE INDEX by_body ON entry(body);`;
      const inserts = Array.from(
        { length: transactions },
        (_, i) =>
          `BEGIN; INSERT INTO entry VALUES(${i}, 'name ${i}', randomblob(${50 + (i % 700)})); UPDATE entry SET body = randomblob(99) WHERE id = ${Math.floor(i / 2)}; COMMIT;`,
      );
      await run('sqlite3', [file], place, `${setUp}\n${inserts.join('\n')}\n`);
      // Two processes at once: the one that is locked out waits.
      const more = (base: number): string =>
        `PRAGMA busy_timeout=30000;\n${Array.from({ length: 50 }, (_, i) => `INSERT INTO entry VALUES(${base + i}, 'more ${base + i}', randomblob(300));`).join('\n')}\n`;
      await Promise.all([run('sqlite3', [file], place, more(1_000_000)), run('sqlite3', [file], place, more(2_000_000))]);
      const found = await run(
        'sqlite3',
        [file],
        place,
        'PRAGMA integrity_check; SELECT count(*) FROM entry; DELETE FROM entry WHERE id % 3 = 0; VACUUM; PRAGMA integrity_check;\n',
      );
      need(found === `ok\n${transactions + 100}\nok\n`, `${mode}: ${JSON.stringify(found)}`);
    }
    return `${transactions} transactions in each of three journal modes`;
  },
  async rsync({ place, tree }) {
    const source = `${await tree()}/`;
    const copy = join(place, 'synced/');
    await run('rsync', ['-aHX', '--checksum', source, copy], '/');
    const second = await run('rsync', ['-aHX', '--checksum', '--itemize-changes', '--stats', source, copy], '/');
    need(/Number of regular files transferred: 0\b/.test(second), 'the second rsync transferred files');
    const changes = second.split('\n').filter((line) => /^[<>ch.*][fdLDS]/.test(line));
    need(changes.length === 0, `the second rsync changed ${changes.length} entries: ${changes[0]}`);
    const third = await run('rsync', ['-aHX', '--itemize-changes', source, copy], '/');
    need(third.trim() === '', `by size and time rsync would change: ${third.split('\n')[0]}`);
    return same(source, copy, 'what rsync copied');
  },
  async npm({ place }) {
    const project = join(place, 'npm');
    await mkdir(project);
    for (const file of ['package.json', 'package-lock.json']) await writeFile(join(project, file), await readFile(sourcePath(file)));
    const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'];
    // A registry that leaves out packages for other platforms makes a lock file that npm ci calls incomplete.
    await run('npm', ['ci', ...quiet], project).catch(() => run('npm', ['install', '--no-save', ...quiet], project));
    await run('npm', ['ls', '--all'], project);
    need(
      (await run(process.execPath, ['-e', "import('yargs').then(() => console.log('loaded'))"], project)).trim() === 'loaded',
      'a package does not load',
    );
    return `${(await readdir(join(project, 'node_modules'))).length} packages installed`;
  },
};

export const realWorkItems: readonly string[] = Object.keys(items);

/** Runs the items one after another in new folders of the directory, and removes the folders. */
export async function realWork(options: RealWorkOptions, report: (result: RealWorkResult) => void = () => {}): Promise<RealWorkResult[]> {
  const { directory, only = realWorkItems.filter((item) => item !== 'npm'), entries = 30_000, transactions = 400 } = options;
  const aside = await mkdtemp(join(tmpdir(), 'real-work-'));
  let tree: Promise<string> | undefined;
  const makeOnce = async (): Promise<string> => {
    if (options.tree !== undefined) return options.tree;
    const path = join(aside, 'tree');
    await mkdir(path);
    await makeTree(path, entries);
    return path;
  };
  const results: RealWorkResult[] = [];
  try {
    for (const item of only) {
      const work = items[item];
      if (work === undefined) throw new Error(`there is no item ${item}; there is ${realWorkItems.join(', ')}`);
      const place = await mkdtemp(join(directory, `${item}-`));
      const own = await mkdtemp(join(aside, `${item}-`));
      if (['cp', 'tar', 'rsync'].includes(item)) await (tree ??= makeOnce());
      const began = performance.now();
      const seconds = (): number => Math.round((performance.now() - began) / 10) / 100;
      let result: RealWorkResult;
      try {
        const detail = await work({ place, aside: own, tree: () => (tree ??= makeOnce()), transactions });
        result = { item, ok: true, seconds: seconds(), detail };
      } catch (error) {
        const { message, stderr = '' } = error as Error & { stderr?: string };
        result = { item, ok: false, seconds: seconds(), detail: `${message.slice(0, 1500)} ${stderr.slice(-500)}`.trim() };
      }
      results.push(result);
      report(result);
      await run('rm', ['-rf', place, own], '/').catch((cause: Error) => {
        results.push({ item: `${item} (removing)`, ok: false, seconds: 0, detail: cause.message.slice(0, 1500) });
      });
    }
  } finally {
    await rm(aside, { recursive: true, force: true });
  }
  return results;
}

/**
 * Runs `work` on a new drive, on a server of that kind; everything is in the store and was checked when this resolves.
 */
async function onDrive(storeKind: string | undefined, work: (directory: string) => Promise<RealWorkResult[]>): Promise<RealWorkResult[]> {
  const [kind] = storeKindsOf(storeKind);
  const scratch = await mkdtemp(join(tmpdir(), 'real-work-drive-'));
  const server = await startStoreServer(kind!, join(scratch, 'server'));
  const drive = new Drive({ scratch, store: await server.location('work'), environment: server.environment, withKeyFile: true });
  try {
    await drive.init();
    await drive.mount();
    const results = await work(drive.directory);
    await drive.unmount();
    const checked = await drive.check().then(
      () => undefined,
      (error: Error) => error.message,
    );
    return [...results, { item: 'check', ok: checked === undefined, seconds: 0, detail: checked ?? 'check --data found nothing' }];
  } finally {
    await drive.destroy();
    await server.stop();
    await rm(scratch, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string' },
      'with-npm': { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      tree: { type: 'string' },
      entries: { type: 'string', default: '30000' },
      transactions: { type: 'string', default: '400' },
      store: { type: 'string' },
    },
  });
  const only = values.only?.split(',') ?? realWorkItems.filter((item) => item !== 'npm' || values['with-npm']);
  const workIn = (directory: string): Promise<RealWorkResult[]> =>
    realWork(
      {
        directory,
        only,
        entries: Number(values.entries),
        transactions: Number(values.transactions),
        ...(values.tree === undefined ? {} : { tree: values.tree }),
      },
      ({ item, ok, seconds, detail }) => {
        if (!values.json) process.stdout.write(`${ok ? 'pass' : 'FAIL'}  ${item.padEnd(8)} ${seconds.toFixed(1).padStart(7)} s  ${detail}\n`);
      },
    );
  const [directory] = positionals;
  if ((directory === undefined) === (values.store === undefined)) throw new Error('usage: real-work.js DIRECTORY|--store KIND [--only ITEM,...] ...');
  const results = directory === undefined ? await onDrive(values.store, workIn) : await workIn(directory);
  const failed = results.filter(({ ok }) => !ok).length;
  process.stdout.write(values.json ? `${JSON.stringify(results, undefined, 2)}\n` : `${results.length - failed} passed, ${failed} failed\n`);
  process.exitCode = failed === 0 ? 0 : 1;
}
