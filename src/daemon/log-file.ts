/**
 * The file for a daemon's log lines: of bounded size, in the state directory, with one predecessor. Writing is
 * synchronous, so that the last line before a crash is there. It never lies on the drive itself.
 */
import { closeSync, fstatSync, writeSync } from 'node:fs';
import { openSync, renameSync } from '../disk/files.js';

const defaultSizeMax = 8 * 1024 * 1024;

export interface LogFile {
  write(line: string): void;
  close(): void;
}

/** Appends to `path` (mode 0600); a file that passes `sizeMax` bytes becomes `path`.1, replacing the one before. */
export function openLogFile(path: string, sizeMax = defaultSizeMax): LogFile {
  let fd = openSync(path, 'a', 0o600);
  let size = fstatSync(fd).size;
  return {
    write(line) {
      try {
        if (size > sizeMax) {
          renameSync(path, `${path}.1`);
          closeSync(fd);
          fd = openSync(path, 'a', 0o600);
          size = 0;
        }
        size += writeSync(fd, line);
      } catch {
        // A full disk must not stop the drive from serving what it has: the line is lost.
      }
    },
    close: () => closeSync(fd),
  };
}
