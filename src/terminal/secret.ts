/**
 * How a secret reaches us: from the terminal, a file descriptor, a key file or a systemd credential; never from the
 * command line or the environment, where other processes can read it (doc/cli.md, "Secrets"). It derives no keys; the
 * crypto layer does.
 */
import { closeSync, fstatSync, fsyncSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describeError } from '../base/errors.js';
import { printable } from '../base/printable.js';
import type { Random } from '../base/random.js';
import type { SlotSecret } from '../crypto/keyslot.js';
import { environment } from '../disk/environment.js';
import { openSync, statSync } from '../disk/files.js';
import { Failure } from './exit-code.js';
import { ask } from './prompt.js';
import { tell } from './terminal.js';

export interface SecretOptions {
  readonly passphraseFd?: number | undefined;
  readonly keyFile?: string | undefined;
  readonly recovery?: boolean | undefined;
  /** The id of a keyslot, or the beginning of one. */
  readonly keyslot?: string | undefined;
  /** The memory that one keyslot may take, as a size. */
  readonly keyslotMemory?: string | undefined;
}

/** The options of every command that opens a volume, for yargs. */
export const secretOptions = {
  'passphrase-fd': { type: 'number', describe: 'Read the passphrase from this file descriptor (first line)', group: 'Secret:' },
  'key-file': { type: 'string', normalize: true, describe: 'Use this key file', group: 'Secret:' },
  recovery: { type: 'boolean', describe: 'Use the recovery words (asked for, or from --passphrase-fd)', group: 'Secret:' },
  keyslot: { type: 'string', describe: 'Try this keyslot alone: its id, or the beginning of it, as "key list" shows it', group: 'Secret:' },
  'keyslot-memory': { type: 'string', describe: 'Also try keyslots that take up to this much memory (default: 256M)', group: 'Secret:' },
} as const;

const secretSizeMax = 64 * 1024;
const keyFileSize = 64;
const keyFileSizeMin = 32;
const credentialName = 'sealdrive-passphrase';

/**
 * The secret that the options name; otherwise the systemd credential, if there is one; otherwise what is typed. Throws
 * Failure.
 */
export async function readSecret(options: SecretOptions, question = 'Passphrase: '): Promise<SlotSecret> {
  if (options.keyFile !== undefined) {
    if (options.passphraseFd !== undefined || options.recovery) throw new Failure('USAGE', 'give one secret: --key-file stands alone');
    return { type: 'key-file', bytes: readKeyFile(options.keyFile) };
  }
  const given = options.passphraseFd === undefined ? readCredential(options.recovery) : readDescriptor(options.passphraseFd);
  if (options.recovery) {
    return { type: 'recovery-words', words: given ?? (await ask('Recovery words: ', true)) };
  }
  return { type: 'passphrase', passphrase: given ?? (await ask(question)) };
}

/** A new passphrase, typed twice at a terminal. Throws Failure `USAGE` when the two differ. */
export async function readNewPassphrase(passphraseFd: number | undefined): Promise<SlotSecret> {
  const given = passphraseFd === undefined ? readCredential(false) : readDescriptor(passphraseFd);
  const text = given ?? (await ask('New passphrase: '));
  if (given === undefined && (await ask('Again: ')) !== text) throw new Failure('USAGE', 'the two passphrases differ: nothing was changed');
  if (text === '') throw new Failure('USAGE', 'an empty passphrase protects nothing: nothing was changed');
  return { type: 'passphrase', passphrase: text };
}

/** Reads the key file at `path`. If there is none, makes one of random bytes that only the owner can read. */
export function readOrMakeKeyFile(path: string, random: Random): SlotSecret {
  let fd: number;
  try {
    fd = openSync(path, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') {
      const bytes = readKeyFile(path);
      if (bytes.byteLength >= keyFileSizeMin) return { type: 'key-file', bytes };
      throw new Failure(
        'USAGE',
        `the key file ${printable(path)} has fewer than ${keyFileSizeMin} bytes: name one that is not there yet, and it is made; nothing was changed`,
      );
    }
    throw new Failure('USAGE', `the key file ${printable(path)} cannot be made: ${describeError(error)}`, { cause: error });
  }
  const bytes = random.bytes(keyFileSize);
  try {
    writeSync(fd, bytes);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  tell(`made the key file ${printable(path)}: keep a copy of it where the drive is not`);
  return { type: 'key-file', bytes };
}

function readKeyFile(path: string): Uint8Array {
  try {
    const fd = openSync(path, 'r');
    try {
      const { size, mode } = fstatSync(fd);
      if ((mode & 0o077) !== 0) tell(`warning: other users can read the key file: run "chmod 600 ${printable(path)}"`);
      const bytes = readAll(fd);
      if (size === 0 || bytes.byteLength === 0) throw new Failure('USAGE', `the key file ${printable(path)} is empty`);
      return bytes;
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure('USAGE', `the key file ${printable(path)} cannot be read: ${describeError(error)}`, { cause: error });
  }
}

function readDescriptor(fd: number): string {
  if (!Number.isInteger(fd) || fd < 0) throw new Failure('USAGE', '--passphrase-fd takes the number of an open file descriptor');
  try {
    return firstLine(readAll(fd));
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure('USAGE', `file descriptor ${fd} cannot be read: ${describeError(error)}`, { cause: error });
  }
}

/**
 * `$CREDENTIALS_DIRECTORY` names where systemd put credentials, not what they are (systemd.exec(5), LoadCredential=).
 */
function readCredential(recovery: boolean | undefined): string | undefined {
  const folder = environment()['CREDENTIALS_DIRECTORY'];
  if (!folder || recovery) return undefined;
  const path = join(folder, credentialName);
  try {
    statSync(path);
  } catch {
    return undefined;
  }
  const fd = openSync(path, 'r');
  try {
    return firstLine(readAll(fd));
  } finally {
    closeSync(fd);
  }
}

function readAll(fd: number): Uint8Array {
  const target = Buffer.alloc(secretSizeMax + 1);
  let length = 0;
  while (length < target.byteLength) {
    let count: number;
    try {
      count = readSync(fd, target, length, target.byteLength - length, null);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // A pipe that someone made non-blocking, with nothing in it yet.
      if (code === 'EAGAIN') {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
        continue;
      }
      if (code === 'EOF') break;
      throw error;
    }
    if (count === 0) break;
    length += count;
  }
  if (length > secretSizeMax) throw new Failure('USAGE', `a secret has at most ${secretSizeMax} bytes`);
  return target.subarray(0, length);
}

function firstLine(bytes: Uint8Array): string {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  try {
    return decoder.decode(bytes).replace(/\r?\n[^]*/, '');
  } catch (error) {
    throw new Failure('USAGE', 'the passphrase is not UTF-8 text', { cause: error });
  }
}
