/** Pools, for people. */
import { formatSize, type PoolStatus } from '@store/core';
import { printable } from './printable.js';
import { counted } from './quantities.js';
import { numbers, textTable, words } from './text-table.js';

const COLUMNS = [
  ...[words('NAME'), numbers('REPLICAS'), numbers('GROUPS'), numbers('OBJECTS'), numbers('USED')],
  ...[words('DOMAIN'), words('DURABILITY'), words('STATE')],
];

export function poolTable(pools: readonly PoolStatus[]): string {
  const rows = pools.map((pool) => [
    pool.name,
    `${pool.replicas}/${pool.minReplicas}`,
    String(pool.groups),
    String(pool.objects),
    formatSize(pool.usedBytes),
    pool.failureDomain,
    pool.durability,
    stateText(pool),
  ]);
  return textTable(COLUMNS, rows);
}

/** All about one, a line each. */
export function poolFacts(pool: PoolStatus): string {
  const facts: readonly (readonly [string, string])[] = [
    ['name', printable(pool.name)],
    ['id', String(pool.id)],
    ['state', stateText(pool)],
    ['replicas', `${pool.replicas}, at least ${pool.minReplicas} to write`],
    ['failure domain', pool.failureDomain],
    ['durability', pool.durability],
    ['groups', String(pool.groups)],
    ['object size', formatSize(pool.objectBytes)],
    ['objects', String(pool.objects)],
    ['used', formatSize(pool.usedBytes)],
  ];
  return facts.map(([name, value]) => `${name.padEnd(14)}  ${value}`).join('\n');
}

function stateText({ groupsDown, groupsDegraded }: PoolStatus): string {
  const faults = [
    ...(groupsDown === 0 ? [] : [`${counted(groupsDown, 'group')} out of reach`]),
    ...(groupsDegraded === 0 ? [] : [`${counted(groupsDegraded, 'group')} with too few copies`]),
  ];
  return faults.length === 0 ? 'ok' : faults.join(', ');
}
