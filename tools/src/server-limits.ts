/** What clients of `store-nbd` are allowed, as flags. */
import { formatSize, numberSetting, sizeSetting, type Setting } from '@store/core';
import { SERVER_LIMITS, type ServerLimits } from '@store/gateway-nbd';
import type { Command } from 'commander';
import type { Context } from './program.js';

const COUNT_MAX = 1_000_000;
const SECONDS_MAX = 3600;

interface LimitFlag {
  readonly limit: keyof ServerLimits;
  readonly setting: Setting<number | null>;
  readonly flag: string;
  readonly help: string;
  /** The flag's unit in units of the limit. */
  readonly unit: number;
}

const FLAGS: readonly LimitFlag[] = [
  count('connectionsMax', 'max-connections', 'clients at a time'),
  count('connectionRequestsMax', 'max-requests', 'requests in flight of one client'),
  size('connectionBytesMax', 'max-bytes', 'payloads and unread answers of one client'),
  count('serverRequestsMax', 'max-total-requests', 'requests in flight of all clients'),
  size('serverBytesMax', 'max-total-bytes', 'payloads and unread answers of all clients'),
  seconds('handshakeMs', 'handshake-timeout', 'how long a client may take to choose an export'),
  seconds('stallMs', 'stall-timeout', 'how long a half-sent request may stand still'),
];

export const LIMIT_SETTINGS: readonly Setting<number | null>[] = FLAGS.map(
  ({ setting }) => setting,
);

export function addLimitFlags(program: Command): Command {
  for (const { flag, help } of FLAGS) program.option(flag, help);
  return program;
}

/** The limits that differ from the server's own. */
export function limitsOf(context: Context): Partial<ServerLimits> {
  const chosen = FLAGS.flatMap(({ limit, setting, unit }) => {
    const value = context.get(setting);
    return value === null ? [] : [[limit, value * unit]];
  });
  return Object.fromEntries(chosen) as Partial<ServerLimits>; // its keys are limits
}

function count(limit: keyof ServerLimits, name: string, what: string): LimitFlag {
  const setting = numberOrNull(name, COUNT_MAX);
  const help = `${what} (default: ${SERVER_LIMITS[limit]})`;
  return { limit, setting, flag: `--${name} <number>`, help, unit: 1 };
}

function size(limit: keyof ServerLimits, name: string, what: string): LimitFlag {
  const help = `${what} (default: ${formatSize(SERVER_LIMITS[limit])})`;
  return { limit, setting: sizeSetting(name, null), flag: `--${name} <size>`, help, unit: 1 };
}

function seconds(limit: keyof ServerLimits, name: string, what: string): LimitFlag {
  const setting = numberOrNull(name, SECONDS_MAX);
  const help = `${what} (default: ${SERVER_LIMITS[limit] / 1000})`;
  return { limit, setting, flag: `--${name} <seconds>`, help, unit: 1000 };
}

function numberOrNull(name: string, max: number): Setting<number | null> {
  const { parse } = numberSetting(name, { min: 1, max, fallback: 1 });
  return { name, fallback: null, parse };
}
