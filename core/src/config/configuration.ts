/**
 * Where values come from: flags, then environment variables, then the configuration file, then defaults.
 * A bad value is reported with the place it came from, because the person who sees the message may not be the
 * one who put it there.
 */
import { messageOf, StoreError } from '../util/errors.js';
import { variableOf, type Setting } from './setting.js';

/** What a configuration file says: text for each setting. */
export interface ConfigFile {
  readonly path: string;
  readonly values: ReadonlyMap<string, string>;
}

export interface ConfigSources {
  /** What the command line gave, by setting name. */
  readonly flags: ReadonlyMap<string, string>;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly file: ConfigFile | null;
}

export class Configuration {
  readonly #sources: ConfigSources;

  constructor(sources: ConfigSources) {
    this.#sources = sources;
  }

  /** @throws StoreError `E_INVALID` that says where the bad value came from */
  get<T>(setting: Setting<T>): T {
    const found = this.#find(setting.name);
    if (found === null) return setting.fallback;
    try {
      return setting.parse(found.text);
    } catch (error) {
      throw new StoreError('E_INVALID', `Bad ${found.place}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /** Where the value comes from, for messages; null if it is the default. */
  placeOf(setting: Setting<unknown>): string | null {
    return this.#find(setting.name)?.place ?? null;
  }

  #find(name: string): { text: string; place: string } | null {
    const { flags, environment, file } = this.#sources;
    const flag = flags.get(name);
    if (flag !== undefined) return { text: flag, place: `--${name}` };
    const variable = variableOf(name);
    // An empty variable is how a shell says that it is not set.
    const value = environment[variable];
    if (value !== undefined && value !== '')
      return { text: value, place: `environment variable ${variable}` };
    const text = file?.values.get(name);
    if (file === null || text === undefined) return null;
    return { text, place: `"${name}" in ${file.path}` };
  }
}

/**
 * Reads a configuration file: a JSON object with a text, number or truth value for each setting.
 * @param known - Names a file may set; others are refused, because a misspelt one would silently do nothing.
 * @throws StoreError `E_INVALID`
 */
export function parseConfigFile(path: string, text: string, known: readonly string[]): ConfigFile {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw new StoreError(
      'E_INVALID',
      `The configuration file ${path} is not JSON: ${messageOf(error)}`,
      { cause: error },
    );
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new StoreError('E_INVALID', `The configuration file ${path} is not a JSON object`);
  const values = new Map<string, string>();
  for (const [name, value] of Object.entries(parsed)) {
    if (!known.includes(name))
      throw new StoreError(
        'E_INVALID',
        `"${name}" in ${path} is not a setting; these are: ${known.join(', ')}`,
      );
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean')
      throw new StoreError(
        'E_INVALID',
        `Bad "${name}" in ${path}: give a text, a number, true or false`,
      );
    values.set(name, String(value));
  }
  return { path, values };
}
