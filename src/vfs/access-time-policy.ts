/**
 * The policies for access times, by name. They are apart from `access-time.ts` because the command line needs the names
 * only (doc/semantics.md, "Access times").
 */

/**
 * The names of mount(8), and `lazy`: relatime's rule, with no commit for access times alone. `relatime` and
 * `strictatime` also bring the times into the store and count each reading that a program can tell apart, so the kernel
 * must not answer from its caches a read that would move a time on.
 */
export const accessTimePolicies = ['lazy', 'relatime', 'strictatime', 'noatime'] as const;
export type AccessTimePolicy = (typeof accessTimePolicies)[number];

export const isExact = (policy: AccessTimePolicy): boolean => policy === 'relatime' || policy === 'strictatime';
