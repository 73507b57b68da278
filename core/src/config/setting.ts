import { StoreError } from '../util/errors.js';
import { parseSize } from '../util/size.js';

/** One thing that can be configured, by flag, environment variable or configuration file. */
export interface Setting<T> {
  /** As in the flag: `read-only` for `--read-only`, `STORE_READ_ONLY` and `"read-only"`. */
  readonly name: string;
  /** @throws StoreError `E_INVALID` saying what is expected */
  readonly parse: (text: string) => T;
  readonly fallback: T;
}

/** The environment variable of a setting. */
export function variableOf(name: string): string {
  return `STORE_${name.toUpperCase().replaceAll('-', '_')}`;
}

/** A setting that is any text but the empty one. */
export function textSetting<T extends string | null>(
  name: string,
  fallback: T,
): Setting<string | T> {
  return {
    name,
    fallback,
    parse: (text) => {
      if (text === '') throw new StoreError('E_INVALID', 'It is empty');
      return text;
    },
  };
}

/** A setting that is on or off. */
export function switchSetting(name: string): Setting<boolean> {
  return {
    name,
    fallback: false,
    parse: (text) => {
      if (['true', '1', 'yes', 'on'].includes(text)) return true;
      if (['false', '0', 'no', 'off'].includes(text)) return false;
      throw new StoreError('E_INVALID', `'${text}' is neither true nor false`);
    },
  };
}

/** A setting that is a whole number, `min` and `max` included. */
export function numberSetting(
  name: string,
  range: { min: number; max: number; fallback: number },
): Setting<number> {
  return {
    name,
    fallback: range.fallback,
    parse: (text) => {
      const value = /^\d+$/.test(text) ? Number(text) : NaN;
      if (!(value >= range.min && value <= range.max))
        throw new StoreError(
          'E_INVALID',
          `'${text}' is not a number from ${range.min} to ${range.max}`,
        );
      return value;
    },
  };
}

/** A setting that is a size in bytes, written as people do. */
export function sizeSetting<T extends number | null>(
  name: string,
  fallback: T,
): Setting<number | T> {
  return { name, fallback, parse: parseSize };
}

/** A setting that is one of a few words. */
export function choiceSetting<T extends string>(
  name: string,
  choices: readonly T[],
  fallback: T,
): Setting<T> {
  return {
    name,
    fallback,
    parse: (text) => {
      const choice = choices.find((one) => one === text);
      if (choice === undefined)
        throw new StoreError('E_INVALID', `'${text}' is not one of ${choices.join(', ')}`);
      return choice;
    },
  };
}
