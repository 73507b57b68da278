/** The storage map, for people. */
import type { MapGroup, MapPool, StorageMap, WhyAnswer } from '@store/core';
import { printable } from './printable.js';
import { counted } from './quantities.js';
import { numbers, textTable, words } from './text-table.js';

const DAEMONS = [
  ...[numbers('DAEMON'), words('MEMBER'), words('ADDRESS'), words('HOST'), words('RACK')],
  numbers('WEIGHT'),
];
const SHARES = [words('POOL'), numbers('DAEMON'), numbers('GROUPS'), numbers('PRIMARY OF')];
const GROUPS = [numbers('GROUP'), numbers('EPOCH'), words('PRIMARY'), words('MEMBERS')];
const HOLDERS = [
  ...[numbers('DAEMON'), words('ROLE'), words('STATE'), words('ADDRESS'), words('HOST')],
  words('RACK'),
];

export function mapText(map: StorageMap): string {
  const { clusterId, version, daemons, pools, blockedClients, blockedTickets } = map;
  const blocked = [
    counted(blockedClients.length, 'client'),
    counted(blockedTickets.length, 'ticket'),
  ];
  const daemonRows = daemons.map(({ id, membership, address, host, rack, weight }) => [
    ...[String(id), membership, address, host, rack],
    String(weight),
  ]);
  const shareRows = pools.flatMap((pool) => sharesOf(pool).map((cells) => [pool.name, ...cells]));
  return [
    `cluster  ${clusterId}`,
    `version  ${version}`,
    `blocked  ${blocked.join(', ')}`,
    '',
    daemons.length === 0 ? 'No daemons' : textTable(DAEMONS, daemonRows),
    '',
    pools.length === 0 ? 'No pools' : textTable(SHARES, shareRows),
  ].join('\n');
}

/** A line for each daemon that holds something of the pool, and one for what nobody holds. */
function sharesOf({ groups }: MapPool): string[][] {
  const shares = new Map<number, { groups: number; primaries: number }>();
  let unplaced = 0;
  for (const group of groups) {
    if (group.members.length === 0) unplaced += 1;
    for (const { daemon } of group.members) {
      const share = shares.get(daemon) ?? { groups: 0, primaries: 0 };
      share.groups += 1;
      if (daemon === primaryOf(group)) share.primaries += 1;
      shares.set(daemon, share);
    }
  }
  const rows = [...shares]
    .sort(([a], [b]) => a - b)
    .map(([daemon, share]) => [daemon, share.groups, share.primaries].map(String));
  return unplaced === 0 ? rows : [...rows, ['none', String(unplaced), '-']];
}

export function groupTable({ groups }: MapPool): string {
  const rows = groups.map((group, number) => [
    String(number),
    String(group.epoch),
    String(primaryOf(group) ?? '-'),
    membersText(group),
  ]);
  return textTable(GROUPS, rows);
}

function membersText({ members, lostAt }: MapGroup): string {
  const list = members.map(({ daemon, inSync }) =>
    inSync === null ? `${daemon} (joining)` : String(daemon),
  );
  const text = list.length === 0 ? 'none' : list.join(', ');
  return lostAt === 0 ? text : `${text}; unflushed writes were lost at epoch ${lostAt}`;
}

function primaryOf({ hasPrimary, members }: MapGroup): number | undefined {
  return hasPrimary ? members[0]?.daemon : undefined;
}

export function whyText({ pool, key, group, epoch, members, reasons }: WhyAnswer): string {
  const rows = members.map(({ daemon, role, state, address, host, rack }) => [
    String(daemon),
    ...[role, state, address, host, rack],
  ]);
  return [
    `Key '${printable(key)}' of pool '${printable(pool)}' lies in group ${group} (epoch ${epoch})`,
    ...(members.length === 0 ? [] : [textTable(HOLDERS, rows)]),
    '',
    ...reasons.map(printable),
  ].join('\n');
}
