/**
 * WebDAV for tests: lighttpd on loopback, with locations that require basic or digest authentication. Packages
 * `lighttpd` and `lighttpd-mod-webdav`.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort, isListening, reasonToSkip, ServerProcess } from './server-process.js';

const modules = '/usr/lib/lighttpd';

export function skipWebdav(): string | undefined {
  return reasonToSkip(
    'webdav',
    existsSync(join(modules, 'mod_webdav.so')) ? ['lighttpd', 'apache2'] : ['lighttpd', 'lighttpd-mod-webdav', 'apache2'],
  );
}

export class Lighttpd {
  /** The served folder: `open/`, `basic/`, `digest/` and `readonly/`. */
  readonly root: string;
  readonly port: number;
  readonly user = 'alice';
  readonly password = 'open "sesame" #1';
  readonly #process: ServerProcess;

  private constructor(root: string, port: number, process: ServerProcess) {
    this.root = root;
    this.port = port;
    this.#process = process;
  }

  get origin(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** `folder` must be empty; the caller removes it after {@link stop}. */
  static async start(folder: string): Promise<Lighttpd> {
    const root = join(folder, 'root');
    for (const name of ['root/open', 'root/basic', 'root/digest', 'root/readonly', 'tmp']) await mkdir(join(folder, name), { recursive: true });
    const port = await freePort();
    const [user, password, realm] = ['alice', 'open "sesame" #1', 'the vault'];
    const hash = createHash('sha256').update(`${user}:${realm}:${password}`).digest('hex');
    const md5 = createHash('md5').update(`${user}:${realm}:${password}`).digest('hex');
    await writeFile(join(folder, 'users'), `${user}:${realm}:${md5}\n${user}:${realm}:${hash}\n`);
    const require = (method: string, algorithm: string): string =>
      `( "method" => "${method}", "algorithm" => "${algorithm}", "realm" => "${realm}", "require" => "valid-user" )`;
    await writeFile(
      join(folder, 'lighttpd.conf'),
      `server.modules = ("mod_auth", "mod_authn_file", "mod_webdav")
server.document-root = "${root}"
server.port = ${port}
server.bind = "127.0.0.1"
server.upload-dirs = ("${folder}/tmp")
server.errorlog = "${folder}/error.log"
server.max-keep-alive-requests = 1000
mimetype.assign = ("" => "application/octet-stream")
webdav.activate = "enable"
auth.backend = "htdigest"
auth.backend.htdigest.userfile = "${folder}/users"
auth.require = ( "/basic/" => ${require('basic', 'MD5')}, "/digest/" => ${require('digest', 'MD5')} )
$HTTP["url"] =~ "^/readonly/" { webdav.is-readonly = "enable" }
`,
    );
    const process = new ServerProcess('lighttpd', ['-D', '-f', join(folder, 'lighttpd.conf'), '-m', modules]);
    try {
      await process.ready(() => isListening(port));
    } catch (error) {
      await process.kill();
      throw error;
    }
    return new Lighttpd(root, port, process);
  }

  /** Crashes the server with kill -9. */
  get pid(): number {
    return this.#process.pid;
  }

  stop(): Promise<void> {
    return this.#process.kill();
  }

  /** Starts it again after {@link stop}, at the same port and with its data. */
  async restart(): Promise<void> {
    this.#process.restart();
    await this.#process.ready(() => isListening(this.port));
  }

  /** Makes every request hang, or continue. */
  hold(isHeld: boolean): void {
    this.#process.signal(isHeld ? 'SIGSTOP' : 'SIGCONT');
  }
}
