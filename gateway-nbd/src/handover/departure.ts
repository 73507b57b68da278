/**
 * Bringing the clients of a server to rest, so that another one can go on with them.
 *
 * First those go who cannot be handed over: handshakes get a moment to finish, TLS sessions are ended where no answer
 * is owed. Sessions in the clear are served meanwhile. Then these execute nothing new, and what was begun is answered.
 * A request whose bytes have arrived in part, or which has to wait, is not begun: its bytes travel along. (Waiting for
 * the rest of it instead would make everybody's pause as long as one slow client likes.)
 */
import { StoreError, type Clock, type Log, type Timers } from '@store/core';
import type { ClientConnection } from '../client-connection.js';
import type { HandedSession } from './estate.js';

const POLL_MS = 1;

export interface DepartureEnv {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly log: Log;
}

/** Waits for those who cannot be handed over; who is left after `graceMs` is cut off. */
export async function retireOthers(
  clients: ReadonlySet<ClientConnection>,
  env: DepartureEnv,
  graceMs: number,
): Promise<void> {
  const others = (): ClientConnection[] => [...clients].filter((client) => !client.isSession);
  await until(env, graceMs, () => {
    const waiting = others();
    for (const client of waiting) client.retire();
    return waiting.length === 0;
  });
  for (const client of others()) client.drop('the server is replaced');
}

/** Suspends all. @throws StoreError `E_TIMEOUT` if one does not come to rest; they stay suspended then */
export async function bringToRest(
  clients: ReadonlySet<ClientConnection>,
  env: DepartureEnv,
  quietMs: number,
): Promise<void> {
  for (const client of clients) client.suspend();
  const restless = (): ClientConnection | undefined =>
    [...clients].find((client) => !client.isQuiet);
  if (await until(env, quietMs, () => restless() === undefined)) return;
  const { id, peerHost } = restless() ?? { id: 0, peerHost: 'gone by now' };
  throw new StoreError(
    'E_TIMEOUT',
    `Client ${id} (${peerHost}) does not read its answers, or its requests take longer than ${quietMs / 1000} s; try again, or disconnect it`,
  );
}

/** What is left by clients that are at rest; they are `done` soon. */
export function handOverAll(
  clients: readonly ClientConnection[],
  { log }: DepartureEnv,
): HandedSession[] {
  return clients.flatMap((client) => {
    try {
      return client.handOver() ?? [];
    } catch (error) {
      if (!(error instanceof StoreError)) throw error;
      log.error({ client: client.id }, `The client cannot be handed over: ${error.message}`);
      client.drop('it could not be handed over');
      return [];
    }
  });
}

/** True as soon as `condition` holds; false if it does not within `ms`. */
async function until(
  { clock, timers }: DepartureEnv,
  ms: number,
  condition: () => boolean,
): Promise<boolean> {
  const deadline = clock.now() + ms;
  while (!condition()) {
    if (clock.now() > deadline) return false;
    await timers.sleep(POLL_MS);
  }
  return true;
}
