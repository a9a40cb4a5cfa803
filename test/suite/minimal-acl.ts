/** The ACL that nine permission bits stand for (acl(5)). */
import { ACL_GROUP_OBJ, ACL_OTHER, ACL_USER_OBJ, type Acl } from '../../src/vfs/acl.js';

/** The id of an entry without a user or group. */
const noId = 0xffffffff;

export function minimalAcl(mode: number): Acl {
  return [
    { tag: ACL_USER_OBJ, permission: (mode >> 6) & 7, id: noId },
    { tag: ACL_GROUP_OBJ, permission: (mode >> 3) & 7, id: noId },
    { tag: ACL_OTHER, permission: mode & 7, id: noId },
  ];
}
