/** SFTP for tests: OpenSSH's server on loopback, for the user who runs the tests. Package `openssh-server`. */
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { freePort, isListening, reasonToSkip, runTool, ServerProcess } from './server-process.js';

export const skipSftp = (): string | undefined => reasonToSkip('sftp', ['sshd', 'ssh-keygen']);

export class Sshd {
  readonly port: number;
  readonly user = userInfo().username;
  /** A directory for stores. */
  readonly root: string;
  /** The key of a user who is admitted. */
  readonly keyPath: string;
  /** The key of a user who is not. */
  readonly strangerKeyPath: string;
  /** A file of known hosts that has the server's key. */
  readonly knownHostsPath: string;
  readonly #process: ServerProcess;

  private constructor(folder: string, port: number, process: ServerProcess) {
    this.port = port;
    this.root = join(folder, 'root');
    this.keyPath = join(folder, 'user');
    this.strangerKeyPath = join(folder, 'stranger');
    this.knownHostsPath = join(folder, 'known_hosts');
    this.#process = process;
  }

  /** `folder` must be empty; the caller removes it after {@link stop}. */
  static async start(folder: string): Promise<Sshd> {
    const port = await freePort();
    await mkdir(join(folder, 'root'));
    // The empty folder to which sshd confines itself before authentication.
    if (process.getuid?.() === 0) await mkdir('/run/sshd', { recursive: true, mode: 0o755 });
    for (const name of ['host', 'user', 'stranger']) runTool('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)]);
    await writeFile(join(folder, 'authorized_keys'), await readFile(join(folder, 'user.pub'), 'utf8'), { mode: 0o600 });
    const [type, key] = (await readFile(join(folder, 'host.pub'), 'utf8')).split(' ');
    // The key is valid at any port, since proxies are in front of the server.
    await writeFile(join(folder, 'known_hosts'), `[127.0.0.1]:* ${type} ${key}\n`);
    for (const path of [folder, dirname(folder)]) await chmod(path, 0o755);
    await writeFile(
      join(folder, 'sshd_config'),
      `Port ${port}
ListenAddress 127.0.0.1
HostKey ${folder}/host
PidFile ${folder}/sshd.pid
AuthorizedKeysFile ${folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
MaxStartups 100
Subsystem sftp internal-sftp
`,
    );
    const child = new ServerProcess('sshd', ['-D', '-e', '-f', join(folder, 'sshd_config')]);
    try {
      await child.ready(() => isListening(port));
    } catch (error) {
      await child.kill();
      throw error;
    }
    return new Sshd(folder, port, child);
  }

  /** Crashes the server and all sessions with kill -9. */
  stop(): Promise<void> {
    return this.#process.kill();
  }

  /** Starts it again after {@link stop}, at the same port, with the same keys. */
  async restart(): Promise<void> {
    this.#process.restart();
    await this.#process.ready(() => isListening(this.port));
  }

  /** Makes every session hang, or continue. */
  hold(isHeld: boolean): void {
    this.#process.signal(isHeld ? 'SIGSTOP' : 'SIGCONT');
  }
}
