/**
 * Checks whether this machine has what Sealdrive needs, for `doctor`, and for `mount` before it asks for a passphrase.
 * The facts come through {@link MachineProbe}, so that every finding can be tested.
 */
import { constants } from 'node:fs';
import { release } from 'node:os';
import { delimiter, join } from 'node:path';
import { describeError } from '../base/errors.js';
import { environment } from '../disk/environment.js';
import { accessSync, readFileSync, statfsSync, statSync } from '../disk/files.js';
import { loadNative } from '../fuse/native.js';
import { formatBytes } from '../terminal/terminal.js';

export interface MachineProbe {
  readonly platform: string;
  readonly nodeVersion: string;
  readonly kernelRelease: string;
  readonly uid: number;
  /** Whether the file exists, and whether we may read and write it (`usable`). */
  file(path: string): { readonly exists: boolean; readonly usable: boolean };
  /** Where the program lies on PATH. */
  findProgram(name: string): string | undefined;
  readText(path: string): string | undefined;
  /** Throws when the addon cannot be loaded. */
  loadAddon(): void;
  /** Bytes free for this user on the filesystem that holds `path`, or its nearest parent that exists. */
  freeBytes(path: string): number | undefined;
}

export interface Finding {
  /** Stable, for programs. */
  readonly id: string;
  /** `missing`: mounting will not work; `advice`: it will, but not as well or as safely as it could. */
  readonly state: 'ok' | 'advice' | 'missing';
  readonly text: string;
  /** What to do about it. */
  readonly remedy?: string;
}

const nodeFloor = [20, 19] as const;
/** 7.31 of the FUSE protocol came with Linux 5.4. */
const kernelFloor = [5, 4] as const;
const freeFloor = 1024 ** 3;

/** All findings, in the order in which they should be mended. `stateBase` is where local state will lie. */
export function examineMachine(probe: MachineProbe, stateBase: string): Finding[] {
  return [
    examineNode(probe),
    examineKernel(probe),
    examineAddon(probe),
    examineDevice(probe),
    examineHelper(probe),
    examineAllowOther(probe),
    examineSpace(probe, stateBase),
    examineSwap(probe),
  ];
}

function atLeast(version: string, floor: readonly [number, number]): boolean {
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number);
  return major > floor[0] || (major === floor[0] && minor >= floor[1]);
}

function examineNode(probe: MachineProbe): Finding {
  if (atLeast(probe.nodeVersion, nodeFloor)) return { id: 'node', state: 'ok', text: `Node.js ${probe.nodeVersion}` };
  return {
    id: 'node',
    state: 'missing',
    text: `Node.js ${probe.nodeVersion} is too old`,
    remedy: `install Node.js ${nodeFloor.join('.')} or newer`,
  };
}

function examineKernel(probe: MachineProbe): Finding {
  if (probe.platform !== 'linux') {
    return {
      id: 'kernel',
      state: 'advice',
      text: `the native driver is for Linux, this is ${probe.platform}`,
      remedy: 'mount with --driver fuse-native',
    };
  }
  if (atLeast(probe.kernelRelease, kernelFloor)) return { id: 'kernel', state: 'ok', text: `Linux ${probe.kernelRelease}` };
  return { id: 'kernel', state: 'missing', text: `Linux ${probe.kernelRelease} is too old`, remedy: `Linux ${kernelFloor.join('.')} is needed` };
}

function examineAddon(probe: MachineProbe): Finding {
  try {
    probe.loadAddon();
    return { id: 'addon', state: 'ok', text: 'the native addon loads' };
  } catch (error) {
    return {
      id: 'addon',
      state: 'missing',
      text: describeError(error),
      remedy: 'build it: "apt-get install build-essential python3", then "npm run build:native" in the folder of Sealdrive',
    };
  }
}

function examineDevice(probe: MachineProbe): Finding {
  const { exists, usable } = probe.file('/dev/fuse');
  if (usable) return { id: 'device', state: 'ok', text: '/dev/fuse can be opened' };
  if (!exists) {
    return {
      id: 'device',
      state: 'missing',
      text: 'there is no /dev/fuse',
      remedy: 'load the kernel module with "modprobe fuse" as root; a container needs "--device /dev/fuse --cap-add SYS_ADMIN"',
    };
  }
  return { id: 'device', state: 'missing', text: 'you may not open /dev/fuse', remedy: 'as root, "chmod 666 /dev/fuse" (what udev does by default)' };
}

function examineHelper(probe: MachineProbe): Finding {
  const path = probe.findProgram('fusermount3');
  if (path !== undefined) return { id: 'fusermount3', state: 'ok', text: `fusermount3 is ${path}` };
  return {
    id: 'fusermount3',
    state: probe.uid === 0 ? 'advice' : 'missing',
    text: probe.uid === 0 ? 'there is no fusermount3; root mounts without it' : 'there is no fusermount3, and only root may mount without it',
    remedy: 'apt-get install fuse3',
  };
}

function examineAllowOther(probe: MachineProbe): Finding {
  const isAllowed = probe.uid === 0 || /^\s*user_allow_other\s*$/m.test(probe.readText('/etc/fuse.conf') ?? '');
  if (isAllowed) return { id: 'allow-other', state: 'ok', text: '--allow-other is possible' };
  return {
    id: 'allow-other',
    state: 'ok',
    text: '--allow-other is not possible (few need it)',
    remedy: 'as root, add the line "user_allow_other" to /etc/fuse.conf',
  };
}

function examineSpace(probe: MachineProbe, stateBase: string): Finding {
  const free = probe.freeBytes(stateBase);
  if (free === undefined || free >= freeFloor) {
    return { id: 'space', state: 'ok', text: `${free === undefined ? 'unknown' : formatBytes(free)} free for cache and journal in ${stateBase}` };
  }
  return {
    id: 'space',
    state: 'advice',
    text: `only ${formatBytes(free)} free for cache and journal in ${stateBase}`,
    remedy: 'free some space, or name another place with --state-dir',
  };
}

/** Keys live in memory; the daemon leaves no core dumps, but swap is the kernel's. */
function examineSwap(probe: MachineProbe): Finding {
  const swaps = (probe.readText('/proc/swaps') ?? '').trim().split('\n').slice(1);
  const plain = swaps.map((line) => line.split(/\s+/, 1).join('')).filter((name) => name !== '' && !/^\/dev\/(dm-|mapper|zram)/.test(name));
  if (plain.length === 0) return { id: 'swap', state: 'ok', text: 'no plain swap' };
  return {
    id: 'swap',
    state: 'advice',
    text: `swap that may not be encrypted: ${plain.join(', ')}; keys and content in memory can end up there`,
    remedy: 'use zram or encrypted swap',
  };
}

export const systemProbe: MachineProbe = {
  platform: process.platform,
  nodeVersion: process.versions.node,
  kernelRelease: release(),
  uid: process.getuid?.() ?? -1,
  file(path) {
    try {
      accessSync(path, constants.R_OK | constants.W_OK);
      return { exists: true, usable: true };
    } catch (error) {
      return { exists: (error as NodeJS.ErrnoException).code !== 'ENOENT', usable: false };
    }
  },
  findProgram(name) {
    const folders = [...(environment()['PATH'] ?? '').split(delimiter), '/usr/bin', '/bin', '/usr/local/bin'];
    return folders
      .filter((folder) => folder !== '')
      .map((folder) => join(folder, name))
      .find((path) => {
        try {
          accessSync(path, constants.X_OK);
          return statSync(path).isFile();
        } catch {
          return false;
        }
      });
  },
  readText(path) {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return undefined;
    }
  },
  loadAddon: () => void loadNative(),
  freeBytes(path) {
    for (let at = path; ; at = join(at, '..')) {
      try {
        const { bavail, bsize } = statfsSync(at);
        return bavail * bsize;
      } catch (error) {
        if (at === '/' || (error as NodeJS.ErrnoException).code !== 'ENOENT') return undefined;
      }
    }
  },
};
