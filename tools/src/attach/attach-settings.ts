/** What the commands around attached devices can be told. */
import { numberSetting, StoreError, type Setting } from '@store/core';

const CONNECTIONS_MAX = 16;
const SECONDS_MAX = 7 * 24 * 3600;

export const ATTACH_SETTINGS = {
  connections: numberSetting('connections', { min: 1, max: CONNECTIONS_MAX, fallback: 1 }),
  deadTimeout: secondsSetting('dead-timeout', 1, 60),
  timeout: secondsSetting('timeout', 0, null),
  blockSize: numberSetting('block-size', { min: 512, max: 65_536, fallback: 512 }),
} as const;

/** Whole seconds, written `60`, `60s`, `5m` or `2h`. */
function secondsSetting<T extends number | null>(
  name: string,
  min: number,
  fallback: T,
): Setting<number | T> {
  return {
    name,
    fallback,
    parse: (text) => {
      const [, digits, unit = 's'] = /^(\d{1,9})([smh]?)$/.exec(text) ?? [];
      const seconds = Number(digits ?? NaN) * ({ s: 1, m: 60, h: 3600 }[unit || 's'] ?? NaN);
      if (!(seconds >= min && seconds <= SECONDS_MAX))
        throw new StoreError(
          'E_INVALID',
          `'${text}' is not a time from ${min}s to ${SECONDS_MAX / 3600}h; write for example 60s or 5m`,
        );
      return seconds;
    },
  };
}
