/**
 * The collector's files in the state directory (doc/format.md, "Local files"): the accounts of all packs in 256 parts,
 * by the first byte of the id, and a head that names the files that count. A new state takes the place of the old one
 * by the replacement of the head. What does not open or decode is as if it were not there: it can be made anew.
 *
 * Head, `collection/head`: version u8 = 1, then
 *
 * | field | encoding |
 * | --- | --- |
 * | step | varint: how many trees were accounted, one after the other |
 * | covers, root? | varint; u8 0 or 1 and a page reference 56: the accounted tree |
 * | wall | u53, ms since 1970: when it was written |
 * | observations | list of: head, accounted, age in ms: varint each |
 * | snapshots | list of: tree (pack of its root 16, offset u32), step varint; u8 0, or 1 and ms since it went varint |
 * | parts | 256 x varint: the number in the name of the part's file; 0: it has no packs |
 *
 * Part, `collection/<2 hex>-<number>`: version u8 = 1, list of: pack id 16, size + 1 varint (0: the volume does not
 * name it), account (`pack-account.ts`).
 *
 * Each is a framed seal of kind device, whose place is its name.
 */
import { join } from 'node:path';
import type { Plaintext } from '../base/brand.js';
import { ByteReader, ByteWriter, fromHex, MalformedBytesError, toHex } from '../base/bytes.js';
import { CryptoError } from '../crypto/crypto-error.js';
import type { SealKey } from '../crypto/seal-key.js';
import type { Disk } from '../disk/disk.js';
import { ensureDirectory, readWholeFile, replaceFile } from '../disk/whole-file.js';
import type { PackId } from '../pack/pack-id.js';
import { type PageReference, readPageReference, writePageReference } from '../pack/page-reference.js';
import type { Observation } from './observations.js';
import { boundedCount, type PackAccount, readAccount, writeAccount } from './pack-account.js';

export interface AccountedPack {
  /** Bytes; `undefined` when the accounted tree has no entry for it. */
  readonly size: number | undefined;
  readonly account: PackAccount;
}

/** A snapshot that this collector has seen. */
export interface SeenSnapshot {
  /** Of its tree: see {@link treeIdOf}. */
  readonly tree: string;
  /** The step at which its tree was accounted. */
  readonly step: number;
  /** For how long it has not been there any more, by this collector's clock; `undefined`: it is there. */
  readonly goneMs: number | undefined;
}

/** A tree by the place of its root: two devices may fold the same commits into different trees. */
export const treeIdOf = (root: PageReference | undefined): string => (root ? `${root.pack} ${root.offset}` : 'empty');

export interface AccountHead {
  /** Trees are accounted one after the other, whatever commits they cover: this is the number of the last one. */
  readonly step: number;
  readonly covers: number;
  readonly root: PageReference | undefined;
  readonly wallMs: number;
  readonly observations: readonly Observation[];
  readonly snapshots: readonly SeenSnapshot[];
}

export type AccountPart = ReadonlyMap<PackId, AccountedPack>;

export interface AccountPlace {
  readonly disk: Disk;
  readonly stateDirectory: string;
  /** A key of kind device. */
  readonly key: SealKey;
}

export const partCount = 256;
const version = 1;

export const partOf = (pack: PackId): number => Number.parseInt(pack.slice(0, 2), 16);

/** The accounts as they were last saved, or none. */
export class AccountFiles {
  readonly #place: AccountPlace;
  readonly #directory: string;
  #head: AccountHead | undefined;
  #numbers: readonly number[];

  private constructor(place: AccountPlace, head: AccountHead | undefined, numbers: readonly number[]) {
    this.#place = place;
    this.#directory = join(place.stateDirectory, 'collection');
    this.#head = head;
    this.#numbers = numbers;
  }

  /** Throws disk errors. */
  static async open(place: AccountPlace): Promise<AccountFiles> {
    const found = await readSealed(place, 'head', readHead);
    return new AccountFiles(place, found?.head, found?.numbers ?? noParts);
  }

  /** `undefined` when nothing was accounted yet, or it was lost. */
  get head(): AccountHead | undefined {
    return this.#head;
  }

  /** `undefined` when it is damaged. Throws disk errors. */
  async read(part: number): Promise<AccountPart | undefined> {
    const number = this.#numbers[part] ?? 0;
    return number === 0 ? new Map() : readSealed(this.#place, partName(part, number), readPart);
  }

  /**
   * Replaces the head and these parts, together; with `isWhole`, all other parts are empty from then on. Throws disk
   * errors; then the old state stays.
   */
  async save(head: AccountHead, changed: ReadonlyMap<number, AccountPart>, isWhole: boolean): Promise<void> {
    const { disk } = this.#place;
    await ensureDirectory(disk, this.#directory);
    const next = 1 + Math.max(0, ...this.#numbers);
    const numbers = isWhole ? [...noParts] : [...this.#numbers];
    for (const [part, accounts] of changed) {
      numbers[part] = accounts.size === 0 ? 0 : next;
      if (accounts.size > 0) await this.#write(partName(part, next), encodePart(accounts));
    }
    await this.#write('head', encodeHead(head, numbers));
    [this.#head, this.#numbers] = [head, numbers];
    const kept = new Set(numbers.flatMap((number, part) => (number === 0 ? [] : [partName(part, number)])));
    for (const { name } of await disk.readDirectory(this.#directory))
      if (name !== 'head' && !kept.has(name)) await disk.unlink(join(this.#directory, name));
  }

  #write(name: string, bytes: Uint8Array): Promise<void> {
    const { disk, key } = this.#place;
    return replaceFile(disk, join(this.#directory, name), key.seal(placeOf(name), bytes as Plaintext));
  }
}

const noParts: readonly number[] = Array.from({ length: partCount }, () => 0);
const partName = (part: number, number: number): string => `${part.toString(16).padStart(2, '0')}-${number}`;
const placeOf = (name: string): Uint8Array => Buffer.from(`collection/${name}`, 'latin1');

async function readSealed<T>({ disk, stateDirectory, key }: AccountPlace, name: string, read: (reader: ByteReader) => T): Promise<T | undefined> {
  const sealed = await readWholeFile(disk, join(stateDirectory, 'collection', name));
  if (!sealed) return undefined;
  try {
    const reader = new ByteReader(key.open(placeOf(name), sealed));
    if (reader.u8() !== version) return undefined;
    const value = read(reader);
    reader.end();
    return value;
  } catch (error) {
    if (error instanceof CryptoError || error instanceof MalformedBytesError) return undefined;
    throw error;
  }
}

function encodeHead({ step, covers, root, wallMs, observations, snapshots }: AccountHead, numbers: readonly number[]): Uint8Array {
  const writer = new ByteWriter(1024)
    .u8(version)
    .varint(step)
    .varint(covers)
    .u8(root ? 1 : 0);
  if (root) writePageReference(writer, root);
  writer.u53(wallMs).varint(observations.length);
  for (const { head, accounted, ageMs } of observations) writer.varint(head).varint(accounted).varint(Math.floor(ageMs));
  writer.varint(snapshots.length);
  for (const { tree, step: at, goneMs } of snapshots) {
    const [pack = '', offset = ''] = tree.split(' ');
    writer
      .bytes(fromHex(pack))
      .u32(Number(offset))
      .varint(at)
      .u8(goneMs === undefined ? 0 : 1);
    if (goneMs !== undefined) writer.varint(Math.floor(goneMs));
  }
  for (const number of numbers) writer.varint(number);
  return writer.finish();
}

function readHead(reader: ByteReader): { readonly head: AccountHead; readonly numbers: readonly number[] } {
  const [step, covers] = [reader.varint(), reader.varint()];
  const root = reader.u8() === 1 ? readPageReference(reader) : undefined;
  const wallMs = reader.u53();
  const observations = readList(reader, () => ({ head: reader.varint(), accounted: reader.varint(), ageMs: reader.varint() }));
  const snapshots = readList(reader, () => {
    const tree = `${toHex(reader.bytes(16))} ${reader.u32()}`;
    return { tree, step: reader.varint(), goneMs: reader.u8() === 1 ? reader.varint() : undefined };
  });
  const numbers = Array.from({ length: partCount }, () => reader.varint());
  return { head: { step, covers, root, wallMs, observations, snapshots }, numbers };
}

function encodePart(accounts: AccountPart): Uint8Array {
  const writer = new ByteWriter(64 + accounts.size * 48).u8(version).varint(accounts.size);
  for (const [pack, { size, account }] of accounts) {
    writer.bytes(fromHex(pack)).varint(size === undefined ? 0 : size + 1);
    writeAccount(writer, account);
  }
  return writer.finish();
}

function readPart(reader: ByteReader): AccountPart {
  return new Map(
    readList(reader, () => {
      const pack = toHex(reader.bytes(16)) as PackId;
      const size = reader.varint();
      return [pack, { size: size === 0 ? undefined : size - 1, account: readAccount(reader) }] as const;
    }),
  );
}

const readList = <T>(reader: ByteReader, read: () => T): T[] => Array.from({ length: boundedCount(reader) }, read);
