/** Times of the past as they are typed (doc/past.md). */
import t from 'tap';
import { readPastTime } from '../../src/cli/past-time.js';
import { Failure } from '../../src/terminal/exit-code.js';

const now = Date.UTC(2026, 7, 22, 12);

t.test('durations, dates, snapshots and numbers are told apart', async (t) => {
  for (const [word, wanted] of [
    ['2h ago', { timeMs: now - 7_200_000 }],
    ['30m', { timeMs: now - 1_800_000 }],
    ['1.5d ago', { timeMs: now - 129_600_000 }],
    ['2w ago', { timeMs: now - 14 * 86_400_000 }],
    ['2026-08-20T10:00:00Z', { timeMs: Date.UTC(2026, 7, 20, 10) }],
    ['2026-08-20 10:00+02:00', { timeMs: Date.UTC(2026, 7, 20, 8) }],
    ['2026-08-20 10:00', { timeMs: new Date(2026, 7, 20, 10).getTime() }],
    ['2026-08-20T10.00.00Z', { snapshot: '2026-08-20T10.00.00Z' }],
    ['2026-08-20T10.00.00Z-Grüße', { snapshot: Buffer.from('2026-08-20T10.00.00Z-Grüße').toString('latin1') }],
    ['@17', { sequence: 17 }],
  ] as const)
    t.strictSame(readPastTime(word, now), wanted, word);
});

t.test('anything else is refused', async (t) => {
  for (const word of ['', 'yesterday', '@', '@x', 'ago', '2026-13-40', '10:00', '2 moons ago'])
    t.throws(() => readPastTime(word, now), Failure, word);
});
