/** Icons: each state has a shape of its own, so that nobody needs to tell colours apart. */
import { element, svg } from './dom.js';

const RING = 'M8 1.6a6.4 6.4 0 1 0 0 12.8a6.4 6.4 0 0 0 0-12.8z';
const PATHS = {
  ok: `${RING}M5 8.3l2.1 2.1L11.1 6`,
  warning: 'M8 1.9L14.8 13.9H1.2zM8 6.2v3.7M8 11.8v.2',
  error: 'M5.3 1.6h5.4l3.7 3.7v5.4l-3.7 3.7H5.3L1.6 10.7V5.3zM5.8 5.8l4.4 4.4M10.2 5.8l-4.4 4.4',
  draining: 'M8 1.8v8.4M4.6 7L8 10.4L11.4 7M2.6 13.8h10.8',
  out: `${RING}M5 8h6`,
  leader: 'M8 1.6l2 4.1l4.5.6l-3.3 3.2l.8 4.5L8 11.9L4 14l.8-4.5L1.5 6.3L6 5.7z',
  unsorted: 'M5 6l3-3l3 3M5 10l3 3l3-3',
  ascending: 'M8 13V3.5M4.5 7L8 3.5L11.5 7',
  descending: 'M8 3v9.5M4.5 9L8 12.5L11.5 9',
};

/** @typedef {keyof typeof PATHS} IconName */

/** @param {IconName} name */
export function icon(name) {
  return svg(
    'svg',
    { class: `icon icon-${name}`, viewBox: '0 0 16 16', 'aria-hidden': 'true' },
    svg('path', { d: PATHS[name] }),
  );
}

/**
 * A state: shape, colour and word.
 * @param {IconName} name
 * @param {string} text
 */
export function badge(name, text) {
  return element('span', { class: `badge badge-${name}` }, icon(name), text);
}
