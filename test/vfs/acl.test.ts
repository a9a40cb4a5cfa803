import { execFileSync } from 'node:child_process';
import t from 'tap';
import { fromHex, toHex } from '../../src/base/bytes.js';
import {
  ACL_GROUP,
  ACL_GROUP_OBJ,
  ACL_MASK,
  ACL_OTHER,
  ACL_USER,
  ACL_USER_OBJ,
  type Acl,
  aclAfterChmod,
  decodeAcl,
  encodeAcl,
  inheritAcl,
  isMinimalAcl,
  permissionBitsOf,
} from '../../src/vfs/acl.js';
import { minimalAcl } from '../suite/minimal-acl.js';

const none = 0xffffffff;
const extended: Acl = [
  { tag: ACL_USER_OBJ, permission: 6, id: none },
  { tag: ACL_USER, permission: 7, id: 1000 },
  { tag: ACL_GROUP_OBJ, permission: 5, id: none },
  { tag: ACL_GROUP, permission: 4, id: 100 },
  { tag: ACL_MASK, permission: 4, id: none },
  { tag: ACL_OTHER, permission: 1, id: none },
];

t.test('an ACL is encoded as the kernel does and decoded again', async (t) => {
  const bytes = encodeAcl(extended);
  t.equal(Buffer.from(bytes.subarray(0, 20)).toString('hex'), '0200000001000600ffffffff02000700e8030000');
  t.same(decodeAcl(bytes), extended);
});

t.test('malformed ACLs are refused with EINVAL', async (t) => {
  const refused: [string, Acl][] = [
    ['empty', []],
    ['no owner', extended.slice(1)],
    ['no mask', extended.filter(({ tag }) => tag !== ACL_MASK)],
    ['out of order', extended.toReversed()],
    ['two owners', [extended[0]!, ...extended]],
    ['two masks', [...extended.slice(0, 5), extended[4]!, extended[5]!]],
    ['permission over 7', [{ ...extended[0]!, permission: 8 }, ...extended.slice(1)]],
    ['unknown tag', [...extended, { tag: 0x40, permission: 0, id: none }]],
  ];
  for (const [what, acl] of refused) t.throws(() => decodeAcl(encodeAcl(acl)), { code: 'EINVAL' }, what);
  const bytes = encodeAcl(extended);
  for (let length = 0; length < bytes.byteLength; length++) t.throws(() => decodeAcl(bytes.subarray(0, length)), { code: 'EINVAL' });
  t.throws(() => decodeAcl(Buffer.from([1, 0, 0, 0])), { code: 'EOPNOTSUPP' });
});

t.test('the mode shows owner, mask and others', async (t) => {
  t.equal(permissionBitsOf(extended), 0o641);
  t.equal(permissionBitsOf(minimalAcl(0o752)), 0o752);
  t.ok(isMinimalAcl(minimalAcl(0o644)));
  t.notOk(isMinimalAcl(extended));
});

t.test('chmod changes the mask where there is one, else the group', async (t) => {
  const changed = aclAfterChmod(extended, 0o100770);
  t.equal(permissionBitsOf(changed), 0o770);
  t.equal(changed[2]!.permission, 5, 'the owning group stays');
  t.equal(changed[1]!.permission, 7, 'named users stay');
  t.equal(permissionBitsOf(aclAfterChmod(minimalAcl(0o644), 0o751)), 0o751);
});

t.test('a new inode gets the default ACL, masked by its mode', async (t) => {
  const { mode, access } = inheritAcl(extended, 0o100666);
  t.equal(mode, 0o100640);
  t.equal(access[4]!.permission, 4);
  t.equal(access[1]!.permission, 7, 'named entries are limited by the mask only');
  t.equal(inheritAcl(minimalAcl(0o775), 0o42777).mode, 0o42775, 'special bits stay');
});

t.test('ACLs written by setfacl are understood', { skip: hasSetfacl() ? false : 'no setfacl here' }, async (t) => {
  const directory = t.testdir({ file: '' });
  execFileSync('setfacl', ['-m', 'u:1000:rwx,g:100:r,m::r', `${directory}/file`]);
  const text = execFileSync('getfattr', ['-n', 'system.posix_acl_access', '-e', 'hex', '--absolute-names', `${directory}/file`], {
    encoding: 'utf8',
  });
  const hex = /posix_acl_access=0x([0-9a-f]+)/.exec(text)?.[1] ?? '';
  t.not(hex, '');
  t.equal(toHex(encodeAcl(decodeAcl(fromHex(hex)))), hex);
});

function hasSetfacl(): boolean {
  try {
    execFileSync('setfacl', ['--version'], { stdio: 'ignore' });
    execFileSync('getfattr', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    if (process.env['TEST_REQUIRE']?.split(',').includes('acl')) throw new Error('setfacl is required and not there');
    return false;
  }
}
