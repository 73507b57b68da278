/** When nothing is missing in a cluster of processes. */
import { sleep } from '../host/wait-until.js';
import { TEST_POOL, type ProcessCluster } from './process-cluster.js';

const LIMIT_MS = 120_000;
const LOOK_MS = 250;

/** Resolves when all copies that are wanted are in sync and run. */
export async function whole(cluster: ProcessCluster): Promise<void> {
  const endMs = performance.now() + LIMIT_MS;
  for (;;) {
    const { pools, daemons } = await cluster.status();
    const isWhole = daemons.every(({ state }) => state === 'up');
    if (isWhole && pools.every(({ copiesMissing }) => copiesMissing === 0)) return;
    if (performance.now() > endMs)
      throw new Error(`Copies are missing: ${await cluster.store('group', 'ls', TEST_POOL)}`);
    await sleep(LOOK_MS);
  }
}
