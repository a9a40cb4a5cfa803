/**
 * Binds and reaches Unix sockets at any path. Node.js takes UTF-8 only: a socket in another folder is reached through a
 * descriptor.
 */
import { closeSync, constants } from 'node:fs';
import { basename, dirname } from 'node:path';
import { isUnicode } from '../base/system-text.js';
import { openSync } from './files.js';

export interface SocketAddress {
  /** For listen() and connect(). */
  readonly address: string;
  /** Once the socket is closed, or connected. */
  release(): void;
}

/** Linux has this flag, and Node.js no name for it: a descriptor that only stands for the place. */
const O_PATH = 0o10000000;

/** The last part of `path` is UTF-8. Throws system errors where its folder is not there. */
export function socketAddress(path: string): SocketAddress {
  if (isUnicode(path)) return { address: path, release: () => {} };
  const fd = openSync(dirname(path), O_PATH | constants.O_DIRECTORY);
  return { address: `/proc/self/fd/${fd}/${basename(path)}`, release: () => closeSync(fd) };
}
