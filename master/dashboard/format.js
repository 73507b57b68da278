/** Numbers for people: binary units, three digits that matter, and a dash for what is not known. */

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];
export const UNKNOWN = '–';

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const exactClock = new Intl.DateTimeFormat('en-GB', { timeStyle: 'medium' });

/** @param {number} value */
export function count(value) {
  if (!Number.isFinite(value)) return UNKNOWN;
  return value > 0 && value < 10 ? tenths.format(value) : whole.format(value);
}

/**
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 */
export function counted(number, one, many = `${one}s`) {
  return `${count(number)} ${number === 1 ? one : many}`;
}

/**
 * A size, as short as it can be.
 * @param {number} value
 */
export function bytes(value) {
  return scaledBytes(value, short);
}

/**
 * @param {number} value
 * @param {(value: number) => string} digits
 */
function scaledBytes(value, digits) {
  if (!Number.isFinite(value)) return UNKNOWN;
  let unit = 0;
  let scaled = Math.max(0, value);
  // 1023.7 MiB would be written as 1024: that is 1 GiB
  while (Math.round(scaled) >= 1024 && unit < UNITS.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return `${digits(scaled)} ${UNITS[unit] ?? ''}`;
}

/** @param {number} value */
export function byteRate(value) {
  return Number.isFinite(value) ? `${scaledBytes(value, threeDigits)}/s` : UNKNOWN;
}

/** For axes, whose values are round. @param {number} value */
export function roundByteRate(value) {
  return `${bytes(value)}/s`;
}

/** For axes. @param {number} value */
export function roundMilliseconds(value) {
  return `${short(value)} ms`;
}

/** @param {number} value */
export function rate(value) {
  return Number.isFinite(value) ? `${count(value)}/s` : UNKNOWN;
}

/** Of operations; 0: there were none. @param {number} value */
export function milliseconds(value) {
  if (!Number.isFinite(value) || value <= 0) return UNKNOWN;
  return value < 0.01 ? '< 0.01 ms' : `${threeDigits(value)} ms`;
}

/**
 * A part of a whole, 0 to 1; null if there is no whole.
 * @param {number} part
 * @param {number} all
 */
export function ratio(part, all) {
  const value = part / all;
  return all > 0 && Number.isFinite(value) ? Math.min(1, Math.max(0, value)) : null;
}

/** @param {number | null} value - From `ratio` */
export function percent(value) {
  if (value === null) return UNKNOWN;
  // What is not quite full, or not quite empty, is not said to be
  if (value > 0 && value < 0.01) return '< 1 %';
  return `${value < 1 ? Math.min(99, Math.round(value * 100)) : 100} %`;
}

/** @param {number} seconds */
export function duration(seconds) {
  if (!Number.isFinite(seconds)) return UNKNOWN;
  if (seconds < 100) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${whole.format(Math.round(seconds / 86_400))} days`;
}

/** Hours and minutes here. @param {number} seconds - Since 1970 */
export function timeOfDay(seconds) {
  return clock.format(seconds * 1000);
}

/** With seconds. @param {number} milliseconds - Since 1970 */
export function exactTime(milliseconds) {
  return Number.isFinite(milliseconds) ? exactClock.format(milliseconds) : UNKNOWN;
}

/** They do not jump when a value passes a round one. @param {number} value */
function threeDigits(value) {
  if (value === 0) return '0';
  return value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

/** @param {number} value */
function short(value) {
  return String(Number(threeDigits(value)));
}
