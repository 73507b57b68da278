/** Opens the store of a daemon. */
import { openRemoteStore, type ListenAddress, type RemoteStore } from '@store/core';
import { datagramSetting } from '../datagram-setting.js';
import { isLoopback } from '../loopback.js';
import type { Context } from '../program.js';
import { SETTINGS } from '../settings.js';
import { UsageError } from '../usage-error.js';
import { tlsOf } from './client-tls.js';
import { DAEMON } from './daemon-settings.js';
import { RenewedTicket } from './renewed-ticket.js';

/**
 * Opens the store of the daemon at `address`, as the settings say.
 * @param timeoutSeconds - Unless `--daemon-timeout` says something else.
 * @throws UsageError if the settings do not fit together
 * @throws StoreError if a file cannot be used, or the daemon does not let us in
 */
export async function openDaemon(
  context: Context,
  address: ListenAddress,
  timeoutSeconds: number,
): Promise<RemoteStore> {
  checkFit(context, address);
  const isUdp = context.get(DAEMON.transport) === 'udp';
  const path = context.get(DAEMON.ticket);
  const renewed = path === null ? null : new RenewedTicket(context, path);
  const ticket = (await renewed?.read()) ?? null;
  const store = await openRemoteStore({
    env: context.env,
    address,
    name: context.program,
    ticket,
    ...(renewed === null ? {} : { renewTicket: (present) => renewed.renew(present) }),
    tls: await tlsOf(context),
    deadlineMs: (context.get(DAEMON.timeout) ?? timeoutSeconds) * 1000,
    datagramBytes: isUdp ? context.get(datagramSetting) : 0,
  });
  if (ticket !== null) renewed?.watch(ticket);
  return store;
}

function checkFit(context: Context, address: ListenAddress): void {
  const ca = context.get(DAEMON.ca);
  if ('path' in address) {
    if (ca !== null)
      throw new UsageError('--ca-cert is for other machines; leave it out with a Unix socket');
    if (context.get(DAEMON.transport) === 'udp')
      throw new UsageError('A Unix socket has no UDP; leave out --transport udp');
    return;
  }
  if (isLoopback(address.host) || ca !== null) return;
  if (!context.get(SETTINGS.insecure))
    throw new UsageError(
      `${address.host} is another machine: add --ca-cert FILE, the authority of its certificate, so that nobody in between reads along; or --insecure`,
    );
  context.log.warn(
    { host: address.host },
    '--insecure: all goes in the clear, also what is stored',
  );
}
