/** The thread of `argon2.ts`: one derivation, then it ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { assert } from '../base/assert.js';
import type { Argon2Task } from './argon2.js';
import { argon2id } from './sodium.js';

assert(parentPort, 'runs as a worker thread');
const { password, salt, cost } = workerData as Argon2Task;
const key = argon2id(32, password, salt, cost.passes, cost.memoryKiB);
password.fill(0);
parentPort.postMessage(key, [key.buffer as ArrayBuffer]);
