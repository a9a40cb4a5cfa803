/**
 * Random work on a volume that leaves everything behind that a tree of files can hold: all kinds of files and content,
 * names, attributes and times. What the system refuses is left out.
 */
import { AnswerError } from '../../src/base/errors.js';
import { inlineMax, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK } from '../../src/meta/inode.js';
import { type Ino, rootIno } from '../../src/meta/key.js';
import { dotDotCookie } from '../../src/vfs/directory-listing.js';
import type { SeededRandom } from '../model/seeded-random.js';
import type { TestDevice } from '../suite/test-device.js';

const RENAME_EXCHANGE = 2;
const PUNCH_HOLE = 3;
const never = new AbortController().signal;
const root = { uid: 0, gid: 0, umask: 0o022, keepsSetId: true, signal: never };
const sizes = [0, 1, 100, inlineMax, inlineMax + 1, 4096, 8191, 8192, 8193, 20_000, 65_536, 65_537, 150_000, 300_000];
const specials = [S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK];

interface Entry {
  readonly parent: Ino;
  readonly name: string;
  readonly ino: Ino;
  readonly mode: number;
}

const weights = {
  file: 12,
  write: 8,
  sparse: 4,
  truncate: 3,
  punch: 2,
  reserve: 2,
  clone: 3,
  mkdir: 4,
  symlink: 3,
  special: 3,
  link: 3,
  rename: 5,
  exchange: 1,
  remove: 4,
  attributes: 6,
  setxattr: 5,
  removexattr: 1,
};
type Step = keyof typeof weights;

export class RandomWork {
  readonly #device: TestDevice;
  readonly #random: SeededRandom;

  constructor(device: TestDevice, random: SeededRandom) {
    this.#device = device;
    this.#random = random;
  }

  async run(steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) await this.#try(this.#random.weighted(weights));
  }

  async #try(step: Step): Promise<void> {
    try {
      await this.#step(step, await this.#entries());
    } catch (error) {
      // A directory that is not empty, a name that is taken, an attribute on a link: the system says no, as it should.
      if (!(error instanceof AnswerError)) throw error;
    }
  }

  async #entries(): Promise<readonly Entry[]> {
    const entries: Entry[] = [];
    const list = async (parent: Ino): Promise<void> => {
      await this.#device.filesystem.readdir(parent, dotDotCookie, false, (entry) => entries.push({ parent, ...entry }) > 0);
    };
    await list(rootIno);
    for (const { ino, mode } of entries) if ((mode & S_IFMT) === S_IFDIR) await list(ino);
    return entries;
  }

  async #step(wanted: Step, entries: readonly Entry[]): Promise<void> {
    const { filesystem } = this.#device;
    const random = this.#random;
    const files = entries.filter(({ mode }) => (mode & S_IFMT) === S_IFREG);
    const step = files.length < 3 ? 'file' : wanted;
    const folder = (): Ino => random.pick([rootIno, ...entries.filter(({ mode }) => (mode & S_IFMT) === S_IFDIR).map(({ ino }) => ino)]);
    const file = (): Ino => random.pick(files).ino;
    const any = (): Entry => random.pick(entries);
    switch (step) {
      case 'file': {
        const { ino } = await filesystem.mknod(root, folder(), this.#name(), S_IFREG | random.below(0o10000), 0);
        return this.#write(ino, 0, this.#content(random.pick(sizes)));
      }
      case 'write':
        return this.#write(file(), random.skewed(400_000), this.#content(1 + random.skewed(200_000)));
      case 'sparse':
        return this.#write(file(), random.skewed(8_000_000), this.#content(1 + random.below(5000)));
      case 'truncate':
        await filesystem.setattr(file(), { size: random.skewed(500_000) });
        return undefined;
      case 'punch':
        return filesystem.allocate(file(), random.skewed(200_000), 1 + random.below(100_000), PUNCH_HOLE);
      case 'reserve':
        return filesystem.allocate(file(), random.skewed(500_000), 1 + random.below(100_000), random.below(2));
      case 'clone': {
        const [from, to] = [file(), file()];
        await filesystem.copyRange(root, from, random.skewed(100_000), to, random.skewed(100_000), 1 + random.below(200_000));
        return undefined;
      }
      case 'mkdir':
        await filesystem.mkdir(root, folder(), this.#name(), random.below(0o10000));
        return undefined;
      case 'symlink':
        await filesystem.symlink(root, folder(), this.#name(), random.pick(['../there', 'x'.repeat(4095), '/', 'ü \xff\n']));
        return undefined;
      case 'special':
        await filesystem.mknod(
          root,
          folder(),
          this.#name(),
          random.pick(specials) | random.below(0o1000),
          (random.below(4096) << 8) | random.below(256),
        );
        return undefined;
      case 'link':
        await filesystem.link(any().ino, folder(), this.#name());
        return undefined;
      case 'rename': {
        const { parent, name } = any();
        await filesystem.rename(parent, name, folder(), this.#name(), 0);
        return undefined;
      }
      case 'exchange': {
        const [one, other] = [any(), any()];
        await filesystem.rename(one.parent, one.name, other.parent, other.name, RENAME_EXCHANGE);
        return undefined;
      }
      case 'remove': {
        const { parent, name, mode } = any();
        const { ino } = await ((mode & S_IFMT) === S_IFDIR ? filesystem.rmdir(parent, name) : filesystem.unlink(parent, name));
        filesystem.forget(ino);
        return undefined;
      }
      case 'attributes':
        return this.#setAttributes(any());
      case 'setxattr':
        // Of links and devices no system takes them.
        return filesystem.setxattr(
          random.chance(0.5) ? file() : folder(),
          `user.${random.pick(['a', 'note', 'x'.repeat(200)])}`,
          random.bytes(random.skewed(3000)),
          0,
          false,
        );
      case 'removexattr':
        return filesystem.removexattr(any().ino, 'user.a');
    }
  }

  /** Whatever a file can be called, and now and then a name that is there already. */
  #name(): string {
    const random = this.#random;
    if (random.chance(0.3)) return random.pick(['a', 'b', 'c']);
    if (random.chance(0.2)) return random.pick(['-rf', 'x.damaged', ' ', 'new\nline', 'CON', 'a\\b', '%s', '...', '\x7f']);
    return random
      .bytes(1 + random.skewed(255))
      .toString('latin1')
      .replaceAll(/[/\0]/g, '_')
      .replace(/^\.{1,2}$/, 'dots');
  }

  #content(length: number): Buffer {
    const random = this.#random;
    if (random.chance(0.3)) return Buffer.alloc(length, 'The quick brown fox jumps over the lazy dog. ');
    const content = random.bytes(length);
    // A part that compresses, beside one that does not.
    if (random.chance(0.3)) content.fill(0, random.below(length + 1));
    return content;
  }

  async #write(ino: Ino, offset: number, content: Buffer): Promise<void> {
    const { filesystem } = this.#device;
    if (content.byteLength > 0) {
      await filesystem.writeRoom();
      await filesystem.write(root, ino, offset, content, false);
    }
    await filesystem.persist(ino);
  }

  async #setAttributes({ ino, mode }: Entry): Promise<void> {
    const random = this.#random;
    const time = (): { sec: number; nsec: number } => ({ sec: random.below(4_000_000_000) - 1_000_000_000, nsec: random.below(1_000_000_000) });
    const isLink = (mode & S_IFMT) === S_IFLNK;
    await this.#device.filesystem.setattr(ino, {
      uid: random.below(2 ** 32 - 2),
      gid: random.below(2 ** 16),
      ...(isLink ? {} : { mode: random.below(0o10000) }),
      atime: time(),
      mtime: time(),
    });
  }
}
