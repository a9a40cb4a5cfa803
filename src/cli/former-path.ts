/** Finds the drive of a path that need not exist any more, and the path from the root of the drive. */
import { basename, dirname, join, relative, resolve } from 'node:path';
import type { ByteString } from '../base/brand.js';
import { byteStringOf } from '../base/bytes.js';
import { printable } from '../base/printable.js';
import { realpath } from '../disk/file-promises.js';
import type { FoundMounts, RunningMount } from '../program/control-client.js';
import { silenceFailure, silentMountAround } from '../program/control-client.js';
import { Failure } from '../terminal/exit-code.js';
import { mountOf } from './drive-path.js';

export interface FormerPath {
  readonly mount: RunningMount;
  /** Without a slash before it; empty for the root. */
  readonly inside: ByteString;
}

/** Throws Failure `USAGE` when it is on none of the drives, and `NO_ANSWER` when its drive says nothing. */
export async function locateFormer(path: string, { answering, silent }: FoundMounts): Promise<FormerPath> {
  const mute = await silentMountAround(path, silent);
  if (mute) throw silenceFailure(mute.mount);
  const real = await realPathOf(resolve(path));
  const mount = mountOf(real, answering);
  if (!mount) throw new Failure('USAGE', `${printable(resolve(path))} is not on a Sealdrive of yours; "sealdrive status" lists what is mounted`);
  return { mount, inside: byteStringOf(relative(mount.record.mountPoint, real)) };
}

/** Links are followed as far as the path exists. */
async function realPathOf(path: string): Promise<string> {
  const names: string[] = [];
  for (let at = path; ; at = dirname(at)) {
    const real = await realpath(at).catch(() => undefined);
    if (real !== undefined) return join(real, ...names);
    if (at === dirname(at)) return path;
    names.unshift(basename(at));
  }
}
