/** What reading does to access times, by name. Apart from access-time.ts, since the command line knows the names and needs no filesystem for it. */

/**
 * The names of mount(8), and `lazy`: relatime's rule, and no commit for access times alone. `relatime` and `strictatime` also bring the times into
 * the store, and count each reading that a program can tell apart, so that the kernel must not answer from its caches what moves a time on.
 */
export const accessTimePolicies = ['lazy', 'relatime', 'strictatime', 'noatime'] as const;
export type AccessTimePolicy = (typeof accessTimePolicies)[number];

export const isExact = (policy: AccessTimePolicy): boolean => policy === 'relatime' || policy === 'strictatime';
