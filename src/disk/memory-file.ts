/** An open file in memory, for data whose file was removed from the disk. Nothing of it survives this process. */
import type { DiskFile, DiskStat } from './disk.js';

export class MemoryFile implements DiskFile {
  #bytes = Buffer.alloc(0);
  #size = 0;

  async read(target: Uint8Array, position: number): Promise<number> {
    return this.readNow(target, position);
  }

  readNow(target: Uint8Array, position: number): number {
    return position >= this.#size ? 0 : this.#bytes.copy(target, 0, position, Math.min(this.#size, position + target.byteLength));
  }

  async write(bytes: Uint8Array, position: number): Promise<void> {
    this.writeSync(bytes, position);
  }

  writeSync(bytes: Uint8Array, position: number): void {
    this.#grow(position + bytes.byteLength);
    this.#bytes.set(bytes, position);
  }

  #grow(size: number): void {
    if (size > this.#bytes.byteLength) {
      const larger = Buffer.alloc(Math.max(size, 2 * this.#bytes.byteLength));
      this.#bytes.copy(larger);
      this.#bytes = larger;
    }
    this.#size = Math.max(this.#size, size);
  }

  async datasync(): Promise<void> {}

  async sync(): Promise<void> {}

  async truncate(size: number): Promise<void> {
    this.#grow(size);
    this.#bytes.fill(0, size);
    this.#size = size;
  }

  async allocate(size: number): Promise<void> {
    this.#grow(size);
  }

  async stat(): Promise<DiskStat> {
    return { kind: 'file', size: this.#size, allocated: 0, device: 0, ino: 0, linkCount: 0, mode: 0o600, group: 0, mtimeMs: 0 };
  }

  async setAccess(): Promise<void> {}

  isUnlinked(): boolean {
    return true;
  }

  async isAt(): Promise<boolean> {
    return false;
  }

  async close(): Promise<void> {}
}
