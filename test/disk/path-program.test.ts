/** Programs get a path unchanged, whatever its bytes. */
import { execFileSync } from 'node:child_process';
import t from 'tap';
import { encodeSystemText } from '../../src/base/system-text.js';
import { programWithPath } from '../../src/disk/path-program.js';

for (const path of ['/tmp/é', '-\udcff', '\udcffa\n\n', '\\0101 $(id) "\'\udc80', '\udcc07']) {
  t.test(`a program gets ${JSON.stringify(path)}`, async (t) => {
    const [program, parameters] = programWithPath('printf', ['%s', '--'], path);
    const printed = execFileSync(program, parameters);
    t.strictSame(printed, Buffer.concat([Buffer.from('--'), encodeSystemText(path)]));
  });
}
