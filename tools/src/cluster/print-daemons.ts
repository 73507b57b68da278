/** Daemons, for people. */
import { formatSize, type DaemonStatus } from '@store/core';
import { formatDuration, percentOf } from './quantities.js';
import { numbers, textTable, words } from './text-table.js';

const COLUMNS = [
  ...[numbers('ID'), words('STATE'), words('MEMBER'), words('ADDRESS'), words('HOST')],
  ...[words('RACK'), numbers('WEIGHT'), numbers('CAPACITY'), numbers('FULL'), numbers('GROUPS')],
  numbers('PRIMARIES'),
];

export function daemonTable(daemons: readonly DaemonStatus[]): string {
  const rows = daemons.map((daemon) => [
    String(daemon.id),
    stateText(daemon),
    daemon.membership,
    daemon.address,
    daemon.host,
    daemon.rack,
    String(daemon.weight),
    formatSize(daemon.capacityBytes),
    fullText(daemon),
    String(daemon.groups),
    String(daemon.primaries),
  ]);
  return textTable(COLUMNS, rows);
}

const COMPACT = [
  ...[numbers('ID'), words('STATE'), words('MEMBER'), words('ADDRESS'), numbers('CAPACITY')],
  ...[numbers('FULL'), numbers('GROUPS')],
];

/** What fits beside other things. */
export function compactDaemonTable(daemons: readonly DaemonStatus[]): string {
  const rows = daemons.map((daemon) => [
    String(daemon.id),
    stateText(daemon),
    daemon.membership,
    daemon.address,
    formatSize(daemon.capacityBytes),
    fullText(daemon),
    String(daemon.groups),
  ]);
  return textTable(COMPACT, rows);
}

function stateText({ state, stateSeconds }: DaemonStatus): string {
  return `${state} ${formatDuration(stateSeconds)}`;
}

/** Others may use the same disk. */
function fullText({ capacityBytes, freeBytes, hasReported }: DaemonStatus): string {
  if (!hasReported || capacityBytes === 0) return '-';
  return `${percentOf(capacityBytes - freeBytes, capacityBytes)} %`;
}
