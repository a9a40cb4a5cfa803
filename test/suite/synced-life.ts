/**
 * One life of a volume in folders that a sync client keeps alike, with real devices, from a seed: they write, restart,
 * lose links, lose and damage files of the log, and their state directories are copied and restored. Then all links are
 * up, and the devices go on until nothing changes any more.
 */
import { cpSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from '../../src/base/logger.js';
import { checkVolume } from '../../src/check/check-volume.js';
import type { Features } from '../../src/commit/features.js';
import { systemRandom } from '../../src/crypto/system-random.js';
import { systemDisk } from '../../src/disk/system-disk.js';
import type { SeededRandom } from '../model/seeded-random.js';
import { type ConflictRule, SyncedFolders } from '../simulation/synced-folders.js';
import { Tally } from '../simulation/tally.js';
import { FolderStore, type StoredFile } from './folder-store.js';
import { createTestVolume, TestDevice, type TestVolume } from './test-device.js';

export interface LifeOptions {
  readonly random: SeededRandom;
  /** An empty directory for state directories. */
  readonly directory: string;
  readonly conflicts: ConflictRule;
  readonly features: Features;
  readonly logger: Logger;
  /** Whether state directories are copied, and taken back to earlier copies. */
  readonly clones: boolean;
}

export interface LifeEnd {
  /** What is not as it should be, in words. */
  readonly findings: readonly string[];
  readonly tally: Tally;
}

interface Member {
  readonly name: string;
  readonly store: FolderStore;
  readonly folder: number;
  readonly state: string;
  device: TestDevice | undefined;
}

const roundsMax = 60;

export async function liveInFolders(options: LifeOptions): Promise<LifeEnd> {
  const life = new SyncedLife(options);
  try {
    await life.begin();
    for (let tick = 0; tick < 60; tick++) await life.tick();
    await life.settle();
    await life.goOn();
    await life.settle();
    await life.judge();
  } finally {
    await life.close();
  }
  return { findings: [...new Set(life.findings)], tally: life.tally };
}

class SyncedLife {
  readonly tally = new Tally();
  readonly findings: string[] = [];
  readonly #options: LifeOptions;
  readonly #random: SeededRandom;
  readonly #folders: SyncedFolders;
  readonly #files = new Map<string, StoredFile>();
  readonly #members: Member[] = [];
  /** Content that must be somewhere at the end, by path. */
  readonly #acknowledged = new Map<string, string>();
  #volume: TestVolume | undefined;
  #count = 0;

  constructor(options: LifeOptions) {
    this.#options = options;
    const { random, conflicts } = options;
    this.#random = random;
    const pieces = random.pick([0, 0.3]);
    this.#folders = new SyncedFolders({ folders: 2 + random.below(2), conflicts, pieces, random, tally: this.tally });
  }

  async begin(): Promise<void> {
    const { features } = this.#options;
    const first = this.#store(0);
    this.#volume = await createTestVolume(first, { features, keyFile: systemRandom.bytes(32) });
    this.#folders.finish();
    for (const { index } of this.#folders.folders) this.#join(`m${index}`, index);
    await this.#open(this.#member(0));
    this.#folders.finish();
  }

  #store(index: number): FolderStore {
    const folder = this.#folders.folders[index];
    if (!folder) throw new RangeError('no such folder');
    return new FolderStore(systemDisk, folder, this.#files);
  }

  #member(index: number): Member {
    const member = this.#members[index];
    if (!member) throw new RangeError('no such device');
    return member;
  }

  #join(name: string, folder: number, from?: string): void {
    const state = join(this.#options.directory, name);
    if (from) cpSync(from, state, { recursive: true });
    else mkdirSync(state);
    this.#members.push({ name, store: this.#store(folder), folder, state, device: undefined });
  }

  async #open(member: Member): Promise<void> {
    const { logger } = this.#options;
    const volume = this.#volume;
    if (!volume || member.device) return;
    try {
      const { store } = member;
      const options = { disk: systemDisk, stateDirectory: member.state, deviceName: member.name, logger };
      member.device = await TestDevice.open({ ...volume, store }, options);
    } catch (error) {
      this.tally.add(`opening failed: ${String(error)}`);
    }
  }

  async tick(): Promise<void> {
    const random = this.#random;
    const { folders } = this.#folders;
    this.#folders.now++;
    for (const a of folders)
      for (const b of folders) {
        if (a.index >= b.index) continue;
        if (random.chance(0.15)) this.#folders.setLink(a.index, b.index, random.chance(0.5));
      }
    this.#folders.run(random.pick([1, 4, 10]));
    const member = random.pick(this.#members);
    await this.#open(member);
    const { device } = member;
    if (!device) return;
    await this.#quietly(() => this.#act(member, device));
  }

  async #act(member: Member, device: TestDevice): Promise<void> {
    const random = this.#random;
    const step = random.below(20);
    if (step < 7) return this.#save(member, device);
    if (step < 10) return this.#disturb(device);
    if (step < 13) return device.volume.flush();
    if (step < 16) return device.volume.refresh();
    if (step === 16) return this.#restart(member);
    if (step === 17) return this.#strike(member);
    if (step === 18 && this.#options.clones) return this.#copy(member);
    return device.volume.flush();
  }

  /** Errors of the store are not what is asked about here; what was acknowledged is. */
  async #quietly(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.tally.add(`refused: ${String((error as Error).cause ?? error)}`);
    }
  }

  /** A file of its own, which must stay. */
  async #save({ name }: Member, device: TestDevice): Promise<void> {
    const random = this.#random;
    const folder = random.pick(['', 'x', 'y']);
    const path = `${folder === '' ? '' : `${folder}/`}${name}-${this.#count++}`;
    const content = `${path} `.repeat(random.pick([1, 3, 20_000]));
    if (folder !== '' && !(await device.exists(folder))) await device.mkdir(folder);
    await device.write(path, content);
    this.#acknowledged.set(path, content);
    this.tally.add('files');
  }

  /** Changes that meet those of others. */
  async #disturb(device: TestDevice): Promise<void> {
    const random = this.#random;
    const [path, other] = [random.pick(['s', 'x/s', 't']), random.pick(['t', 'y/t', 'u'])];
    const step = random.below(4);
    if (step < 2) return device.write(path, `shared ${this.#count++}`);
    if (!(await device.exists(path))) return;
    if (step === 2) await device.rename(path, other);
    else await device.unlink(path);
  }

  async #restart(member: Member): Promise<void> {
    const { device } = member;
    member.device = undefined;
    await device?.close();
    this.tally.add('restarts');
  }

  /** Somebody, or the sync client, removes or damages a file of the log. */
  #strike({ store, folder }: Member): void {
    const random = this.#random;
    const place = this.#folders.folders[folder];
    const names = [...(place?.names('log/') ?? [])].filter((name) => !/^log\/000000000000000[012]-/.test(name) && !name.includes('.sync'));
    if (!place || names.length === 0) return;
    const name = random.pick(names);
    const isDamage = random.chance(0.3);
    place.change(name, isDamage ? store.file(systemRandom.bytes(100)) : undefined);
    this.tally.add(isDamage ? 'files damaged' : 'files deleted');
  }

  /** Its state directory is copied; later another machine, or this one, begins with that. */
  async #copy(member: Member): Promise<void> {
    await this.#restart(member);
    const kept = `${member.state}-kept`;
    if (!existsSync(kept)) {
      cpSync(member.state, kept, { recursive: true });
    } else if (this.#random.chance(0.5) && this.#members.length < 5) {
      this.#join(`c${this.#members.length}`, member.folder, kept);
      this.tally.add('clones');
      rmSync(kept, { recursive: true });
    }
  }

  async settle(): Promise<void> {
    for (const a of this.#folders.folders) for (const b of this.#folders.folders) if (a !== b) this.#folders.setLink(a.index, b.index, true);
    let last = '';
    for (let round = 1, quiet = 0; round <= roundsMax && quiet < 3; round++) {
      this.#folders.now++;
      this.#folders.finish();
      for (const member of this.#members) {
        // One that may not write any more has a reason that ends with a start.
        if (member.device?.volume.details()['commit']?.['stopped'] && !member.device.volume.hasStopped) await this.#restart(member);
        await this.#open(member);
        const { device } = member;
        // So often that what the store has is checked as well.
        for (let count = 0; count < 9; count++) await this.#quietly(async () => device?.volume.refresh());
        await this.#quietly(async () => device?.volume.flush());
        this.#folders.finish();
      }
      const picture = this.#members
        .map(({ device }) => `${JSON.stringify(device?.volume.details()['commit'])} ${device?.volume.pending().operations}`)
        .join(', ');
      quiet = picture === last ? quiet + 1 : 0;
      last = picture;
      this.tally.note('rounds', round);
      if (round === roundsMax) this.findings.push('it never ends');
    }
  }

  /** All can still write, which also fills what was left open at the end of the log. */
  async goOn(): Promise<void> {
    for (const member of this.#members) await this.#quietly(async () => member.device && this.#save(member, member.device));
  }

  async judge(): Promise<void> {
    let first: string | undefined;
    for (const { device, name } of this.#members) {
      if (!device) {
        this.findings.push('a device cannot be opened');
        continue;
      }
      if (device.volume.pending().operations > 0) this.findings.push('a device has something left to put');
      if (device.volume.hasStopped) this.findings.push('a device has stopped');
      const picture = await device.picture().catch((error: unknown) => ({ error: `${name}: ${String(error)}` }));
      const text = JSON.stringify(Object.entries(picture).toSorted(([a], [b]) => (a < b ? -1 : 1)));
      if ('error' in picture) this.findings.push(`a device cannot read: ${picture.error}`);
      first ??= text;
      if (first !== text) this.findings.push('devices show different trees');
      const contents = new Set(Object.values(picture));
      for (const content of this.#acknowledged.values()) if (!contents.has(content)) this.findings.push('an acknowledged file is lost');
    }
    const volume = this.#volume;
    if (!volume) return;
    const { report } = await checkVolume({ ...volume, random: systemRandom, data: true, names: true });
    for (const { code, severity } of report.findings) if (severity === 'fatal' || severity === 'error') this.findings.push(`check finds ${code}`);
  }

  async close(): Promise<void> {
    for (const { device } of this.#members) await device?.close().catch(() => {});
  }
}
