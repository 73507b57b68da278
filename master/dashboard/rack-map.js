/**
 * Racks, hosts in them, disks in those: a cell for each daemon, filled as its disk is. It is a picture for the eye; the
 * table below it says all of it in words.
 */
/** @import { DaemonStatus } from '@store/core' */
import { element, named } from './dom.js';
import { fillLevel, fullness } from './fill-bar.js';
import { count, counted, percent } from './format.js';
import { icon } from './icons.js';

let shown = '';

/**
 * @param {HTMLElement} parent
 * @param {readonly DaemonStatus[]} daemons - By rack and host
 */
export function showRackMap(parent, daemons) {
  const picture = daemons.map((daemon) => {
    const { id, rack, host, state, membership } = daemon;
    const full = fullness(daemon);
    return {
      id,
      rack,
      host,
      state,
      membership,
      full: full === null ? null : Math.round(full * 100) / 100,
    };
  });
  const signature = JSON.stringify(picture);
  if (signature === shown) return;
  shown = signature;
  const down = picture.filter(({ state }) => state === 'down').length;
  parent.hidden = picture.length < 2;
  parent.setAttribute('role', 'img');
  parent.setAttribute(
    'aria-label',
    `Map of ${counted(picture.length, 'daemon')} by rack and host, ${count(down)} down; the table says the same`,
  );
  parent.replaceChildren(
    ...[...Map.groupBy(picture, ({ rack }) => rack)].map(([rack, members]) =>
      rackBox(rack, members),
    ),
  );
}

/** @typedef {Pick<DaemonStatus, 'id' | 'rack' | 'host' | 'state' | 'membership'> & { full: number | null }} Cell */

/**
 * @param {string} rack
 * @param {readonly Cell[]} members
 */
function rackBox(rack, members) {
  return element(
    'div',
    { class: 'rack' },
    named(rack, 'rack-name'),
    element(
      'div',
      { class: 'rack-hosts' },
      ...[...Map.groupBy(members, ({ host }) => host)].map(([host, disks]) =>
        element('div', { class: 'host', title: host }, ...disks.map(diskCell)),
      ),
    ),
  );
}

/** @param {Cell} cell */
function diskCell({ id, host, state, membership, full }) {
  const kind = state === 'down' ? 'down' : membership;
  const cell = element('span', {
    class: 'disk',
    'data-kind': kind,
    'data-level': fillLevel(full),
    title: `Daemon ${id} on ${host}: ${state}, ${membership}, ${percent(full)} full`,
  });
  cell.style.setProperty('--full', `${(full ?? 0) * 100}%`);
  if (kind === 'down') cell.append(icon('error'));
  else if (kind === 'draining' || kind === 'out') cell.append(icon(kind));
  else if (fillLevel(full) !== 'ok') cell.append(icon('warning'));
  return cell;
}
