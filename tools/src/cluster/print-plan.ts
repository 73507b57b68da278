/** Plans of changes, for people. */
import { formatSize, type ChangePlan } from '@store/core';
import { printable } from './printable.js';
import { counted } from './quantities.js';
import { numbers, textTable } from './text-table.js';

const COLUMNS = ['DAEMON', 'COPIES', 'AFTER', 'COMING', 'GOING'].map(numbers);

/** What a change would move. */
export function planText(plan: ChangePlan): string {
  const { change, copiesMoved, bytesMoved, groupsChanged } = plan;
  const bytes = bytesMoved === null || copiesMoved === 0 ? '' : ` (${formatSize(bytesMoved)})`;
  const moves =
    copiesMoved === 0
      ? 'No copy of a group moves'
      : `${counted(copiesMoved, 'copy', 'copies')} of groups would move${bytes}`;
  const groups = groupsChanged === 0 ? '' : `; ${counted(groupsChanged, 'group')} would change`;
  return [
    printable(change),
    `  ${moves}${groups}`,
    ...daemonLines(plan.daemons),
    ...warningLines(plan),
  ].join('\n');
}

/** That a change was made. */
export function doneText(plan: ChangePlan): string {
  return [`Done: ${printable(plan.change)}`, ...warningLines(plan)].join('\n');
}

function daemonLines(daemons: ChangePlan['daemons']): string[] {
  const changed = daemons.filter(({ copiesIn, copiesOut }) => copiesIn > 0 || copiesOut > 0);
  if (changed.length === 0) return [];
  const rows = changed.map((one) =>
    [one.daemon, one.copiesBefore, one.copiesAfter, one.copiesIn, one.copiesOut].map(String),
  );
  return textTable(COLUMNS, rows)
    .split('\n')
    .map((line) => `  ${line}`);
}

function warningLines({ warnings }: ChangePlan): string[] {
  return warnings.map((warning) => `  Warning: ${printable(warning)}`);
}
