/**
 * A second WebDAV server for tests: Apache's mod_dav_fs, whose conditional puts sometimes have two winners. Package
 * `apache2-bin`.
 */
import { chmod, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { freePort, isListening, ServerProcess } from './server-process.js';

const modules = '/usr/lib/apache2/modules';

export class Apache {
  readonly root: string;
  readonly port: number;
  readonly #process: ServerProcess;

  private constructor(root: string, port: number, process: ServerProcess) {
    this.root = root;
    this.port = port;
    this.#process = process;
  }

  get origin(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** `folder` must be empty and in a folder of the test; the caller removes it after {@link stop}. */
  static async start(folder: string): Promise<Apache> {
    const root = join(folder, 'root');
    const state = join(folder, 'state');
    for (const path of [root, state]) {
      await mkdir(path);
      await chmod(path, 0o777);
    }
    // When root starts the server it runs as another user, who must be able to reach the folder.
    for (const path of [folder, dirname(folder)]) await chmod(path, 0o755);
    const port = await freePort();
    const load = ['mpm_event', 'authz_core', 'dav', 'dav_fs'].map((name) => `LoadModule ${name}_module ${modules}/mod_${name}.so`).join('\n');
    await writeFile(
      join(folder, 'apache.conf'),
      `${load}
ServerRoot "${folder}"
ServerName localhost
Listen 127.0.0.1:${port}
PidFile "${folder}/apache.pid"
ErrorLog "${folder}/error.log"
DocumentRoot "${root}"
User www-data
Group www-data
DavLockDB "${state}/lock"
KeepAlive On
MaxKeepAliveRequests 0
<Directory "${root}">
Dav On
Require all granted
</Directory>
`,
    );
    const process = new ServerProcess('apache2', ['-X', '-f', join(folder, 'apache.conf')]);
    try {
      await process.ready(() => isListening(port));
    } catch (error) {
      await process.kill();
      throw error;
    }
    return new Apache(root, port, process);
  }

  stop(): Promise<void> {
    return this.#process.kill();
  }
}
