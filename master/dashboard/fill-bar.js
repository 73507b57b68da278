/** A bar that says how full something is, in words too. */
/** @import { DaemonStatus } from '@store/core' */
import { element } from './dom.js';
import { percent, ratio } from './format.js';

const WARNING = 0.8;
const ERROR = 0.9;

/** How much of its disk is taken, whoever took it; null: nobody knows. @param {DaemonStatus} daemon */
export function fullness({ capacityBytes, freeBytes, hasReported }) {
  return hasReported ? ratio(capacityBytes - freeBytes, capacityBytes) : null;
}

/**
 * @param {string} label - What is full, for screen readers
 * @param {number | null} full - 0 to 1
 * @param {number} [other] - The part of `full` that is not objects
 */
export function fillBar(label, full, other = 0) {
  const value = full ?? 0;
  const bar = element('span', {
    class: 'bar',
    role: 'meter',
    'aria-label': label,
    'aria-valuemin': 0,
    'aria-valuemax': 100,
    'aria-valuenow': Math.round(value * 100),
    'aria-valuetext': percent(full),
    'data-level': fillLevel(full),
  });
  const objects = element('span', { class: 'bar-objects' });
  const rest = element('span', { class: 'bar-other' });
  objects.style.inlineSize = `${(value - other) * 100}%`;
  rest.style.inlineSize = `${other * 100}%`;
  bar.append(objects, rest);
  return bar;
}

/** @param {number | null} full */
export function fillLevel(full) {
  if (full === null || full < WARNING) return 'ok';
  return full < ERROR ? 'warning' : 'error';
}
