/** The form of a device's name that other devices and the names of conflict copies show. */
import t from 'tap';
import { newDevice } from '../../src/commit/device.js';
import { cleanDeviceName } from '../../src/commit/device-name.js';
import { systemRandom } from '../../src/crypto/system-random.js';

const rows: readonly (readonly [given: string, kept: string])[] = [
  ['laptop', 'laptop'],
  ["Zoë's Büro-PC", "Zoë's Büro-PC"],
  ['a\u202eb\u2066c\u200fd', 'a_b_c_d'],
  ['\u009b31m\u001b[0m\u0000\n', '_31m_[0m__'],
  ['../../etc', '_.._etc'],
  ['...hidden. ', 'hidden'],
  ['', 'device'],
  ['. .', 'device'],
  ['x'.repeat(100), 'x'.repeat(60)],
  ['a\ud800b', 'a_b'],
];

for (const [given, kept] of rows) {
  t.test(`a device called ${JSON.stringify(given).slice(0, 30)} is ${kept.slice(0, 20)}`, async (t) => {
    t.equal(cleanDeviceName(given), kept);
    t.equal(newDevice(given, systemRandom).device.name, kept, 'in the roster');
  });
}
