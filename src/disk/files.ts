/**
 * Functions of node:fs that take a path, for paths that need not be UTF-8: strings of base/system-text.ts, which
 * Node.js alone would take for the name of another file. Returned paths are such strings too; otherwise the functions
 * are those of Node.js. The ones with promises are in file-promises.ts.
 */
import * as fs from 'node:fs';
import { decodeSystemText, systemPath } from '../base/system-text.js';

type PathFunction = (path: string, ...rest: never[]) => unknown;
type TwoPathFunction = (from: string, to: string, ...rest: never[]) => unknown;

/** The same function for a first argument of system text; a buffer or URL passes as it is. */
export function byPath<F>(call: F): F {
  const plain = call as unknown as (path: unknown, ...rest: unknown[]) => unknown;
  const wrapped = (path: unknown, ...rest: unknown[]): unknown => plain(native(path), ...rest);
  return wrapped satisfies PathFunction as F;
}

/** The same for two paths, or a link's target and its path. */
export function byTwoPaths<F>(call: F): F {
  const plain = call as unknown as (from: unknown, to: unknown, ...rest: unknown[]) => unknown;
  const wrapped = (from: unknown, to: unknown, ...rest: unknown[]): unknown => plain(native(from), native(to), ...rest);
  return wrapped satisfies TwoPathFunction as F;
}

const native = (path: unknown): unknown => (typeof path === 'string' ? systemPath(path) : path);

export const accessSync = byPath(fs.accessSync);
export const appendFileSync = byPath(fs.appendFileSync);
export const chmodSync = byPath(fs.chmodSync);
export const existsSync = byPath(fs.existsSync);
export const lstatSync = byPath(fs.lstatSync);
export const mkdirSync = byPath(fs.mkdirSync);
export const openSync = byPath(fs.openSync);
export const readFileSync = byPath(fs.readFileSync);
export const readdirSync = byPath(fs.readdirSync);
export const rmSync = byPath(fs.rmSync);
export const statSync = byPath(fs.statSync);
export const statfsSync = byPath(fs.statfsSync);
export const unlinkSync = byPath(fs.unlinkSync);
export const writeFileSync = byPath(fs.writeFileSync);
export const renameSync = byTwoPaths(fs.renameSync);
export const readlinkSync = (path: string): string => decodeSystemText(fs.readlinkSync(systemPath(path), { encoding: 'buffer' }));
export const realpathSync = (path: string): string => decodeSystemText(fs.realpathSync(systemPath(path), { encoding: 'buffer' }));

export const lstat = byPath(fs.lstat);
export const mkdir = byPath(fs.mkdir);
export const open = byPath(fs.open);
export const opendir = byPath(fs.opendir);
export const readdir = byPath(fs.readdir);
export const rmdir = byPath(fs.rmdir);
export const stat = byPath(fs.stat);
export const statfs = byPath(fs.statfs);
export const unlink = byPath(fs.unlink);
export const copyFile = byTwoPaths(fs.copyFile);
export const link = byTwoPaths(fs.link);
export const rename = byTwoPaths(fs.rename);
