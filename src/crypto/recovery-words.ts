/** Recovery words: 256 random bits as 24 English words of BIP-39, whose last word holds a checksum. */
import { entropyToMnemonic, mnemonicToEntropy } from '@scure/bip39';
import { wordlist } from '@scure/bip39/wordlists/english.js';
import type { Random } from '../base/random.js';
import { CryptoError } from './crypto-error.js';

const entropyLength = 32;

/** 24 new words, separated by spaces. */
export function newRecoveryWords(random: Random): string {
  return entropyToMnemonic(random.bytes(entropyLength), wordlist);
}

/**
 * The 32 bytes behind `words`; case and spacing do not matter. Throws {@link CryptoError} `WRONG_SECRET` for misspelt
 * words.
 */
export function recoveryWordsToBytes(words: string): Uint8Array {
  const canonical = words.normalize('NFKD').trim().toLowerCase().split(/\s+/).join(' ');
  try {
    const bytes = mnemonicToEntropy(canonical, wordlist);
    if (bytes.byteLength === entropyLength) return bytes;
  } catch {
    // The library's message quotes the words, so it does not become the cause.
  }
  throw new CryptoError('WRONG_SECRET', 'these are not 24 recovery words: one is misspelt, missing or in the wrong place');
}
