/** All daemons: a map of where they stand to see trouble at a glance, and a table with what is known of each. */
/** @import { DaemonStatus } from '@store/core' */
import { DataTable } from './data-table.js';
import { byId, element, named } from './dom.js';
import { fillBar, fullness } from './fill-bar.js';
import {
  byteRate,
  bytes,
  count,
  counted,
  duration,
  milliseconds,
  percent,
  rate,
  ratio,
} from './format.js';
import { badge } from './icons.js';
import { showRackMap } from './rack-map.js';

/** @type {DataTable<DaemonStatus> | null} */
let table = null;
/** @type {readonly DaemonStatus[]} */
let daemons = [];
const filter = element('input', {
  type: 'search',
  placeholder: 'Filter',
  'aria-label': 'Filter daemons',
});
const grouped = element('input', { type: 'checkbox', checked: true });

export function startDaemons() {
  table = new DataTable(byId('daemons'), {
    caption: 'Daemons',
    columns: COLUMNS,
    key: ({ id }) => String(id),
    empty: 'No daemon',
    noun: ['daemon', 'daemons'],
    limit: 64,
    group: ({ rack, host }) => JSON.stringify([rack, host]),
    groupHead: hostHead,
    sorted: () => {
      grouped.checked = false;
      table?.group(false);
    },
  });
  table.group(true);
  grouped.addEventListener('change', () => table?.group(grouped.checked));
  filter.addEventListener('input', draw);
  byId('daemon-controls').append(filter, element('label', {}, grouped, 'Group by host'));
}

/** @param {readonly DaemonStatus[]} reported */
export function showDaemons(reported) {
  const place = new Intl.Collator('en', { numeric: true });
  daemons = reported.toSorted(
    (a, b) => place.compare(a.rack, b.rack) || place.compare(a.host, b.host) || a.id - b.id,
  );
  byId('daemon-controls').hidden = daemons.length === 0;
  showRackMap(byId('daemon-map'), daemons);
  draw();
}

function draw() {
  const wanted = filter.value.trim().toLowerCase();
  table?.show(daemons.filter((daemon) => wanted === '' || words(daemon).includes(wanted)));
}

/** What can be filtered by. @param {DaemonStatus} daemon */
function words({ id, address, host, rack, state, membership, diskId }) {
  return [`daemon ${id}`, address, host, rack, state, membership, diskId].join('\n').toLowerCase();
}

/** @type {readonly import('./data-table.js').Column<DaemonStatus>[]} */
const COLUMNS = [
  { title: 'Daemon', sortBy: ({ id }) => id, cell: identity },
  {
    title: 'Place',
    isInGroupHead: true,
    sortBy: ({ rack, host }) => `${rack} ${host}`,
    cell: placeOf,
  },
  { title: 'State', sortBy: ({ state }) => state, cell: stateOf },
  { title: 'Membership', sortBy: ({ membership }) => membership, cell: membershipOf },
  { title: 'Full', isNumber: true, sortBy: (daemon) => fullness(daemon) ?? -1, cell: full },
  {
    title: 'Groups',
    isNumber: true,
    sortBy: ({ groups }) => groups,
    cell: ({ groups, primaries }) => stacked(count(groups), `${count(primaries)} primary`),
  },
  {
    title: 'Reads',
    isNumber: true,
    sortBy: ({ traffic }) => traffic.readsPerSecond,
    cell: ({ traffic }) =>
      stacked(rate(traffic.readsPerSecond), byteRate(traffic.readBytesPerSecond)),
  },
  {
    title: 'Writes',
    isNumber: true,
    sortBy: ({ traffic }) => traffic.writesPerSecond,
    cell: ({ traffic }) =>
      stacked(rate(traffic.writesPerSecond), byteRate(traffic.writeBytesPerSecond)),
  },
  {
    title: 'Latency',
    isNumber: true,
    sortBy: ({ traffic }) => Math.max(traffic.readMs, traffic.writeMs),
    cell: ({ traffic }) =>
      stacked(`${milliseconds(traffic.readMs)} read`, `${milliseconds(traffic.writeMs)} write`),
  },
];

/** @param {DaemonStatus} daemon */
function identity({ id, address }) {
  return element(
    'span',
    { class: 'stacked' },
    element('b', {}, String(id)),
    named(address, 'address'),
  );
}

/** @param {DaemonStatus} daemon */
function placeOf({ rack, host }) {
  return element('span', { class: 'stacked' }, named(host), named(rack, 'muted name'));
}

/** @param {DaemonStatus} daemon */
function stateOf({ state, stateSeconds, recentStarts }) {
  const since = `for ${duration(stateSeconds)}`;
  const note = recentStarts > 1 ? `${since}, ${counted(recentStarts, 'start')} in 1 h` : since;
  const mark = state === 'up' ? badge('ok', 'Up') : badge('error', 'Down');
  return element('span', { class: 'stacked' }, mark, element('span', { class: 'muted' }, note));
}

/** @param {DaemonStatus} daemon */
function membershipOf({ membership }) {
  if (membership === 'in') return element('span', {}, 'In');
  return membership === 'draining' ? badge('draining', 'Draining') : badge('out', 'Out');
}

/** @param {DaemonStatus} daemon */
function full(daemon) {
  const { id, capacityBytes, usedBytes, freeBytes } = daemon;
  const value = fullness(daemon);
  const other = ratio(Math.max(0, capacityBytes - freeBytes - usedBytes), capacityBytes) ?? 0;
  return element(
    'span',
    { class: 'full' },
    fillBar(`Disk of daemon ${id}`, value, Math.min(other, value ?? 0)),
    element('span', {}, percent(value)),
    element('span', { class: 'muted' }, `of ${bytes(capacityBytes)}`),
  );
}

/**
 * @param {string} first
 * @param {string} second
 */
function stacked(first, second) {
  return element(
    'span',
    { class: 'stacked' },
    element('span', {}, first),
    element('span', { class: 'muted' }, second),
  );
}

/** @param {readonly DaemonStatus[]} members */
function hostHead(members) {
  const [first] = members;
  const down = members.filter(({ state }) => state === 'down').length;
  const known = members.filter(({ hasReported }) => hasReported);
  const sum = (/** @type {(daemon: DaemonStatus) => number} */ value) =>
    known.reduce((total, daemon) => total + value(daemon), 0);
  const capacity = sum(({ capacityBytes }) => capacityBytes);
  const used = capacity - sum(({ freeBytes }) => freeBytes);
  return element(
    'span',
    { class: 'host-head' },
    named(first?.host ?? ''),
    element('span', { class: 'muted' }, named(first?.rack ?? '')),
    element(
      'span',
      { class: 'host-sum' },
      `${counted(members.length, 'daemon')}, ${percent(ratio(used, capacity))} full`,
    ),
    ...(down > 0 ? [badge('error', `${count(down)} down`)] : []),
  );
}
