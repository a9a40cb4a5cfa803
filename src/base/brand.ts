/**
 * Nominal types over plain ones: a branded value can be used as its base type, but not the other way round.
 * A brand is given only by the decoder or allocator that establishes what it claims.
 */
declare const brandKey: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brandKey]: Name };

/** Bytes that nobody but a holder of the volume's keys may see. Stores and local files do not accept them. */
export type Plaintext = Brand<Uint8Array, 'Plaintext'>;
/** Bytes that came out of the seal (or are public by design, such as a keyslot's header): safe to hand to anyone. */
export type Sealed = Brand<Uint8Array, 'Sealed'>;
/** A name or link target as raw bytes, one char (0..255) a byte: what Node.js calls latin1. No Unicode is implied. */
export type ByteString = string;
