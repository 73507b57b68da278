/** Which store the settings name: that in a folder, that of a daemon, or a cluster. */
import { StoreError, type ListenAddress, type Setting } from '@store/core';
import { quote } from '../attach-advice.js';
import { formatHostPort, parseHostPort } from '../host-port.js';
import { asUsage, type Context } from '../program.js';
import { SETTINGS } from '../settings.js';
import { UsageError } from '../usage-error.js';
import { DAEMON } from './daemon-settings.js';

export type StorePlace =
  | { readonly kind: 'folder'; readonly dir: string }
  | { readonly kind: 'daemon'; readonly address: ListenAddress }
  | { readonly kind: 'cluster' };

/** @throws UsageError if the settings name more than one, or no address */
export function storePlace(context: Context): StorePlace {
  const text = context.get(DAEMON.daemon);
  const isCluster = context.get(DAEMON.master).length > 0;
  if (text === null && !isCluster) return { kind: 'folder', dir: context.get(SETTINGS.dir) };
  const place = context.placeOf(isCluster ? DAEMON.master : DAEMON.daemon) ?? '';
  // What the environment names for everything else is no contradiction to a flag.
  const isFlag = (setting: Setting<unknown>): boolean =>
    context.placeOf(setting) === `--${setting.name}`;
  if (isFlag(SETTINGS.dir)) {
    if (!place.startsWith('--')) return { kind: 'folder', dir: context.get(SETTINGS.dir) };
    throw new UsageError(`--dir and ${place} name two stores; leave out one of them`);
  }
  if (text === null || (isCluster && !isFlag(DAEMON.daemon))) return { kind: 'cluster' };
  if (isCluster && isFlag(DAEMON.master))
    throw new UsageError('--master and --storage-daemon name two stores; leave out one of them');
  return { kind: 'daemon', address: asUsage(() => addressOf(text, place)) };
}

/** The flags that name the store again, for advice. */
export function placeFlags(context: Context): string {
  const place = storePlace(context);
  if (place.kind === 'folder') return `--dir ${quote(place.dir)}`;
  const own = place.kind === 'daemon' ? [DAEMON.daemon, DAEMON.ticket] : [DAEMON.clientKey];
  const flags = [...own, DAEMON.ca].flatMap((setting) => {
    const value = context.get(setting);
    return value === null ? [] : [`--${setting.name} ${quote(value)}`];
  });
  const masters = context.get(DAEMON.master).map(formatHostPort).join(',');
  return [...(place.kind === 'cluster' ? [`--master ${masters}`] : []), ...flags].join(' ');
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
