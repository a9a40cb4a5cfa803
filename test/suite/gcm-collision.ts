/**
 * The "invisible salamander" (Dodis, Grubbs, Ristenpart, Woodage, 2018): a message that AES-GCM accepts as authentic
 * under two keys. Tests use it to show that the seal's commitment is needed and works.
 */
import { createCipheriv } from 'node:crypto';

type Element = bigint;

const toElement = (bytes: Uint8Array): Element => BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
const toBytes = (element: Element): Buffer => Buffer.from(element.toString(16).padStart(32, '0'), 'hex');

/** Multiplication in the field of GCM, whose bits are reflected: the leftmost is the coefficient of 1. */
function multiply(x: Element, y: Element): Element {
  let product = 0n;
  let shifted = y;
  for (let bit = 127n; bit >= 0n; bit--) {
    if ((x >> bit) & 1n) product ^= shifted;
    shifted = shifted & 1n ? (shifted >> 1n) ^ (0xe1n << 120n) : shifted >> 1n;
  }
  return product;
}

/** x^(2^128 - 2). */
function invert(x: Element): Element {
  let result = 1n << 127n;
  let square = x;
  for (let bit = 1; bit < 128; bit++) {
    square = multiply(square, square);
    result = multiply(result, square);
  }
  return result;
}

function encryptBlock(key: Uint8Array, block: Uint8Array): Buffer {
  const cipher = createCipheriv('aes-256-ecb', key, null).setAutoPadding(false);
  return Buffer.concat([cipher.update(block), cipher.final()]);
}

/** The tag as a function of the one ciphertext block: fixed + block * factor. */
function tagParts(key: Uint8Array, aad: Uint8Array): { fixed: Element; factor: Element } {
  const h = toElement(encryptBlock(key, Buffer.alloc(16)));
  let hash = 0n;
  for (let at = 0; at < aad.byteLength; at += 16) {
    const block = Buffer.alloc(16);
    block.set(aad.subarray(at, at + 16));
    hash = multiply(hash ^ toElement(block), h);
  }
  const lengths = Buffer.alloc(16);
  lengths.writeBigUInt64BE(BigInt(aad.byteLength) * 8n, 0);
  lengths.writeBigUInt64BE(128n, 8);
  const counter = Buffer.alloc(16);
  counter[15] = 1;
  const factor = multiply(h, h);
  return { fixed: multiply(hash, factor) ^ multiply(toElement(lengths), h) ^ toElement(encryptBlock(key, counter)), factor };
}

/** Sixteen bytes of ciphertext and a tag, authentic for `aad` under both keys with the nonce zero. */
export function collideGcm(key1: Uint8Array, key2: Uint8Array, aad: Uint8Array): Buffer {
  const a = tagParts(key1, aad);
  const b = tagParts(key2, aad);
  const block = multiply(a.fixed ^ b.fixed, invert(a.factor ^ b.factor));
  return Buffer.concat([toBytes(block), toBytes(a.fixed ^ multiply(block, a.factor))]);
}
