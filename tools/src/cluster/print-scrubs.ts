/** Scrubs, for people: what was begun, how it stands, what was found. */
import type { DaemonScrub, ScrubFinding, ScrubReport } from '@store/core';
import { printable } from './printable.js';
import { counted } from './quantities.js';
import { numbers, textTable, words } from './text-table.js';

/** What `store scrub start` has done. */
export function begunText(report: ScrubReport): string {
  const begun = report.daemons.reduce((sum, { scrub }) => sum + (scrub?.begun ?? 0), 0);
  const by = report.daemons.filter(({ scrub }) => (scrub?.begun ?? 0) > 0).length;
  const first =
    begun === 0
      ? 'Nothing is looked through: no daemon that answers leads a group; see store status'
      : `${counted(begun, 'group')} will be looked through by ${counted(by, 'daemon')}; how far they are says: store scrub status`;
  return [first, ...troubles(report)].join('\n');
}

/** How scrubs stand. */
export function scrubText(report: ScrubReport): string {
  const { daemons } = report;
  if (daemons.length === 0) return 'No daemon is connected; see store daemon ls';
  const rows = daemons.map(({ daemon, scrub }) =>
    scrub === null ? [`${daemon}`, 'no answer', '', '', '', '', ''] : rowOf(report, daemon, scrub),
  );
  const columns = [numbers('DAEMON'), words('NOW'), numbers('WAITING'), numbers('GROUPS')];
  const counts = [numbers('OBJECTS'), numbers('FOUND'), numbers('MENDED')];
  const findings = daemons.flatMap(({ scrub }) => scrub?.findings ?? []);
  return [
    textTable([...columns, ...counts], rows),
    ...troubles(report),
    ...(findings.length === 0 ? [] : ['', ...findingLines(findings, report)]),
  ].join('\n');
}

/** A line for each thing that was found. */
export function findingLines(
  findings: readonly ScrubFinding[],
  { pools }: Pick<ScrubReport, 'pools'>,
): string[] {
  return findings.map(({ pool, group, daemon, object, what, isRepaired }) => {
    const where = `pool ${pools[`${pool}`] ?? pool}, group ${group}, daemon ${daemon}`;
    return `${isRepaired ? 'mended' : 'NOT MENDED'}: ${where}: ${printable(object)}: ${what}`;
  });
}

/** What could not be asked, and what helps. */
export function troubles({ daemons, groupsOutOfReach }: ScrubReport): string[] {
  const silent = daemons.flatMap(({ daemon, address, problem }) =>
    problem === null
      ? []
      : [`Daemon ${daemon} (${address}) did not answer: ${printable(problem)}; try again`],
  );
  if (groupsOutOfReach === 0) return silent;
  const lost = counted(groupsOutOfReach, 'group');
  return [...silent, `${lost} cannot be looked through, as nobody leads them: store status`];
}

function rowOf({ pools }: ScrubReport, daemon: number, scrub: DaemonScrub): string[] {
  const { running, wanted, found } = scrub;
  const now =
    running === null
      ? '-'
      : `${running.kind}: ${pools[`${running.pool}`] ?? running.pool}/${running.group}`;
  const { groupsDone, objectsDone, errors, repaired } = found;
  return [
    ...[`${daemon}`, now, `${wanted}`, `${groupsDone}`],
    ...[`${objectsDone}`, `${errors}`, `${repaired}`],
  ];
}
