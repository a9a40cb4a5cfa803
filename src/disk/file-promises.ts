/** Functions of node:fs/promises that take a path, for paths that need not be UTF-8: see files.ts. */
import * as fs from 'node:fs/promises';
import { decodeSystemText, systemPath } from '../base/system-text.js';
import { byPath, byTwoPaths } from './files.js';

export const access = byPath(fs.access);
export const chmod = byPath(fs.chmod);
export const lstat = byPath(fs.lstat);
export const mkdir = byPath(fs.mkdir);
export const open = byPath(fs.open);
export const readFile = byPath(fs.readFile);
export const readdir = byPath(fs.readdir);
export const rm = byPath(fs.rm);
export const stat = byPath(fs.stat);
export const unlink = byPath(fs.unlink);
export const utimes = byPath(fs.utimes);
export const writeFile = byPath(fs.writeFile);
export const copyFile = byTwoPaths(fs.copyFile);
export const link = byTwoPaths(fs.link);
export const rename = byTwoPaths(fs.rename);
export const symlink = byTwoPaths(fs.symlink);
export const readlink = async (path: string): Promise<string> => decodeSystemText(await fs.readlink(systemPath(path), { encoding: 'buffer' }));
export const realpath = async (path: string): Promise<string> => decodeSystemText(await fs.realpath(systemPath(path), { encoding: 'buffer' }));
