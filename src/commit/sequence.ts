/** A commit's number: the genesis is 0. */
import type { Brand } from '../base/brand.js';

export type Sequence = Brand<number, 'Sequence'>;
