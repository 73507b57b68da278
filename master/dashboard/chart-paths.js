/** The lines of a chart: which points belong together, and how they are drawn. */
/** @import { TrafficHistory } from '@store/core' */

/** Missing steps that interrupt a line. */
const GAP_STEPS = 2.5;

/** @typedef {TrafficHistory['samples'][number]} Sample */
/** @typedef {readonly [x: number, y: number]} Point */

/**
 * @typedef {object} Scale
 * @property {(time: number) => number} x
 * @property {(value: number) => number} y
 */

/**
 * A gap in time, or a sample without a value, begins another run.
 * @param {TrafficHistory} history
 * @param {(sample: Sample) => number | null} value
 * @param {Scale} scale
 * @returns {Point[][]}
 */
export function pointRuns({ samples, stepSeconds }, value, scale) {
  /** @type {Point[][]} */
  const runs = [];
  /** @type {Point[]} */
  let run = [];
  let before = -Infinity;
  for (const sample of samples) {
    const at = value(sample);
    if (at === null || sample.time - before > GAP_STEPS * stepSeconds) run = [];
    before = sample.time;
    if (at === null) continue;
    if (run.length === 0) runs.push(run);
    run.push([scale.x(sample.time), scale.y(at)]);
  }
  return runs;
}

/** @param {readonly Point[]} run */
export function linePath(run) {
  const points = run.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`);
  // A run of one point is a dot: a line of no length with round ends.
  return `M${points.join('L')}${points.length === 1 ? `L${points[0] ?? ''}` : ''}`;
}

/**
 * @param {readonly Point[]} run
 * @param {number} bottom
 */
export function areaPath(run, bottom) {
  const [first] = run.at(0) ?? [0];
  const [last] = run.at(-1) ?? [0];
  return `${linePath(run)}L${last.toFixed(1)},${bottom}L${first.toFixed(1)},${bottom}Z`;
}
