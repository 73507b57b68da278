/** The last second of the year 9999: up to it every moment can be written as a date. */
export const MOMENT_MAX = 253_402_300_799;

/** Whether `seconds` can be a moment: whole seconds since 1970, up to the year 9999. */
export function isMoment(seconds: number): boolean {
  return Number.isSafeInteger(seconds) && seconds >= 0 && seconds <= MOMENT_MAX;
}

/** A moment for people: `2026-11-24 14:00:00 UTC`. */
export function momentText(seconds: number): string {
  // eslint-disable-next-line no-restricted-globals -- it writes down a given time and reads no clock
  const [day = '', time = ''] = new Date(seconds * 1000).toISOString().split('T');
  return `${day} ${time.slice(0, 8)} UTC`;
}
