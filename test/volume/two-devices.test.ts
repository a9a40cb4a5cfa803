/**
 * Tests two devices that work at random on one store, through real volumes: they work at the same time, commit in any
 * order, die and come back. In the end both must show the same tree, and all content must be there that nobody
 * overwrote or removed knowingly.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { systemDisk } from '../../src/disk/system-disk.js';
import { MemoryStore } from '../../src/store/memory-store.js';
import { scratchDirectory } from '../suite/scratch.js';
import { SeededRandom, testSeed } from '../suite/seeded-random.js';
import { createTestVolume, TestDevice, type TestVolume } from '../suite/test-device.js';

const rounds = Number(process.env['TEST_ROUNDS'] ?? 6);
const stepsPerRound = 120;
const names = ['a', 'b', 'c.txt', 'd', 'e.tar.gz', 'f'];

class Worker {
  readonly name: string;
  readonly #volume: TestVolume;
  readonly #directory: string;
  readonly #random: SeededRandom;
  readonly #lost: Set<string>;
  readonly #alive: Set<string>;
  /** The exact content that only this device has. */
  readonly own = new Map<string, string>();
  device: TestDevice;
  #count = 0;

  private constructor(
    name: string,
    volume: TestVolume,
    directory: string,
    random: SeededRandom,
    alive: Set<string>,
    lost: Set<string>,
    device: TestDevice,
  ) {
    this.name = name;
    this.#volume = volume;
    this.#directory = directory;
    this.#random = random;
    this.#alive = alive;
    this.#lost = lost;
    this.device = device;
  }

  static async start(
    name: string,
    volume: TestVolume,
    directory: string,
    random: SeededRandom,
    alive: Set<string>,
    lost: Set<string>,
  ): Promise<Worker> {
    await mkdir(directory, { recursive: true });
    const worker = new Worker(name, volume, directory, random, alive, lost, await Worker.open(name, volume, directory));
    await worker.device.mkdir(`of-${name}`);
    return worker;
  }

  static open(name: string, volume: TestVolume, directory: string): Promise<TestDevice> {
    // Small folds make checkpoints of both devices cross.
    return TestDevice.open(volume, { disk: systemDisk, stateDirectory: directory, deviceName: name, foldBounds: { entries: 80, bytes: 1 << 30 } });
  }

  /** Content unlike that of any other write; sometimes large enough to become chunks. */
  #content(): string {
    const token = `<${this.name}-${this.#count++}>`;
    return this.#random.below(3) === 0 ? token.padEnd(3000 + this.#random.below(9000), '.') : token;
  }

  async step(): Promise<void> {
    const { device } = this;
    switch (this.#random.below(12)) {
      case 0:
        return device.volume.flush();
      case 1:
        return device.volume.refresh();
      case 2:
      case 3:
      case 4:
        return this.#writeShared();
      case 5:
        return this.#removeShared();
      case 6:
        return this.#renameShared();
      case 7:
        // As after kill -9: memory is lost, closed files are in the journal.
        if (this.#random.below(4) > 0) return undefined;
        await device.volume.close();
        this.device = await Worker.open(this.name, this.#volume, this.#directory);
        return undefined;
      default:
        return this.#writeOwn();
    }
  }

  async #writeShared(): Promise<void> {
    const path = names[this.#random.below(names.length)];
    const content = this.#content();
    if (await this.device.exists(path!)) {
      this.#lose(await this.device.text(path!));
      await this.device.truncate(path!, 0);
    }
    await this.device.write(path!, content);
    this.#alive.add(content);
  }

  async #removeShared(): Promise<void> {
    const present = (await this.device.list()).filter((name) => !name.startsWith('of-') && name !== 'lost+found');
    if (present.length === 0) return;
    const path = present[this.#random.below(present.length)];
    this.#lose(await this.device.text(path!));
    await this.device.unlink(path!);
  }

  async #renameShared(): Promise<void> {
    const from = names[this.#random.below(names.length)];
    const to = names[this.#random.below(names.length)];
    if (from === to || !(await this.device.exists(from!))) return;
    if (await this.device.exists(to!)) this.#lose(await this.device.text(to!));
    await this.device.rename(from!, to!);
  }

  async #writeOwn(): Promise<void> {
    const path = `of-${this.name}/${this.#random.below(20)}`;
    if (this.own.has(path) && this.#random.below(3) === 0) {
      await this.device.unlink(path);
      this.own.delete(path);
      return;
    }
    const content = this.#content();
    if (this.own.has(path)) await this.device.truncate(path, 0);
    await this.device.write(path, content);
    this.own.set(path, content);
  }

  /** The device has seen this content and removes it. */
  #lose(content: string): void {
    this.#lost.add(content);
  }
}

for (let round = 0; round < rounds; round++) {
  const seed = testSeed() + round;
  t.test(`two devices end up with the same tree and lose nothing (TEST_SEED=${seed} TEST_ROUNDS=1)`, async (t) => {
    const random = new SeededRandom(seed);
    const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
    const scratch = await scratchDirectory(t);
    const alive = new Set<string>();
    const lost = new Set<string>();
    const workers = [
      await Worker.start('anna', volume, join(scratch, 'anna'), random, alive, lost),
      await Worker.start('bert', volume, join(scratch, 'bert'), random, alive, lost),
    ];
    for (let step = 0; step < stepsPerRound; step++) await workers[random.below(2)]!.step();
    // Two passes: a rebase on the second device may produce commits for the first.
    for (let pass = 0; pass < 2; pass++) for (const { device } of workers) await device.volume.flush();
    for (const { device } of workers) await device.volume.refresh();
    const [first, second] = await Promise.all(workers.map(({ device }) => device.picture()));
    t.strictSame(first, second, 'the same tree');
    const contents = new Set(Object.values(first!));
    for (const content of alive) if (!lost.has(content)) t.ok(contents.has(content), `${content.slice(0, 20)} is somewhere`);
    for (const { own } of workers) for (const [path, content] of own) t.equal(first![path], content, path);
    for (const { device } of workers) await device.close();
  });
}

void t.test('a conflict copy whose content another device has put survives a restart before it is committed', async (t) => {
  for (const change of ['overwrite', 'remove', 'overwrite and remove'] as const) {
    const scratch = await scratchDirectory(t);
    const volume = await createTestVolume(new MemoryStore({ disk: systemDisk }));
    const open = async (deviceName: string): Promise<TestDevice> => {
      const stateDirectory = join(scratch, deviceName);
      await mkdir(stateDirectory, { recursive: true });
      return TestDevice.open(volume, { disk: systemDisk, stateDirectory, deviceName });
    };
    const one = await open('one');
    let two = await open('two');
    const content = new SeededRandom(testSeed()).bytes(60_000);
    await one.write('theirs', content);
    await one.volume.flush();
    await two.volume.refresh();
    await two.write('mine', 'before');
    await two.clone('theirs', 'copy');
    await two.write('mine', 'after it');
    if (change !== 'remove') await one.write('theirs', 'other bytes', 1000);
    if (change !== 'overwrite') await one.unlink('theirs');
    await one.volume.flush();
    // Now the copy refers to a pack that is not on this disk.
    await two.volume.refresh();
    await two.close();
    two = await open('two');
    t.ok((await two.read('copy')).equals(content), `${change}: the copy is whole`);
    t.equal(await two.text('mine'), 'after it', `${change}: and so is what was written after it`);
    await two.volume.flush();
    await one.volume.refresh();
    t.ok((await one.read('copy')).equals(content), `${change}: for the other device, too`);
    await one.close();
    await two.close();
  }
});
