/**
 * The arguments, environment and working directory of this process, as text that loses no byte (base/system-text.ts).
 * Node.js decodes them as UTF-8 and puts U+FFFD in place of other bytes, which would name other files; the kernel still
 * has the bytes (proc(5)).
 */
import { readFileSync, readlinkSync } from 'node:fs';
import { userInfo } from 'node:os';
import { isAbsolute } from 'node:path';
import { decodeSystemText, encodeSystemText, isUnicode } from '../base/system-text.js';

export type Environment = Readonly<Record<string, string | undefined>>;

/** What Node.js makes of a byte that is no UTF-8; it may also have been there. */
const isDoubtful = (text: string | undefined): boolean => text?.includes('\ufffd') === true;

const asDecodedByNode = (bytes: Buffer): string => bytes.toString('utf8');

/** The strings of a list that the kernel ends with NUL each; empty where there is no /proc. */
function readStrings(path: string): Buffer[] {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch {
    return [];
  }
  const strings: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.indexOf(0, at);
    strings.push(bytes.subarray(at, end < 0 ? undefined : end));
    at = end < 0 ? bytes.length : end + 1;
  }
  return strings;
}

/**
 * `words`, which end the command line of this process, as they were typed. `undefined`: they hold what may have been
 * other bytes, and nobody can tell which.
 */
export function exactArguments(words: readonly string[]): readonly string[] | undefined {
  if (!words.some(isDoubtful)) return words;
  const raw = readStrings('/proc/self/cmdline').slice(-words.length);
  const isSame = raw.length === words.length && raw.every((bytes, index) => asDecodedByNode(bytes) === words[index]);
  return isSame ? raw.map(decodeSystemText) : undefined;
}

/** Variables that are not UTF-8, for a process that this one starts: Node.js would hand on what it made of them. */
const handedOn = 'SEALDRIVE_EXACT_ENVIRONMENT';

let exactVariables: ReadonlyMap<string, string> | undefined;

/** What the process was started with, where that is not UTF-8. */
function readExactVariables(): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const bytes of readStrings('/proc/self/environ')) {
    const text = decodeSystemText(bytes);
    const at = text.indexOf('=');
    if (at > 0 && !isUnicode(text)) found.set(text.slice(0, at), text.slice(at + 1));
  }
  // As written below, by our own kind.
  for (const [name, value] of Object.entries(JSON.parse(process.env[handedOn] ?? '{}') as Record<string, string>)) {
    found.set(name, decodeSystemText(Buffer.from(value, 'base64')));
  }
  return found;
}

/** process.env, with exact values. */
export function environment(): Environment {
  if (!Object.values(process.env).some(isDoubtful)) return process.env;
  exactVariables ??= readExactVariables();
  const exact: Record<string, string | undefined> = { ...process.env };
  for (const [name, value] of exactVariables) {
    // A value that was set since then stays.
    if (process.env[name] === asDecodedByNode(encodeSystemText(value))) exact[name] = value;
  }
  return exact;
}

/** The environment for a process of this program, in which {@link environment} finds the same. */
export function environmentToHandOn(): NodeJS.ProcessEnv {
  const exact = Object.entries(environment()).flatMap(([name, value]) =>
    value === undefined || isUnicode(value) ? [] : [[name, encodeSystemText(value).toString('base64')] as const],
  );
  return exact.length === 0 ? process.env : { ...process.env, [handedOn]: JSON.stringify(Object.fromEntries(exact)) };
}

/**
 * The home directory of this user: an absolute path, or `undefined` when HOME is something else, or is not set and
 * nobody has heard of the user.
 */
export function knownHome(): string | undefined {
  const set = environment()['HOME'] ?? '';
  let home: string;
  try {
    home = set === '' ? decodeSystemText(userInfo({ encoding: 'buffer' }).homedir) : set;
  } catch {
    return undefined;
  }
  return isAbsolute(home) ? home : undefined;
}

/**
 * Makes process.cwd(), and with it resolve() of node:path, tell the working directory exactly. Only where it is not
 * UTF-8: otherwise Node.js does that already.
 */
export function keepWorkingDirectoryExact(): void {
  let known: string;
  let bytes: Buffer;
  try {
    known = process.cwd();
    if (!isDoubtful(known)) return;
    bytes = readlinkSync('/proc/self/cwd', { encoding: 'buffer' });
  } catch {
    // It is gone, or there is no /proc: a caller that needs it will fail by itself.
    return;
  }
  if (asDecodedByNode(bytes) !== known) return;
  process.cwd = () => decodeSystemText(readlinkSync('/proc/self/cwd', { encoding: 'buffer' }));
}
