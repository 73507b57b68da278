/** The state of a cluster, for people: the health first, then the figures, what is wrong, and who there is. */
import { formatSize, type ClusterStatus, type Health, type Problem } from '@store/core';
import type { Paint } from './paint.js';
import { compactDaemonTable } from './print-daemons.js';
import { poolTable } from './print-pools.js';
import { printable } from './printable.js';
import { bar, counted, formatDuration, percentOf, roughly } from './quantities.js';

const BAR_WIDTH = 30;
const COLOURS = { ok: 'green', warning: 'yellow', error: 'red' } as const satisfies Record<
  Health,
  string
>;

export function statusText(status: ClusterStatus, paint: Paint): string {
  const { problems, daemons, pools } = status;
  return [
    healthLine(status, paint),
    '',
    ...facts(status).map(([name, value]) => `${name.padEnd(9)} ${value}`),
    ...(problems.length === 0 ? [] : ['', ...problems.flatMap((one) => problemLines(one, paint))]),
    ...(daemons.length === 0 ? [] : ['', compactDaemonTable(daemons)]),
    ...(pools.length === 0 ? [] : ['', poolTable(pools)]),
  ].join('\n');
}

function healthLine({ health, problems }: ClusterStatus, paint: Paint): string {
  const what = problems.length === 0 ? '' : `, ${counted(problems.length, 'problem')}`;
  return `Health: ${paint(COLOURS[health], health)}${what}`;
}

function facts(status: ClusterStatus): [string, string][] {
  const { masters, version, daemons, pools, images, recovery } = status;
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
  return recovery.bytesLeft === 0 ? lines : [...lines, ['recovery', recoveryText(status)]];
}

function masterText({ address, isLeader }: ClusterStatus['masters'][number]): string {
  return `${printable(address)}${isLeader ? ' (leads)' : ''}`;
}

function capacityText({ capacityBytes, freeBytes, usedBytes }: ClusterStatus): string {
  if (capacityBytes === 0) return 'none yet';
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

function recoveryText({ recovery: { bytesLeft, bytesPerSecond } }: ClusterStatus): string {
  const left = `${formatSize(bytesLeft)} to copy`;
  if (bytesPerSecond === 0) return left;
  return `${left}, ${rate(bytesPerSecond)}, ${formatDuration(bytesLeft / bytesPerSecond)} to go`;
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
