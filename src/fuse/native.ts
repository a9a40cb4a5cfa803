/**
 * Loads the native addon and gives its functions types. Which thread runs what, and who owns which buffer, is in
 * native/README.md. Nothing here knows an opcode.
 */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { FuseError } from './fuse-error.js';

/** Shape of the errors that the addon throws and rejects with. */
export interface NativeError extends Error {
  /** Name of the errno, such as `EBUSY`. */
  readonly code: string;
  readonly errno: number;
  /** The step that failed: `device`, `mount-point`, `mount`, `unmount`, `helper`, `helper-missing`, `session` ... */
  readonly stage: string;
}

export interface NativeMountOptions {
  /** A buffer when it is not UTF-8. */
  readonly mountPoint: string | Buffer;
  readonly source: string;
  readonly subtype: string;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly suid: boolean;
  readonly dev: boolean;
  readonly noatime: boolean;
  readonly strictatime: boolean;
  readonly nodiratime: boolean;
  readonly defaultPermissions: boolean;
  /** Use fusermount3 even as root. */
  readonly viaHelper: boolean;
}

export interface NativeUnmountOptions {
  /** MNT_DETACH: the name goes at once, the filesystem with its last user. */
  readonly lazy: boolean;
  /** MNT_FORCE: the kernel aborts the connection; root only. */
  readonly abort: boolean;
  readonly viaHelper: boolean;
}

export interface NativeSession {
  /** Names the session in the calls below; never used again. */
  readonly id: number;
  /** Holds the request while `onRequest` runs, and is overwritten after it. */
  readonly request: Uint8Array;
  /** What `reply` sends. */
  readonly reply: Uint8Array;
}

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

export interface NativeAddon {
  /** The descriptor of the connection, owned by the caller until `openSession` takes it over. */
  mount(options: NativeMountOptions): Promise<number>;
  unmount(mountPoint: string | Buffer, options: NativeUnmountOptions): Promise<number>;
  /**
   * Callbacks come on the event loop, never from within a call. After `onEnd` (an errno) there is no further request.
   */
  openSession(
    fd: number,
    requestSize: number,
    replySize: number,
    onRequest: (length: number) => void,
    onEnd: (errno: number) => void,
    onNotifyRoom: () => void,
  ): NativeSession;
  /** Sends the first `length` bytes of the reply buffer. The errno, 0 when done; EBADF when closed. */
  reply(session: number, length: number): number;
  /** The same followed by at most 1,023 pieces, which are read before it returns. */
  replyPieces(session: number, length: number, pieces: readonly Uint8Array[]): number;
  /**
   * Queues a copy of a FUSE_NOTIFY_* message for the notify thread. False when full: `onNotifyRoom` tells when to try
   * again.
   */
  notify(session: number, message: Uint8Array): boolean;
  /**
   * Whether the kernel has taken all of them (or the session is closed). False: `onNotifyRoom` is called when it has.
   */
  notifyDrained(session: number): boolean;
  /** No callback comes after it. Late calls do nothing. */
  closeSession(session: number): void;
  /** Off: no core dumps, no ptrace by the same user. */
  setDumpable(on: boolean): void;
  /** PR_SET_IO_FLUSHER for the calling thread. False without CAP_SYS_RESOURCE. */
  setIoFlusher(): boolean;
  /** sd_notify(3). False when not started by systemd. */
  notifySystemd(message: string): boolean;
  /**
   * Encrypts messages `[suite, at, key, aad, hashes or null, ...parts]` on the thread pool and puts them at `at` of
   * `target`: with a null as one AEAD message with a zero nonce, ciphertext and tag; with room for 32 bytes of hash for
   * each segment as a stream (doc/format.md, "The seal of a chunk"). All buffers must stay alive and unchanged until it
   * settles.
   */
  aeadEncrypt(target: Uint8Array, messages: readonly (readonly (number | Uint8Array | null)[])[]): Promise<number>;
  /**
   * Whether `sealed` (ciphertext, then tag) is authentic, with a zero nonce. Its plaintext is written to the beginning
   * of `target`, which may be `sealed` itself; if it is not authentic, `target` is wiped.
   */
  aeadDecrypt(suite: number, key: Uint8Array, aad: Uint8Array, sealed: Uint8Array, target: Uint8Array): boolean;
  /**
   * Opens consecutive segments of a stream, from number `first` on, into `target`, which has the length of their
   * plaintext; `hashes` are theirs. False, and `target` is wiped, when a tag or a hash is wrong.
   */
  streamOpen(suite: number, key: Uint8Array, aad: Uint8Array, hashes: Uint8Array, segments: Uint8Array, first: number, target: Uint8Array): boolean;
  /**
   * The same for each of `openings`, with the fields of {@link NativeAddon.streamOpen}, on the thread pool: 1 or 0 for
   * each goes to the bytes of `results`. All buffers must stay alive and unchanged until it settles.
   */
  streamOpenAll(openings: readonly (readonly (number | Uint8Array | null)[])[], results: Uint8Array): Promise<number>;
  /**
   * Reads from a file without waiting for its disk (RWF_NOWAIT). Answers how many bytes of `target` were filled, or -1
   * when it would have to wait or cannot know.
   */
  readNow(fd: number, target: Uint8Array, position: number): number;
  /**
   * The time that the kernel would give a change of a file now: writes seconds since 1970 and nanoseconds into an array
   * of two.
   */
  fileTime(target: Float64Array): void;
  /** flock(2), not waiting. False when held by another open file description. */
  lockExclusive(fd: number): boolean;
  /**
   * Whether another open file description holds that lock. Asking does not disturb others who ask. Not for a file that
   * this process locks.
   */
  isLocked(fd: number): boolean;
  /** SO_PEERCRED of a connected Unix socket. */
  peerCredentials(fd: number): PeerCredentials;
}

/**
 * The places of the addon; the first match wins: a prebuild that ships with the package, else the result of
 * `build:native`.
 */
export function addonCandidates(packageRoot: string, platform: string, arch: string): string[] {
  return [
    join(packageRoot, 'native', 'prebuilds', `${platform}-${arch}`, 'sealdrive.node'),
    join(packageRoot, 'native', 'build', 'Release', 'sealdrive.node'),
  ];
}

function findPackageRoot(): string {
  for (let folder = import.meta.dirname; ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'native', 'binding.gyp')) || existsSync(join(folder, 'native', 'prebuilds'))) return folder;
    if (dirname(folder) === folder) throw new FuseError('NO_ADDON', 'the native addon is not part of this installation');
  }
}

let loaded: NativeAddon | undefined;

/** The addon, loaded once. Throws FuseError `NO_ADDON` where there is none. */
export function loadNative(): NativeAddon {
  if (loaded !== undefined) return loaded;
  const path = addonCandidates(findPackageRoot(), process.platform, process.arch).find((candidate) => existsSync(candidate));
  if (path === undefined)
    throw new FuseError('NO_ADDON', `there is no native addon for ${process.platform}-${process.arch}: run "npm run build:native"`);
  try {
    loaded = createRequire(import.meta.url)(path) as NativeAddon;
  } catch (cause) {
    throw new FuseError('NO_ADDON', 'the native addon cannot be loaded', { cause });
  }
  return loaded;
}
