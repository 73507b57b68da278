/** Which store the settings name: that in a folder, or that of a daemon. */
import { StoreError, type ListenAddress } from '@store/core';
import { quote } from '../attach-advice.js';
import { parseHostPort } from '../host-port.js';
import { asUsage, type Context } from '../program.js';
import { SETTINGS } from '../settings.js';
import { UsageError } from '../usage-error.js';
import { DAEMON } from './daemon-settings.js';

export type StorePlace =
  | { readonly kind: 'folder'; readonly dir: string }
  | { readonly kind: 'daemon'; readonly address: ListenAddress };

/** @throws UsageError if the settings name both, or no address */
export function storePlace(context: Context): StorePlace {
  const text = context.get(DAEMON.daemon);
  if (text === null) return { kind: 'folder', dir: context.get(SETTINGS.dir) };
  const place = context.placeOf(DAEMON.daemon) ?? '--storage-daemon';
  // A folder that the environment names for everything else is no contradiction.
  if (context.placeOf(SETTINGS.dir) === '--dir')
    throw new UsageError(`--dir and ${place} name two stores; leave out one of them`);
  return { kind: 'daemon', address: asUsage(() => addressOf(text, place)) };
}

/** The flags that name the store again, for advice. */
export function placeFlags(context: Context): string {
  const place = storePlace(context);
  if (place.kind === 'folder') return `--dir ${quote(place.dir)}`;
  const flags = [DAEMON.daemon, DAEMON.ticket, DAEMON.ca].flatMap((setting) => {
    const value = context.get(setting);
    return value === null ? [] : [`--${setting.name} ${quote(value)}`];
  });
  return flags.join(' ');
}

/** As `placeFlags`, with the pool. */
export function poolFlags(context: Context): string {
  return `${placeFlags(context)} --pool ${quote(context.get(SETTINGS.pool))}`;
}

function addressOf(text: string, place: string): ListenAddress {
  if (text.includes('/')) return { path: text };
  const address = parseHostPort(text);
  if (address.port > 0) return address;
  throw new StoreError('E_INVALID', `Bad ${place}: nobody can be reached at port 0`);
}
