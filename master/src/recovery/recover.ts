/** Puts a rebuilt state in the place of what a state store has. */
import { StoreError } from '@store/core';
import type { ClusterState } from '../cluster/cluster-state.js';
import { changesBetween, CLUSTER_KEY, decodeState } from '../cluster/state-keys.js';
import { COMMIT_BYTES_MAX, COMMIT_PARTS_MAX } from '../state/state-rules.js';
import type { Leadership } from '../state/election.js';
import type { StateChange, StateStore } from '../state/state-store.js';

/** The guard is a part of each. */
const BATCH_PARTS_MAX: number = COMMIT_PARTS_MAX - 1;
const BATCH_BYTES_MAX: number = COMMIT_BYTES_MAX / 2;

/** What is left of the state; null: nothing that can be used. */
export async function readWhatIsLeft(
  store: StateStore,
): Promise<{ state: ClusterState | null; problem: string | null }> {
  try {
    const found = decodeState(await store.read(''));
    return { state: found?.state ?? null, problem: null };
  } catch (error) {
    if (!(error instanceof StoreError) || error.code !== 'E_FORMAT') throw error;
    return { state: null, problem: error.message };
  }
}

/**
 * Writes a state over everything that is there: in one step if it fits into one. Else the pointer to it says first that
 * there is none, and is written last: dying in between leaves what no master takes for a state, and is mended by doing
 * it again.
 * @throws StoreError what the store says; `E_NOT_LEADER` if another master has begun
 */
export async function writeRecovered(
  store: StateStore,
  leadership: Leadership,
  state: ClusterState,
): Promise<void> {
  const { entries } = await store.read('');
  const { first, changes } = changesBetween(null, state, leadership.id);
  const written = [...first, ...changes];
  const keys = new Set(written.map(({ key }) => key));
  const old = entries
    .filter(({ key }) => key !== leadership.guard().key && !keys.has(key))
    .map(({ key }) => ({ key, value: null }));
  const all = [...old, ...written];
  if (batchesOf(all).length > 1) {
    const none = { key: CLUSTER_KEY, value: Buffer.from(JSON.stringify({ format: 'recovering' })) };
    const rest = all.filter(({ key }) => key !== CLUSTER_KEY);
    for (const batch of batchesOf([none, ...rest])) await commit(store, leadership, batch);
    await commit(
      store,
      leadership,
      all.filter(({ key }) => key === CLUSTER_KEY),
    );
  } else await commit(store, leadership, all);
}

async function commit(
  store: StateStore,
  leadership: Leadership,
  changes: readonly StateChange[],
): Promise<void> {
  const { applied } = await store.commit({ conditions: [leadership.guard()], changes });
  if (!applied) throw new StoreError('E_NOT_LEADER', 'Another master has begun meanwhile');
}

/** In order, as many together as a commit takes. */
function batchesOf(changes: readonly StateChange[]): StateChange[][] {
  const batches: StateChange[][] = [];
  let bytes = 0;
  for (const change of changes) {
    const size = change.value?.length ?? 0;
    const last = batches.at(-1);
    if (last === undefined || last.length >= BATCH_PARTS_MAX || bytes + size > BATCH_BYTES_MAX) {
      batches.push([change]);
      bytes = size;
    } else {
      last.push(change);
      bytes += size;
    }
  }
  return batches;
}
