/** Groups, for people. */
import type { GroupStatus } from '@store/core';
import { printable } from './printable.js';
import { numbers, textTable, words } from './text-table.js';

const COLUMNS = [
  ...[numbers('GROUP'), words('STATE'), numbers('EPOCH'), words('PRIMARY'), words('COPIES')],
  ...[words('JOINING'), words('WANTED')],
];

export function groupTable(groups: readonly GroupStatus[]): string {
  const rows = groups.map((group) => [
    String(group.group),
    group.state,
    String(group.epoch),
    ...(['primary', 'copy', 'joining'] as const).map((role) => membersText(group, role)),
    group.wanted === null ? '?' : group.wanted.join(' '),
  ]);
  return textTable(COLUMNS, rows);
}

/** All about one, a line each. */
export function groupFacts(group: GroupStatus): string {
  const facts: readonly (readonly [string, string])[] = [
    ['pool', printable(group.pool)],
    ['group', String(group.group)],
    ['state', group.state],
    ['epoch', String(group.epoch)],
    ['primary', membersText(group, 'primary')],
    ['copies', membersText(group, 'copy')],
    ['joining', membersText(group, 'joining')],
    ...behindFacts(group),
    ['wanted on', group.wanted === null ? 'not known yet' : group.wanted.join(' ')],
    ['lost writes', group.lostAt === 0 ? 'never' : `at epoch ${group.lostAt}`],
  ];
  return facts.map(([name, value]) => `${name.padEnd(11)}  ${value}`).join('\n');
}

/** Who lacks what was written since when. */
function behindFacts({ members }: GroupStatus): [string, string][] {
  const behind = members.filter(({ behindSince }) => behindSince !== null);
  if (behind.length === 0) return [];
  const texts = behind.map(({ daemon, behindSince }) => `${daemon} since ${behindSince}`);
  return [['not in sync', texts.join(', ')]];
}

/** `1 3(down)` */
function membersText({ members }: GroupStatus, wanted: 'primary' | 'copy' | 'joining'): string {
  const found = members.filter(({ role }) => role === wanted);
  if (found.length === 0) return '-';
  return found
    .map(({ daemon, state }) => (state === 'up' ? String(daemon) : `${daemon}(${state})`))
    .join(' ');
}
