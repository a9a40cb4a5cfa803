/** The fuse-native driver on the real kernel: the shared suite, as far as its table of capabilities goes. */
import t from 'tap';
import { portableCapabilities } from '../../src/fuse/driver-capabilities.js';
import { portableDriver } from '../../src/fuse/portable-driver.js';
import { driverSuite, whyNoFuse } from '../suite/driver-suite.js';

const skip = whyNoFuse();

void t.test('without handles', { skip }, async (t) => driverSuite(t, portableDriver, portableCapabilities));
void t.test('with handles', { skip }, async (t) => driverSuite(t, portableDriver, portableCapabilities, { filesystem: { withOpen: true } }));
