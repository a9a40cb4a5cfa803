/**
 * A value, or a promise of it. The data path returns synchronously what is in memory and awaits only page faults and
 * I/O (doc/concurrency.md, "One instant").
 */
export type MaybePromise<T> = T | Promise<T>;

export function isPromise<T>(value: MaybePromise<T>): value is Promise<T> {
  return value instanceof Promise;
}

export function andThen<T, R>(value: MaybePromise<T>, continuation: (value: T) => MaybePromise<R>): MaybePromise<R> {
  return isPromise(value) ? value.then(continuation) : continuation(value);
}
