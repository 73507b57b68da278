/** The axis of a chart: a top that is a round number, and a few round numbers below it. */

const LINES = 4;

/**
 * @param {number} highest - What has to fit; 0 or more
 * @param {boolean} isBinary - Round in units of 1024
 * @returns {number[]} From 0 to the top
 */
export function axisValues(highest, isBinary) {
  if (!(highest > 0) || !Number.isFinite(highest)) return [0, 1];
  const step = isBinary ? binaryStep(highest / LINES) : decimalStep(highest / LINES);
  const top = Math.ceil(highest / step);
  return Array.from({ length: top + 1 }, (_, index) => index * step);
}

/** 1, 2 or 5 times a power of ten. @param {number} least */
function decimalStep(least) {
  const power = 10 ** Math.floor(Math.log10(least));
  const factor = [1, 2, 5].find((one) => one * power >= least) ?? 10;
  return factor * power;
}

/** 1, 2, 5, 10, … 500 times a power of 1024. @param {number} least */
function binaryStep(least) {
  const power = 1024 ** Math.max(0, Math.floor(Math.log2(least) / 10));
  const scaled = least / power;
  return scaled > 500 ? 1024 * power : Math.max(1, decimalStep(scaled)) * power;
}
