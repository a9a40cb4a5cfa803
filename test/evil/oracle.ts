/**
 * The judge of every attack (doc/security.md, "Criterion U"): a device reads what a trusted device wrote, in a history
 * that it may know, or gets an error that an application sees as EIO, ESTALE, EROFS or ETIMEDOUT. Anything else is a
 * violation, which the oracle names.
 */
import { constants } from 'node:os';
import { createLogger } from '../../src/base/logger.js';
import { CommitError } from '../../src/commit/commit-error.js';
import { CryptoError } from '../../src/crypto/crypto-error.js';
import { createErrnoOf } from '../../src/daemon/errno.js';
import { JournalError } from '../../src/journal/journal-error.js';
import { S_IFDIR, S_IFLNK, S_IFMT } from '../../src/meta/inode.js';
import { type Ino, rootIno } from '../../src/meta/key.js';
import { OperationError } from '../../src/operation/operation.js';
import { PackError } from '../../src/pack/pack-error.js';
import { StoreError } from '../../src/store/object-store.js';
import { VfsError } from '../../src/vfs/vfs-error.js';
import { VolumeError } from '../../src/volume/volume-error.js';
import type { TestDevice } from '../suite/test-device.js';

/** Path to content (as latin1), link target (`-> x`) or `dir`; `#` and a name after a path: an extended attribute. */
export type Picture = Readonly<Record<string, string>>;

const { errno } = constants;
const allowed: ReadonlySet<number> = new Set([errno.EIO, errno.ESTALE, errno.EROFS, errno.ETIMEDOUT]);
const errnoOf = createErrnoOf(createLogger(() => {}, 'error'));

/** Undefined when an application may see `error`, else a description of the violation. */
export function unlawful(error: unknown): string | undefined {
  const name = error instanceof Error ? `${error.name} ${'code' in error ? String(error.code) : ''}: ${error.message}` : String(error);
  // Errors that errno.ts does not know also become EIO, but they are bugs.
  if (!(error instanceof VolumeError || error instanceof OperationError || error instanceof VfsError))
    return `an error of no layer that may show: ${name}`;
  return allowed.has(errnoOf(error)) ? undefined : `an errno that hides what happened: ${name}`;
}

/** Whether opening a volume may fail with `error`: an error with a code, from a layer that refuses on purpose. */
export function isRefusal(error: unknown): boolean {
  return [CommitError, StoreError, VolumeError, JournalError, PackError, CryptoError].some((kind) => error instanceof kind);
}

/** One value that a device may read; `undefined` when reading failed lawfully. */
type Outcome<T> = { readonly value: T | undefined } | { readonly violation: string };

export interface Verdict {
  readonly violations: readonly string[];
  /** The numbers of correct reads and of lawful failures. */
  readonly right: number;
  readonly refused: number;
}

async function attempt<T>(work: () => T | Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    const violation = unlawful(error);
    return violation === undefined ? { value: undefined } : { violation };
  }
}

/**
 * Reads everything that is in one of `pictures` (the histories that the device may know), and looks for entries that
 * are in none.
 */
export async function judge(device: TestDevice, pictures: readonly Picture[]): Promise<Verdict> {
  // Every read is judged by itself: a device may learn of a newer commit between two of them.
  const violations: string[] = [];
  let right = 0;
  let refused = 0;
  const settle = <T>(what: string, outcome: Outcome<T>, isRight: (value: T) => boolean): T | undefined => {
    if ('violation' in outcome) violations.push(`${what}: ${outcome.violation}`);
    else if (outcome.value === undefined) refused++;
    else if (isRight(outcome.value)) right++;
    else violations.push(`${what}: not what was written`);
    return 'violation' in outcome ? undefined : outcome.value;
  };
  const { filesystem } = device;
  const childrenOf = (picture: Picture, path: string): string => {
    const prefix = path === '' ? '' : `${path}/`;
    const names = Object.keys(picture).filter(
      (child) => child.startsWith(prefix) && !child.slice(prefix.length).includes('/') && !child.includes('#'),
    );
    return JSON.stringify(names.map((child) => child.slice(prefix.length)).toSorted());
  };
  const visit = async (path: string, ino: Ino): Promise<void> => {
    const known = pictures.map((picture) => picture[path] ?? (path === '' ? 'dir' : undefined));
    const attributes = settle(`attributes of "${path}"`, await attempt(() => filesystem.getattr(ino)), () => true);
    if (!attributes) return;
    const kind = attributes.mode & S_IFMT;
    if (kind === S_IFLNK) settle(`link "${path}"`, await attempt(() => filesystem.readlink(ino)), (target) => known.includes(`-> ${target}`));
    else if (kind === S_IFDIR) {
      const listed = await attempt(async () => JSON.stringify((await namesIn(device, ino)).toSorted()));
      settle(`list of "${path}"`, listed, (names) => pictures.some((picture) => childrenOf(picture, path) === names));
    } else {
      const content = await attempt(async () => (await contentOf(device, ino, attributes.size)).toString('latin1'));
      settle(`content of "${path}"`, content, (text) => known.includes(text));
    }
    for (const name of attributeNames(pictures, path)) {
      const value = await attempt(async () => Buffer.from(await filesystem.getxattr(ino, name)).toString('latin1'));
      settle(`attribute of "${path}"`, value, (text) => pictures.some((picture) => picture[`${path}#${name}`] === text));
    }
  };
  await visit('', rootIno);
  const paths = new Set(pictures.flatMap((picture) => Object.keys(picture)).filter((path) => !path.includes('#')));
  for (const path of paths) {
    let ino: Ino | undefined = rootIno;
    for (const name of path.split('/')) {
      const parent: Ino = ino;
      const found = await attempt(async () => (await filesystem.lookup(parent, name)) ?? 'absent');
      if ('violation' in found) violations.push(`look-up of "${path}": ${found.violation}`);
      else if (found.value === undefined) refused++;
      else if (found.value === 'absent' && pictures.every((picture) => path in picture)) violations.push(`look-up of "${path}": ENOENT`);
      ino = 'violation' in found || found.value === undefined || found.value === 'absent' ? undefined : found.value.ino;
      if (ino === undefined) break;
    }
    if (ino !== undefined) await visit(path, ino);
  }
  return { violations, right, refused };
}

function attributeNames(pictures: readonly Picture[], path: string): string[] {
  const prefix = `${path}#`;
  return [...new Set(pictures.flatMap((picture) => Object.keys(picture)).filter((key) => key.startsWith(prefix)))].map((key) =>
    key.slice(prefix.length),
  );
}

const caller = { uid: 0, gid: 0, umask: 0o022, signal: new AbortController().signal };

async function contentOf(device: TestDevice, ino: Ino, size: number): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for (let offset = 0; offset < size; offset += 1024 * 1024) {
    parts.push(...(await device.filesystem.read(caller, ino, offset, Math.min(1024 * 1024, size - offset))).map((part) => Buffer.from(part)));
  }
  return Buffer.concat(parts);
}

async function namesIn(device: TestDevice, ino: Ino): Promise<string[]> {
  const { filesystem } = device;
  const names: string[] = [];
  let cookie = 0;
  for (let more = true; more; ) {
    more = false;
    await filesystem.readdir(ino, cookie, true, (entry) => {
      more = true;
      cookie = entry.cookie;
      if (entry.name !== '.' && entry.name !== '..') names.push(entry.name);
      return true;
    });
  }
  return names;
}
