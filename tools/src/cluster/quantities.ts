/** How long, how full, how many: as people read it. */

const MINUTE = 60;
const HOUR: number = 60 * MINUTE;
const DAY: number = 24 * HOUR;

/** `12 s`, `3 m`, `2 h 5 m`, `4 d 1 h`: the two largest units are enough. */
export function formatDuration(seconds: number): string {
  const whole = Math.floor(seconds);
  if (whole < MINUTE) return `${whole} s`;
  if (whole < HOUR) return `${Math.floor(whole / MINUTE)} m`;
  if (whole < DAY) return inTwo(whole, HOUR, 'h', MINUTE, 'm');
  return inTwo(whole, DAY, 'd', HOUR, 'h');
}

/** Whole percent. What is not quite full is never shown as full, nor what is not quite empty as empty. */
export function percentOf(part: number, total: number): number {
  if (total <= 0 || part <= 0) return 0;
  if (part >= total) return 100;
  return Math.min(99, Math.max(1, Math.round((100 * part) / total)));
}

/** `[####......]`, `width` characters between the brackets. */
export function bar(part: number, total: number, width: number): string {
  const filled = Math.round((percentOf(part, total) * width) / 100);
  return `[${'#'.repeat(filled).padEnd(width, '.')}]`;
}

/** `1 daemon`, `2 daemons`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** At most one digit after the point: `0.3`, `12`. */
export function roughly(value: number): string {
  return value < 10 ? String(Math.round(value * 10) / 10) : String(Math.round(value));
}

function inTwo(seconds: number, large: number, a: string, small: number, b: string): string {
  const rest = Math.floor((seconds % large) / small);
  const first = `${Math.floor(seconds / large)} ${a}`;
  return rest === 0 ? first : `${first} ${rest} ${b}`;
}
