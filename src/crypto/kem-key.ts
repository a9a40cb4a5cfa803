/** The sizes of what X-Wing makes (x-wing.ts), in bytes, for those who store it without loading that. */
export const kemSeedLength = 32;
export const kemPublicKeyLength = 1216;
export const encapsulationLength = 1120;
