/** The four tiles: how full, how many, how busy, how far. */
/** @import { ClusterStatus, MasterStatus } from '@store/core' */
import { byId, element, named } from './dom.js';
import { fillBar } from './fill-bar.js';
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
import { badge, icon } from './icons.js';

/** @param {ClusterStatus} status */
export function showOverview(status) {
  fill('capacity', capacity(status));
  fill('fleet', fleet(status));
  fill('traffic', traffic(status));
  fill('recovery', recovery(status));
}

/**
 * Everything below the heading of a tile.
 * @param {string} id
 * @param {readonly Node[]} content
 */
function fill(id, content) {
  const tile = byId(id);
  const before = [...tile.children].slice(1);
  const isSame =
    before.length === content.length &&
    content.every((node, index) => node.isEqualNode(before[index] ?? null));
  if (isSame) return;
  for (const old of before) old.remove();
  tile.append(...content);
}

/** @param {ClusterStatus} status */
function capacity({ capacityBytes, freeBytes, usedBytes }) {
  const full = ratio(capacityBytes - freeBytes, capacityBytes);
  const otherBytes = Math.max(0, capacityBytes - freeBytes - usedBytes);
  if (full === null) return [element('p', { class: 'figure-note muted' }, 'No disks yet')];
  return [
    figure(percent(full), 'full'),
    fillBar('Capacity of all daemons', full, ratio(otherBytes, capacityBytes) ?? 0),
    facts([
      ['Objects', bytes(usedBytes), 'key-objects'],
      ['Other files', bytes(otherBytes), 'key-other'],
      ['Free', bytes(freeBytes), 'key-free'],
      ['Size', bytes(capacityBytes), ''],
    ]),
  ];
}

/** @param {ClusterStatus} status */
function fleet({ daemons, masters }) {
  const up = daemons.filter(({ state }) => state === 'up').length;
  const draining = daemons.filter(({ membership }) => membership === 'draining').length;
  const out = daemons.filter(({ membership }) => membership === 'out').length;
  const notes = [
    ...(up < daemons.length ? [badge('error', `${count(daemons.length - up)} down`)] : []),
    ...(draining > 0 ? [badge('draining', `${count(draining)} draining`)] : []),
    ...(out > 0 ? [badge('out', `${count(out)} out`)] : []),
  ];
  return [
    figure(count(up), `of ${counted(daemons.length, 'daemon')} up`),
    ...(notes.length > 0 ? [element('p', { class: 'notes' }, ...notes)] : []),
    element('ul', { class: 'masters', 'aria-label': 'Masters' }, ...masters.map(masterItem)),
  ];
}

/** @param {MasterStatus} master */
function masterItem({ address, isLeader }) {
  const role = element('span', { class: 'muted' }, isLeader ? 'Leader' : 'Standby');
  const mark = isLeader ? icon('leader') : element('span', { class: 'icon' });
  return element('li', {}, mark, named(address, 'address'), role);
}

/** @param {ClusterStatus} status */
function traffic({ traffic: now }) {
  const row = (/** @type {string} */ name, /** @type {string[]} */ ...cells) =>
    element(
      'tr',
      {},
      element('th', { scope: 'row' }, name),
      ...cells.map((cell) => element('td', { class: 'number' }, cell)),
    );
  return [
    element(
      'table',
      { class: 'small-table' },
      element(
        'thead',
        {},
        element(
          'tr',
          {},
          element('td'),
          element('th', { scope: 'col', class: 'number' }, 'Reads'),
          element('th', { scope: 'col', class: 'number' }, 'Writes'),
        ),
      ),
      element(
        'tbody',
        {},
        row('Operations', rate(now.readsPerSecond), rate(now.writesPerSecond)),
        row('Throughput', byteRate(now.readBytesPerSecond), byteRate(now.writeBytesPerSecond)),
        row('Latency', milliseconds(now.readMs), milliseconds(now.writeMs)),
      ),
    ),
  ];
}

/** @param {ClusterStatus} status */
function recovery({ recovery: { bytesLeft, bytesPerSecond }, pools }) {
  const down = pools.reduce((sum, { groupsDown }) => sum + groupsDown, 0);
  const degraded = pools.reduce((sum, { groupsDegraded }) => sum + groupsDegraded, 0);
  const readOnly = pools.reduce((sum, { groupsReadOnly }) => sum + groupsReadOnly, 0);
  const joining = pools.reduce((sum, { groupsJoining }) => sum + groupsJoining, 0);
  const misplaced = pools.reduce((sum, { groupsMisplaced }) => sum + groupsMisplaced, 0);
  /** @type {[string, string, string][]} */
  const rows = [
    ['Groups that wait', count(down), ''],
    ['Groups that lack copies', count(degraded), ''],
  ];
  if (readOnly > 0) rows.push(['Groups that cannot be written', count(readOnly), '']);
  if (joining > 0) rows.push(['Groups being copied', count(joining), '']);
  if (misplaced > 0) rows.push(['Groups to move', count(misplaced), '']);
  const groups = facts(rows);
  if (!(bytesLeft > 0)) {
    const isAll = down + degraded === 0;
    const text = isAll ? 'Nothing to recover' : 'Nothing is being copied';
    return [element('p', { class: 'figure-note' }, badge(isAll ? 'ok' : 'warning', text)), groups];
  }
  const rest =
    bytesPerSecond > 0 ? `about ${duration(bytesLeft / bytesPerSecond)} left` : 'it stands still';
  return [
    figure(bytes(bytesLeft), 'to copy'),
    element('p', { class: 'muted' }, `${byteRate(bytesPerSecond)}, ${rest}`),
    groups,
  ];
}

/**
 * @param {string} value
 * @param {string} unit
 */
function figure(value, unit) {
  return element('p', { class: 'figure' }, element('b', {}, value), ' ', unit);
}

/** @param {readonly (readonly [name: string, value: string, className: string])[]} rows */
function facts(rows) {
  return element(
    'dl',
    { class: 'facts' },
    ...rows.map(([name, value, className]) =>
      element('div', {}, element('dt', { class: className }, name), element('dd', {}, value)),
    ),
  );
}
