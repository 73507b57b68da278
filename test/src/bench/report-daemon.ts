/** The part of the report for people about daemons behind the gateway. */
import type { Beside } from './daemon-verdict.js';
import { table } from './markdown-table.js';
import type { Report } from './report.js';
import type { DaemonGoal } from './rows.js';

/** Lines with an empty one at the end; none if none was measured. */
export function daemonSection({ daemon, rows, servers }: Report): string[] {
  if (daemon.length === 0) return [];
  const title = (name: string): string =>
    servers.find((server) => server.name === name)?.title ?? name;
  const lines = daemon.map((verdict) => {
    const { value, clientSaturated, server, ours, nbdkitFile, ceph, goal, met } = verdict;
    const row = rows.find(({ name }) => name === verdict.row);
    return [
      ...[row?.title ?? verdict.row, title(server), row?.unit ?? ''],
      `${Math.round(value)}${clientSaturated ? ' c' : ''}`,
      ...[ours, nbdkitFile, ceph].flatMap(besideCells),
      ...[goalText(goal, row?.unit ?? '', title), met],
    ];
  });
  const header = ['work', 'server', 'unit', 'median', 'store', 'of store'];
  const more = ['nbdkit file', 'of nbdkit file', 'Ceph', 'of Ceph', 'goal', 'met'];
  return [
    '## Daemons behind the gateway',
    '',
    ...table([...header, ...more], lines),
    '',
    `One storage daemon, or three with a copy on each, with the gateway in front, on this machine, beside our server with its own store, nbdkit file and Ceph in the same rounds. Ratio of the medians; in brackets the median of each round's own ratio and its spread. c: fio could not ask for more.`,
    '',
  ];
}

function besideCells(other: Beside | null): string[] {
  return other === null ? ['-', '-'] : [`${Math.round(other.value)}`, ratioText(other)];
}

function ratioText({ ratio, pairedRatio: paired }: Beside): string {
  if (paired === null) return ratio.toFixed(2);
  const { median, min, max } = paired;
  return `${ratio.toFixed(2)} (${median.toFixed(2)}, ${min.toFixed(2)}-${max.toFixed(2)})`;
}

function goalText(goal: DaemonGoal | null, unit: string, title: (name: string) => string): string {
  if (goal === null) return '-';
  const { ratio, beside, enough } = goal;
  return `${ratio} of ${title(beside)}${enough === undefined ? '' : `, or ${enough} ${unit}`}`;
}
