import type { StorageMap } from './storage-map.js';

/**
 * Why `next` cannot have come after `before` in one history of a cluster, as the end of a sentence; null: it can. A
 * state of masters that was set back and went on from there gives numbers a second meaning: who acted on the first one
 * must not follow.
 */
export function contradiction(before: StorageMap, next: StorageMap): string | null {
  const pools = new Map(next.pools.map((pool) => [pool.id, pool]));
  for (const old of before.pools) {
    const pool = pools.get(old.id);
    if (pool === undefined) continue;
    if (pool.name !== old.name) return `pool ${old.id} is '${pool.name}', and was '${old.name}'`;
    if (pool.groups.length !== old.groups.length || pool.objectBytes !== old.objectBytes)
      return `pool '${old.name}' has other groups or objects than it was made with`;
    const back = old.groups.findIndex(
      ({ epoch }, group) => epoch > (pool.groups[group]?.epoch ?? 0),
    );
    if (back >= 0) return `group ${back} of pool '${old.name}' goes back to an older epoch`;
  }
  const newestPool = Math.max(0, ...before.pools.map(({ id }) => id));
  const known = new Set(before.pools.map(({ id }) => id));
  const again = next.pools.find(({ id }) => id <= newestPool && !known.has(id));
  if (again !== undefined)
    return `pool '${again.name}' has number ${again.id}, which was used before`;
  const disks = new Map(before.daemons.map(({ id, diskId }) => [id, diskId]));
  const other = next.daemons.find(({ id, diskId }) => (disks.get(id) ?? diskId) !== diskId);
  return other === undefined ? null : `daemon ${other.id} is another disk than it was`;
}
