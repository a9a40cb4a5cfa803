/** PADMÉ (Nikitin et al., PETS 2019): padded sizes that leak O(log log n) bits and cost at most 12 %. */

/** The padded size for `length` bytes (0 .. 2^53): at least `length`, the same for many lengths. */
export function padmeLength(length: number): number {
  if (length < 2) return length;
  const exponent = Math.floor(Math.log2(length));
  const kept = Math.floor(Math.log2(exponent)) + 1;
  const unit = 2 ** Math.max(0, exponent - kept);
  return Math.ceil(length / unit) * unit;
}
