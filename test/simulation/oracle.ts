/** What must be true at the end of a simulated life. It returns what is not, in words. */
import type { Life } from './scenario.js';
import { authorOfOperation, isForged, type OperationId, operationId, type SimulatedCommit } from './simulated-commit.js';

export interface Promises {
  /** Nothing that a device has received is missing, whether its author came back or not, and nothing is forged. */
  readonly keepsAll: boolean;
}

export function judge(life: Life, promises: Promises): string[] {
  const { rounds, staying, participants, tally } = life;
  if (rounds === undefined) return ['it never ends'];
  const [first] = staying;
  if (!first) return [];
  const findings: string[] = [];
  const heads = new Set(staying.map(({ device }) => device.head?.id));
  if (heads.size > 1) findings.push('devices have different heads');
  for (const { device } of staying) {
    if (device.isStopped) findings.push('a device has stopped');
    if (device.hasPending) findings.push('a device has something left to write');
    if (device.isRemoved) findings.push('a device takes itself for removed');
  }
  const { history } = first.device;
  const counts = new Map<OperationId, number>();
  for (const { operations } of history) for (const operation of operations) counts.set(operation, (counts.get(operation) ?? 0) + 1);
  if (!isInOrder(history)) findings.push('operations of one device are out of order');
  for (const count of counts.values()) if (count > 1) findings.push('an operation was done twice');
  for (const { acknowledged } of staying) {
    for (const operation of acknowledged) if (!counts.has(operation)) findings.push('an acknowledged operation is lost');
  }
  findings.push(...judgeRemovals(life));
  // What others had received of those who did not stay.
  const known = new Set(
    staying.flatMap(({ device }) =>
      [...device.known].flatMap(({ operations, carries }) => operations.filter((operation) => !carries.has(operation))),
    ),
  );
  const abandoned = [...known].filter((operation) => !isForged(operation) && !counts.has(operation));
  tally.add('forged operations in the history', [...counts.keys()].filter(isForged).length);
  tally.add('received operations missing at the end', abandoned.length);
  tally.add(
    'operations of those who did not stay',
    participants.filter((one) => !staying.includes(one)).reduce((sum, one) => sum + one.acknowledged.length, 0),
  );
  if (promises.keepsAll && [...counts.keys()].some(isForged)) findings.push('a forged operation is in the history');
  if (promises.keepsAll && abandoned.length > 0) findings.push('an operation that others had received is lost');
  countInversions(life, counts);
  return [...new Set(findings)];
}

/** Of each device, what is in the history is what it wrote first, in its order. */
function isInOrder(history: readonly SimulatedCommit[]): boolean {
  const next = new Map<number, number>();
  for (const operation of history.flatMap(({ operations }) => operations)) {
    const author = authorOfOperation(operation);
    if (isForged(operation)) continue;
    if (operation !== operationId(author, next.get(author) ?? 0)) return false;
    next.set(author, (next.get(author) ?? 0) + 1);
  }
  return true;
}

function judgeRemovals({ staying, participants }: Life): string[] {
  const history = staying[0]?.device.history ?? [];
  const removed = new Set(history.map(({ removes }) => removes));
  return participants.some(({ device, isRemoved }) => isRemoved && !removed.has(device.index)) ? ['a removal was undone'] : [];
}

/**
 * Operations that came into the history before what they were built on, or without it. What a removed device wrote goes
 * away on purpose.
 */
function countInversions({ dependencies, participants, tally }: Life, counts: ReadonlyMap<OperationId, number>): void {
  const removed = new Set(participants.filter(({ isRemoved }) => isRemoved).map(({ device }) => device.index));
  const places = new Map([...counts.keys()].map((operation, place) => [operation, place]));
  for (const [operation, basis] of dependencies) {
    const place = places.get(operation);
    if (place === undefined || removed.has(authorOfOperation(basis)) || isForged(basis)) continue;
    const at = places.get(basis);
    if (at === undefined || at > place) tally.add('operations before what they build on');
  }
}
