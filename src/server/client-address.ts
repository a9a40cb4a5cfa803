/**
 * The address of a client as a party with a share of the server: the owner of one IPv6 address has all 2^64 of its
 * network.
 */
import { isIPv4, isIPv6 } from 'node:net';

/** An IPv4 address (also one written as IPv6), the first 64 bits of an IPv6 address, or `unknown`. */
export function partyOf(address: string | undefined): string {
  if (address === undefined) return 'unknown';
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined && isIPv4(mapped)) return mapped;
  if (!isIPv6(address)) return isIPv4(address) ? address : 'unknown';
  // A zone (`%eth0`) belongs to our side.
  const [front = '', back] = address.toLowerCase().replace(/%.*/, '').split('::');
  const before = front === '' ? [] : front.split(':');
  const after = back === undefined || back === '' ? [] : back.split(':');
  const zeros = back === undefined ? 0 : Math.max(0, 8 - before.length - after.length);
  const groups = [...before, ...Array.from({ length: zeros }, () => '0'), ...after];
  return `${groups
    .slice(0, 4)
    .map((group) => group.replace(/^0+(?=.)/, ''))
    .join(':')}::/64`;
}
