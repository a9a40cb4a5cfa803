/** Runs the independent reader (contrib/reader). */
import { execFile } from 'node:child_process';
import { sourcePath } from '../mount/posix-probe.js';

const reader = sourcePath('contrib', 'reader', 'sealdrive_reader.py');
// Debian's own, which has Debian's packages.
const python = '/usr/bin/python3';

export interface ReaderResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export function runReader(...options: readonly string[]): Promise<ReaderResult> {
  return new Promise((resolve, reject) => {
    execFile(python, [reader, ...options], { maxBuffer: 64 * 1024 * 1024 }, (error, stdout, stderr) => {
      if (error && typeof error.code !== 'number') reject(error);
      else resolve({ code: error ? Number(error.code) : 0, stdout, stderr });
    });
  });
}
