/** The state of a cluster, for people: the health first, then the figures, what is wrong, and who there is. */
import {
  formatSize,
  type ClusterStatus,
  type Health,
  type PoolStatus,
  type Problem,
} from '@store/core';
import type { Paint } from './paint.js';
import { compactDaemonTable } from './print-daemons.js';
import { poolTable, recoveryText } from './print-pools.js';
import { printable } from './printable.js';
import { bar, counted, percentOf, roughly } from './quantities.js';

const BAR_WIDTH = 30;
const INCIDENTS_SHOWN = 5;
const COLOURS = { ok: 'green', warning: 'yellow', error: 'red' } as const satisfies Record<
  Health,
  string
>;

export function statusText(status: ClusterStatus, paint: Paint): string {
  const { problems, daemons, pools, incidents } = status;
  return [
    healthLine(status, paint),
    '',
    ...facts(status).map(([name, value]) => `${name.padEnd(9)} ${value}`),
    ...(problems.length === 0 ? [] : ['', ...problems.flatMap((one) => problemLines(one, paint))]),
    ...(incidents.length === 0 ? [] : ['', ...incidentLines(incidents)]),
    ...(daemons.length === 0 ? [] : ['', compactDaemonTable(daemons)]),
    ...(pools.length === 0 ? [] : ['', poolTable(pools)]),
  ].join('\n');
}

function healthLine({ health, problems }: ClusterStatus, paint: Paint): string {
  const what = problems.length === 0 ? '' : `, ${counted(problems.length, 'problem')}`;
  return `Health: ${paint(COLOURS[health], health)}${what}`;
}

function facts(status: ClusterStatus): [string, string][] {
  const { masters, version, daemons, pools, images } = status;
  const up = daemons.filter(({ state }) => state === 'up').length;
  const inside = daemons.filter(({ membership }) => membership === 'in').length;
  const groups = pools.reduce((sum, pool) => sum + pool.groups, 0);
  const lines: [string, string][] = [
    ['masters', masters.map(masterText).join(', ')],
    ['map', `version ${version}`],
    ['daemons', `${up} up, ${inside} in, of ${daemons.length}`],
    [
      'pools',
      `${pools.length} with ${counted(groups, 'group')}; ${counted(images.length, 'image')}`,
    ],
    ['capacity', capacityText(status)],
    ['traffic', trafficText(status)],
  ];
  return [...lines, ...scrubLines(pools), ...recoveryLines(status), ...rateLines(status)];
}

/** What scrubs have found, if anything. */
function scrubLines(pools: readonly PoolStatus[]): [string, string][] {
  const sum = (of: (pool: PoolStatus) => number): number =>
    pools.reduce((total, pool) => total + of(pool), 0);
  const found = sum(({ scrub }) => scrub.errorsFound);
  if (found === 0) return [];
  const mended = sum(({ scrub }) => scrub.errorsRepaired);
  return [['scrub', `${counted(found, 'error')} found, ${mended} mended (store scrub status)`]];
}

/** A bar of the copies that are in sync while some are not, and one of groups that lie where they belong. */
function recoveryLines({ pools, recovery }: ClusterStatus): [string, string][] {
  const sum = (of: (pool: PoolStatus) => number): number =>
    pools.reduce((total, pool) => total + of(pool), 0);
  const progress = (done: number, all: number, what: string): string =>
    `${bar(done, all, BAR_WIDTH)} ${percentOf(done, all)} % ${what}`;
  const copies = sum(({ groups, replicas }) => groups * replicas);
  const missing = sum(({ copiesMissing }) => copiesMissing);
  const groups = sum((pool) => pool.groups);
  const misplaced = sum(({ groupsMisplaced }) => groupsMisplaced);
  const left = recovery.bytesLeft === 0 ? '' : `; ${recoveryText(recovery)}`;
  const lines: [string, string][] = [];
  if (missing > 0 || (recovery.bytesLeft > 0 && misplaced === 0))
    lines.push([
      'recovery',
      `${progress(copies - missing, copies, 'of the copies are in sync')}${left}`,
    ]);
  if (misplaced > 0)
    lines.push([
      'moving',
      `${progress(groups - misplaced, groups, 'of the groups are in place')}${missing > 0 ? '' : left}`,
    ]);
  return lines;
}

/** What an operator has set, so that nobody wonders. */
function rateLines({ recoveryRate }: ClusterStatus): [string, string][] {
  if (recoveryRate === 0) return [];
  return [
    ['copying', `at ${rate(recoveryRate)} in each daemon (store recovery set --rate auto ends it)`],
  ];
}

function masterText({ address, isLeader }: ClusterStatus['masters'][number]): string {
  return `${printable(address)}${isLeader ? ' (leads)' : ''}`;
}

function capacityText({ capacityBytes, freeBytes, usedBytes, daemons }: ClusterStatus): string {
  if (capacityBytes === 0) return daemons.length === 0 ? 'none yet' : 'no daemon has said yet';
  const filled = capacityBytes - freeBytes; // others may use the same disks
  const percent = percentOf(filled, capacityBytes);
  return `${bar(filled, capacityBytes, BAR_WIDTH)} ${percent} %, ${formatSize(freeBytes)} free of ${formatSize(capacityBytes)}; objects take ${formatSize(usedBytes)}`;
}

function trafficText({ traffic }: ClusterStatus): string {
  const of = (count: number, bytes: number, ms: number): string =>
    count === 0 ? 'none' : `${roughly(count)}/s, ${rate(bytes)}, ${roughly(ms)} ms`;
  const { readsPerSecond, readBytesPerSecond, readMs } = traffic;
  const { writesPerSecond, writeBytesPerSecond, writeMs } = traffic;
  return `reads ${of(readsPerSecond, readBytesPerSecond, readMs)}; writes ${of(writesPerSecond, writeBytesPerSecond, writeMs)}`;
}

function incidentLines(incidents: ClusterStatus['incidents']): string[] {
  const shown = incidents
    .slice(0, INCIDENTS_SHOWN)
    .map(
      ({ time, pool, group, what }) =>
        `incident  ${time} group ${group} of pool ${printable(pool)}: ${printable(what)}`,
    );
  const more = incidents.length - shown.length;
  return more === 0 ? shown : [...shown, `          ${more} older ones are in --json`];
}

function problemLines({ severity, where, what, advice }: Problem, paint: Paint): string[] {
  const label = paint(COLOURS[severity], severity.padEnd(7));
  return [
    `${label}  ${paint('bold', printable(where))}: ${printable(what)}`,
    `         ${printable(advice)}`,
  ];
}

function rate(bytesPerSecond: number): string {
  return `${formatSize(Math.round(bytesPerSecond))}/s`;
}
