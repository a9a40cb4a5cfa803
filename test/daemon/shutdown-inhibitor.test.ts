/** The lock that delays a shutdown of the machine while there are uploads. */
import t from 'tap';
import { silentLogger } from '../../src/base/logger.js';
import { ShutdownInhibitor } from '../../src/daemon/shutdown-inhibitor.js';
import { StepClock } from '../suite/step-clock.js';

function createWorld(granted: boolean) {
  const clock = new StepClock();
  const world = { clock, busy: false, begun: 0, ended: 0 };
  const inhibitor = new ShutdownInhibitor({
    begin: () => {
      world.begun++;
      return { isGranted: () => granted, end: () => void world.ended++ };
    },
    isBusy: () => world.busy,
    clock,
    logger: silentLogger,
  });
  inhibitor.start();
  return { world, inhibitor };
}

t.test('shutdown is inhibited while an upload takes longer than a moment, and allowed afterwards', async (t) => {
  const { world, inhibitor } = createWorld(true);
  await world.clock.advance(10_000);
  t.equal(world.begun, 0);
  world.busy = true;
  await world.clock.advance(1500);
  world.busy = false;
  await world.clock.advance(5000);
  t.equal(world.begun, 0, 'a short upload is nobody’s business');
  world.busy = true;
  await world.clock.advance(60_000);
  t.equal(world.begun, 1);
  t.equal(inhibitor.isHeld, true);
  world.busy = false;
  await world.clock.advance(2000);
  t.equal(world.ended, 1);
  t.equal(inhibitor.isHeld, false);
  world.busy = true;
  await world.clock.advance(10_000);
  inhibitor.stop();
  t.strictSame([world.begun, world.ended], [2, 2]);
});

t.test('a system that refuses the inhibitor is asked only once', async (t) => {
  const { world } = createWorld(false);
  world.busy = true;
  await world.clock.advance(60_000);
  t.strictSame([world.begun, world.ended], [1, 1]);
});
