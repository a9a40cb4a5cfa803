/** The native addon, if there is one: the portable driver and most commands run without it. */
import { FuseError } from '../fuse/fuse-error.js';
import type { NativeAddon } from '../fuse/native.js';
import { loadNative } from '../fuse/native.js';

export function findAddon(): NativeAddon | undefined {
  try {
    return loadNative();
  } catch (error) {
    if (error instanceof FuseError && error.code === 'NO_ADDON') return undefined;
    throw error;
  }
}
