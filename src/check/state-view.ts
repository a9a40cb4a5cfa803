/**
 * Single reads of the volume's newest state as an examination found it (doc/architecture.md, "Page faults"). For
 * reading everything, see `state-entries.ts`.
 */
import { withPages } from '../base/page-fault.js';
import type { TreeKey } from '../meta/key.js';
import { LayeredView } from '../operation/layered-view.js';
import { Overlay } from '../operation/overlay.js';
import type { ReadView } from '../operation/view.js';
import type { PageSource } from '../tree/tree-reader.js';
import { TreeReader } from '../tree/tree-reader.js';
import type { LogSurvey } from './log-survey.js';

export class StateView {
  readonly #view: LayeredView;

  constructor(source: PageSource, { checkpoint, recent }: LogSurvey) {
    const tree = new TreeReader(source);
    const root = checkpoint?.root;
    const changes = new Overlay();
    for (const { mutations } of recent) for (const [key, value] of mutations) changes.set(key as TreeKey, value);
    this.#view = new LayeredView([changes], {
      get: (key) => tree.get(root, key),
      scan: (from, to) => tree.scan(root, from, to) as IterableIterator<readonly [TreeKey, Uint8Array]>,
      floor: (from, to) => tree.floor(root, from, to) as readonly [TreeKey, Uint8Array] | undefined,
    });
  }

  /** Runs `query`, a pure function, again after every page fault. Rejects with what the pages' source throws. */
  async read<T>(query: (view: ReadView) => T): Promise<T> {
    return withPages(() => query(this.#view));
  }
}
