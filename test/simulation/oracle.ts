/** What must be true at the end of a simulated life. It returns what is not, in words. */
import { isBelow } from './commit-tree.js';
import type { Life } from './scenario.js';
import { authorOfOperation, forgedAt, isForged, type OperationId } from './simulated-commit.js';

export interface Promises {
  /** Nothing that a device has received is missing, whether its author came back or not. */
  readonly keepsAll: boolean;
  /** A commit of a removed device counts only if the removal says so. */
  readonly removalsBind: boolean;
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
  for (const count of counts.values()) if (count > 1) findings.push('an operation was done twice');
  for (const { acknowledged } of staying) {
    for (const operation of acknowledged) if (!counts.has(operation)) findings.push('an acknowledged operation is lost');
  }
  findings.push(...judgeRemovals(life, promises, [...counts.keys()]), ...judgeAnchors(life));
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
  if (promises.keepsAll && abandoned.length > 0) findings.push('an operation that others had received is lost');
  countInversions(life, counts);
  return [...new Set(findings)];
}

function judgeRemovals({ staying, participants }: Life, { removalsBind }: Promises, operations: readonly OperationId[]): string[] {
  const history = staying[0]?.device.history ?? [];
  const findings: string[] = [];
  for (const { device, isRemoved } of participants) {
    if (!isRemoved) continue;
    if (!history.some(({ removes }) => removes === device.index)) findings.push('a removal was undone');
    if (!removalsBind) continue;
    // Once somebody has said what counts, nothing that was written later can.
    const known = [...(staying[0]?.device.known ?? [])];
    const cutAt = Math.min(
      ...known.map(({ cut, writtenAt }) => (cut?.device === device.index && cut.by !== device.index ? writtenAt : Number.POSITIVE_INFINITY)),
    );
    if (cutAt === Number.POSITIVE_INFINITY) findings.push('nobody says what a removed device has written');
    if (history.some(({ author, writtenAt }) => author === device.index && writtenAt > cutAt)) findings.push('a removed device has written');
    if (operations.some((operation) => isForged(operation) && forgedAt(operation) > cutAt)) findings.push('a forged operation is in the history');
  }
  return findings;
}

/** No device ever leaves an anchor, its own or another one's. */
function judgeAnchors({ staying }: Life): string[] {
  const findings: string[] = [];
  const history = new Set([0, ...(staying[0]?.device.history ?? []).map(({ id }) => id)]);
  for (const { device } of staying) {
    for (const [index, anchor] of device.anchors.entries()) {
      const before = device.anchors[index - 1];
      if (before && !isBelow(before, anchor)) findings.push('an anchor went back');
      if (!history.has(anchor.id)) findings.push('an anchor is not in the history');
    }
  }
  return findings;
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
