/** Pools and images. */
/** @import { ImageStatus, PoolStatus } from '@store/core' */
import { DataTable } from './data-table.js';
import { byId, element, named } from './dom.js';
import { bytes, count } from './format.js';
import { badge } from './icons.js';

/** @type {DataTable<PoolStatus> | null} */
let poolTable = null;
/** @type {DataTable<ImageStatus> | null} */
let imageTable = null;
/** @type {readonly ImageStatus[]} */
let images = [];
const filter = element('input', {
  type: 'search',
  placeholder: 'Filter',
  'aria-label': 'Filter images',
});

export function startPools() {
  poolTable = new DataTable(byId('pools'), {
    caption: 'Pools',
    columns: POOL_COLUMNS,
    key: ({ id }) => String(id),
    empty: 'No pool yet',
    noun: ['pool', 'pools'],
    limit: 50,
  });
  imageTable = new DataTable(byId('images'), {
    caption: 'Images',
    columns: IMAGE_COLUMNS,
    key: ({ pool, name }) => JSON.stringify([pool, name]),
    empty: 'No image',
    noun: ['image', 'images'],
    limit: 50,
  });
  filter.addEventListener('input', drawImages);
  byId('image-controls').append(filter);
}

/**
 * @param {readonly PoolStatus[]} pools
 * @param {readonly ImageStatus[]} allImages
 */
export function showPools(pools, allImages) {
  poolTable?.show(pools);
  images = allImages;
  byId('image-controls').hidden = images.length === 0;
  drawImages();
}

function drawImages() {
  const wanted = filter.value.trim().toLowerCase();
  imageTable?.show(
    images.filter(({ pool, name }) => `${pool}/${name}`.toLowerCase().includes(wanted)),
  );
}

/** @type {readonly import('./data-table.js').Column<PoolStatus>[]} */
const POOL_COLUMNS = [
  { title: 'Pool', sortBy: ({ name }) => name, cell: ({ name }) => named(name, 'name strong') },
  {
    title: 'State',
    sortBy: ({ groupsDown, groupsDegraded }) => groupsDown * 1e6 + groupsDegraded,
    cell: stateOf,
  },
  {
    title: 'Copies',
    isNumber: true,
    sortBy: ({ replicas }) => replicas,
    cell: ({ replicas, minReplicas, failureDomain }) =>
      element(
        'span',
        { class: 'stacked' },
        element('span', {}, `${count(replicas)}, one per ${failureDomain}`),
        element('span', { class: 'muted' }, `at least ${count(minReplicas)} to write`),
      ),
  },
  {
    title: 'Durable',
    sortBy: ({ durability }) => durability,
    cell: ({ durability }) => (durability === 'write' ? 'At each write' : 'At each flush'),
  },
  {
    title: 'Used',
    isNumber: true,
    sortBy: ({ usedBytes }) => usedBytes,
    cell: ({ usedBytes, objects }) =>
      element(
        'span',
        { class: 'stacked' },
        element('span', {}, bytes(usedBytes)),
        element('span', { class: 'muted' }, `${count(objects)} objects`),
      ),
  },
];

/** @type {readonly import('./data-table.js').Column<ImageStatus>[]} */
const IMAGE_COLUMNS = [
  { title: 'Image', sortBy: ({ name }) => name, cell: ({ name }) => named(name, 'name strong') },
  { title: 'Pool', sortBy: ({ pool }) => pool, cell: ({ pool }) => named(pool) },
  {
    title: 'Size',
    isNumber: true,
    sortBy: ({ sizeBytes }) => sizeBytes,
    cell: ({ sizeBytes }) => bytes(sizeBytes),
  },
];

/** @param {PoolStatus} pool */
function stateOf({ groups, groupsDown, groupsReadOnly, groupsDegraded, groupsJoining }) {
  const parts = [];
  if (groupsDown > 0) parts.push(badge('error', `${count(groupsDown)} wait`));
  if (groupsReadOnly > 0) parts.push(badge('error', `${count(groupsReadOnly)} not writable`));
  if (groupsDegraded > 0) parts.push(badge('warning', `${count(groupsDegraded)} lack copies`));
  if (groupsJoining > 0) parts.push(badge('ok', `${count(groupsJoining)} being copied`));
  if (parts.length === 0) parts.push(badge('ok', 'Complete'));
  const all = element('span', { class: 'muted' }, `${count(groups)} groups`);
  return element('span', { class: 'stacked' }, ...parts, all);
}
