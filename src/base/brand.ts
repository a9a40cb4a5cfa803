/**
 * Nominal types over plain ones: a branded value can be used as its base type, but not the other way round.
 * Only the decoder or allocator that establishes the claim of a brand gives it.
 */
declare const brandKey: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brandKey]: Name };

/** Bytes that only a holder of the volume's keys may see. Stores and local files do not accept them. */
export type Plaintext = Brand<Uint8Array, 'Plaintext'>;
/** Bytes that came out of the seal (or are public by design, such as a keyslot's header): safe to hand to anyone. */
export type Sealed = Brand<Uint8Array, 'Sealed'>;
/** A name or link target as raw bytes, one char (0..255) per byte, which Node.js calls latin1. It need not be text. */
export type ByteString = string;
