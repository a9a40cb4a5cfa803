/**
 * One volume mounted twice on this machine, as two devices, with an application on each side: for tests and benchmarks.
 */
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { Drive } from './drive-process.js';
import { Probe } from './posix-probe.js';

export interface DrivePairOptions {
  /** An empty folder on another filesystem than the drives; the caller removes it. */
  readonly scratch: string;
  /** The location of a volume that does not exist yet. */
  readonly store: string;
  /** The environment that the kind of store needs. */
  readonly environment?: Readonly<Record<string, string>>;
  readonly mountOptions?: readonly string[];
}

export interface Side {
  readonly drive: Drive;
  readonly probe: Probe;
  /** The path of a name of the volume on this side. */
  at(name: string): string;
}

export class DrivePair {
  readonly left: Side;
  readonly right: Side;

  private constructor(left: Side, right: Side) {
    this.left = left;
    this.right = right;
  }

  /**
   * Both mounted; the devices are called `left` and `right`. `onMade` gets each drive once there is something to clean
   * up.
   */
  static async start({ scratch, store, environment = {}, mountOptions = [] }: DrivePairOptions, onMade: (drive: Drive) => void): Promise<DrivePair> {
    const makeDrive = (name: string): Drive =>
      new Drive({ scratch: join(scratch, name), store, environment, withKeyFile: true, mountOptions: ['--device-name', name, ...mountOptions] });
    const [left, right] = [makeDrive('left'), makeDrive('right')];
    for (const drive of [left, right]) onMade(drive);
    await left.init();
    await mkdir(join(scratch, 'right'), { recursive: true });
    await copyFile(join(scratch, 'left', 'key'), join(scratch, 'right', 'key'));
    const sideOf = async (drive: Drive): Promise<Side> => {
      await drive.mount();
      return { drive, probe: await Probe.start(), at: (name) => join(drive.directory, name) };
    };
    return new DrivePair(await sideOf(left), await sideOf(right));
  }

  async unmount(): Promise<void> {
    for (const { drive, probe } of [this.left, this.right]) {
      await probe.close();
      await drive.unmount();
    }
  }
}

/** Polls until `look` returns a value that `isRight`, or until `patienceMs` have passed; returns the last value. */
export async function ask<T>(look: () => Promise<T>, isRight: (answer: T) => boolean, patienceMs = 30_000): Promise<T> {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const answer = await look();
    if (isRight(answer) || performance.now() > deadline) return answer;
    await wait(10);
  }
}
