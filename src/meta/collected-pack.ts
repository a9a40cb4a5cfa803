/**
 * What the log says of a pack that is being collected (doc/format.md, "Tree keys"; doc/collecting.md).
 *
 * | field | encoding |
 * | --- | --- |
 * | version | u8 = 1 |
 * | state | u8: 1 condemned, 2 buried |
 * | since | varint: the number of the commit that condemned or buried it |
 * | size | varint |
 */
import { ByteReader, ByteWriter, MalformedBytesError } from '../base/bytes.js';

export interface CollectedPack {
  /** Nothing new may refer to a condemned pack; a buried one is to be deleted. */
  readonly state: 'condemned' | 'buried';
  readonly since: number;
  readonly size: number;
}

const version = 1;
const states = ['condemned', 'buried'] as const;

export function encodeCollectedPack({ state, since, size }: CollectedPack): Uint8Array {
  return new ByteWriter(24)
    .u8(version)
    .u8(states.indexOf(state) + 1)
    .varint(since)
    .varint(size)
    .finish();
}

/** Strict: throws MalformedBytesError. */
export function decodeCollectedPack(value: Uint8Array): CollectedPack {
  const reader = new ByteReader(value);
  if (reader.u8() !== version) throw new MalformedBytesError('a collected pack of an unknown version');
  const state = states[reader.u8() - 1];
  if (!state) throw new MalformedBytesError('a collected pack in an unknown state');
  const pack = { state, since: reader.varint(), size: reader.varint() };
  reader.end();
  return pack;
}
