/** Pools, for people. */
import { formatSize, type PoolStatus, type Recovery } from '@store/core';
import { printable } from './printable.js';
import { counted, formatDuration } from './quantities.js';
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
    ['stored', formatSize(pool.storedBytes)],
    ['used', `${formatSize(pool.usedBytes)} by all copies`],
    ...(pool.groupsJoining === 0 ? [] : [['to copy', recoveryText(pool.recovery)] as const]),
    ['scrub', scrubText(pool.scrub)],
  ];
  return facts.map(([name, value]) => `${name.padEnd(14)}  ${value}`).join('\n');
}

/** What is still to be copied, and for how long. */
export function recoveryText({ bytesLeft, bytesPerSecond, secondsLeft }: Recovery): string {
  const left = `${formatSize(bytesLeft)} to copy`;
  if (bytesPerSecond === 0) return left;
  const rate = `${formatSize(Math.round(bytesPerSecond))}/s`;
  return secondsLeft === null
    ? `${left}, ${rate}`
    : `${left}, ${rate}, ${formatDuration(secondsLeft)} to go`;
}

function scrubText(scrub: PoolStatus['scrub']): string {
  const age = (what: string, seconds: number | null): string =>
    seconds === null ? `${what} not yet` : `${what} ${formatDuration(seconds)} ago`;
  const { lastLightSeconds, lastDeepSeconds, errorsFound, errorsRepaired } = scrub;
  const errors =
    errorsFound === 0 ? '' : `; ${counted(errorsFound, 'error')} found, ${errorsRepaired} repaired`;
  return `${age('light', lastLightSeconds)}, ${age('deep', lastDeepSeconds)}${errors}`;
}

/** The worst that is to be said of its groups, and what is being done. */
function stateText(pool: PoolStatus): string {
  const { groupsDown, groupsReadOnly, groupsDegraded, groupsJoining, groupsMisplaced } = pool;
  const degraded = groupsDegraded - groupsDown - groupsReadOnly;
  const facts = [
    ...(groupsDown === 0 ? [] : [`${counted(groupsDown, 'group')} out of reach`]),
    ...(groupsReadOnly === 0 ? [] : [`${counted(groupsReadOnly, 'group')} not writable`]),
    ...(degraded <= 0 ? [] : [`${counted(degraded, 'group')} with too few copies`]),
    ...(groupsJoining === 0 ? [] : [`${groupsJoining} being copied`]),
    ...(groupsMisplaced === 0 ? [] : [`${groupsMisplaced} to move`]),
  ];
  return facts.length === 0 ? 'ok' : facts.join(', ');
}
