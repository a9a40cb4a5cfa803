/** Part of the POSIX suite (posix-suite.ts): access control lists, kept and enforced. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { alice, bob, guests, type It, type Place, staff } from './posix-place.js';

const run = promisify(execFile);

export function aclTests(it: It): void {
  const set = (p: Place, ...argument: string[]): Promise<unknown> => run('setfacl', argument, { cwd: p.path });
  const get = async (p: Place, path: string): Promise<string[]> => {
    const { stdout } = await run('getfacl', ['-cpn', path], { cwd: p.path });
    return stdout
      .split('\n')
      .map((line) => line.replace(/\s*#effective.*/, ''))
      .filter((line) => line !== '');
  };
  it('an ACL is kept and shown as set', 'acls', async (t, p) => {
    await p.file('f', '', 0o640);
    await set(p, '-m', `u:${alice}:rw,g:${guests}:r`, 'f');
    t.same(await get(p, 'f'), ['user::rw-', `user:${alice}:rw-`, 'group::r--', `group:${guests}:r--`, 'mask::rw-', 'other::---']);
    t.equal(await p.mode('f'), 0o660, 'the group bits show the mask');
  });
  it('an ACL lets a named user and group in, and keeps others out', 'acls', 'otherUsers', async (t, p) => {
    await p.file('f', 'x', 0o600);
    await set(p, '-m', `u:${alice}:rw,g:${guests}:r`, 'f');
    await p.as(alice, staff);
    await p.ok('close', await p.open('f', 'O_RDWR'));
    await p.as(bob, guests);
    t.equal(await p.text('f'), 'x');
    await p.fails('EACCES', 'open', 'f', 'O_WRONLY');
    await p.as(bob, staff);
    await p.fails('EACCES', 'open', 'f', 'O_RDONLY');
  });
  it('an ACL can take away what the mode would give', 'acls', 'otherUsers', async (_, p) => {
    await p.file('f', 'x', 0o644);
    await set(p, '-m', `u:${alice}:-`, 'f');
    await p.as(alice, staff);
    await p.fails('EACCES', 'open', 'f', 'O_RDONLY');
    await p.as(bob, staff);
    await p.ok('close', await p.open('f', 'O_RDONLY'));
  });
  it('chmod of the group bits limits named users by the mask', 'acls', 'otherUsers', async (t, p) => {
    await p.file('f', 'x', 0o600);
    await set(p, '-m', `u:${alice}:rw`, 'f');
    await p.ok('chmod', 'f', 0o640);
    t.ok((await get(p, 'f')).includes('mask::r--'));
    await p.as(alice, staff);
    await p.ok('close', await p.open('f', 'O_RDONLY'));
    await p.fails('EACCES', 'open', 'f', 'O_WRONLY');
  });
  it('a default ACL is inherited by files and directories', 'acls', async (t, p) => {
    await p.ok('mkdir', 'd', 0o755);
    await set(p, '-d', '-m', `u::rwx,u:${alice}:rwx,g::r-x,o::-`, 'd');
    await p.ok('close', await p.open('d/f', 'O_CREAT|O_WRONLY', 0o666));
    await p.ok('mkdir', 'd/sub', 0o777);
    t.same(await get(p, 'd/f'), ['user::rw-', `user:${alice}:rwx`, 'group::r-x', 'mask::rw-', 'other::---']);
    t.same(
      (await get(p, 'd/sub')).filter((line) => line.startsWith('default:')),
      ['default:user::rwx', `default:user:${alice}:rwx`, 'default:group::r-x', 'default:mask::rwx', 'default:other::---'],
    );
    t.ok((await get(p, 'd/sub')).includes(`user:${alice}:rwx`));
  });
  it('a default ACL takes the place of the umask', 'acls', async (t, p) => {
    await p.ok('mkdir', 'd');
    await set(p, '-d', '-m', 'u::rwx,g::rwx,o::rx', 'd');
    await p.ok('umask', 0o077);
    await p.ok('close', await p.open('d/f', 'O_CREAT|O_WRONLY', 0o666));
    t.equal(await p.mode('d/f'), 0o664);
  });
  it('removing the ACL leaves the mode', 'acls', async (t, p) => {
    await p.file('f', '', 0o640);
    await set(p, '-m', `u:${alice}:r`, 'f');
    await set(p, '-b', 'f');
    t.same(await get(p, 'f'), ['user::rw-', 'group::r--', 'other::---']);
    t.same((await p.probe.need('listxattr', 'f')).names ?? [], []);
  });
  it('a default ACL on a file is refused', 'acls', async (_, p) => {
    await p.file('f');
    const acl = Buffer.from('0200000001000700ffffffff04000500ffffffff20000500ffffffff', 'hex');
    await p.fails('EACCES', 'setxattr', 'f', 'system.posix_acl_default', acl);
  });
}
