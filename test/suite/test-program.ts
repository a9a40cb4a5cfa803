/** The version of the program that tests write into commits. */
import type { ProgramVersion } from '../../src/commit/program-version.js';

export const testProgram: ProgramVersion = [0, 1, 2];
