import { StoreError, type Setting } from '@store/core';

const UNIT_SECONDS = { m: 60, h: 3600, d: 86_400 } as const;
/** Ten years. */
export const DURATION_SECONDS_MAX: number = 3653 * UNIT_SECONDS.d;

/**
 * Reads how long something lasts: `90m`, `12h` or `30d`.
 * @returns Seconds, 60 or more, up to ten years.
 * @throws StoreError `E_INVALID`
 */
export function parseDuration(text: string): number {
  const match = /^(\d{1,9})([mhd])$/.exec(text);
  const unit = match?.[2] as keyof typeof UNIT_SECONDS | undefined; // as the pattern says
  if (unit === undefined)
    throw new StoreError('E_INVALID', `'${text}' is not a time; write for example 30d, 12h or 90m`);
  const seconds = Number(match?.[1]) * UNIT_SECONDS[unit];
  if (seconds === 0 || seconds > DURATION_SECONDS_MAX)
    throw new StoreError('E_INVALID', `'${text}' is out of range: from 1m to 3653d, ten years`);
  return seconds;
}

/** A setting that is a time to last, in seconds. */
export function durationSetting(name: string): Setting<number | null> {
  return { name, fallback: null, parse: parseDuration };
}
