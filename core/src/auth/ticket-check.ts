/**
 * What a daemon makes of a ticket that is shown to it. Reading a ticket proves nothing: anybody can write one. What
 * is found here counts once the other side has proved to know the key ({@link verifyProof}).
 */
import { StoreError } from '../util/errors.js';
import type { Blocklist } from './blocklist.js';
import { momentText } from './moment.js';
import type { PoolSecret } from './pool-secret.js';
import { decodeTicket, encodeTicket, ticketKey, type Ticket, type TicketRights } from './ticket.js';

/** So far the clocks of who issues tickets and of a daemon may be apart. */
export const CLOCK_SKEW_SECONDS = 300;

/** What the client of a ticket may do. */
export interface TicketGrants {
  readonly client: string;
  readonly pool: string;
  readonly rights: TicketRights;
  /** Seconds since 1970, when the connection must end or show another ticket. */
  readonly expires: number;
}

/** A ticket that is in order, if only its client proves that it is its. */
export interface CheckedTicket {
  readonly grants: TicketGrants;
  readonly ticket: Ticket;
  /** What the client has to prove to know. */
  readonly key: Buffer;
}

export interface SecretRingOptions {
  /** The masters hand them out: one that is not here may be on its way, and whoever needs it is told to come again. */
  readonly areHandedOut?: boolean;
}

/** The secrets a daemon knows: of several pools, and of each several generations. */
export class SecretRing {
  readonly #generationsOf = new Map<string, Map<number, PoolSecret>>();
  readonly #areHandedOut: boolean;

  /** @throws StoreError `E_INVALID` if two are of the same pool and generation: which one would count? */
  constructor(secrets: Iterable<PoolSecret>, { areHandedOut = false }: SecretRingOptions = {}) {
    this.#areHandedOut = areHandedOut;
    for (const secret of secrets) {
      const { pool, generation } = secret;
      const generations = this.#generationsOf.get(pool) ?? new Map<number, PoolSecret>();
      if (generations.has(generation))
        throw new StoreError(
          'E_INVALID',
          `Generation ${generation} of the secret of pool ${JSON.stringify(pool)} is given twice`,
        );
      generations.set(generation, secret);
      this.#generationsOf.set(pool, generations);
    }
  }

  /** The pools it has secrets of. */
  get pools(): string[] {
    return [...this.#generationsOf.keys()];
  }

  /** @throws StoreError `E_DENIED` if there is none and none will come, `E_STALE_MAP` if one may */
  secretFor({ pool, generation }: Ticket): PoolSecret {
    const generations = this.#generationsOf.get(pool);
    if (generations === undefined)
      throw new StoreError(
        this.#areHandedOut ? 'E_STALE_MAP' : 'E_DENIED',
        `The ticket is for pool ${JSON.stringify(pool)}, whose secret is not here`,
      );
    const secret = generations.get(generation);
    if (secret === undefined) {
      const known = [...generations.keys()];
      const isNewer = generation > Math.max(...known);
      throw new StoreError(
        this.#areHandedOut && isNewer ? 'E_STALE_MAP' : 'E_DENIED',
        `The ticket was made with generation ${generation} of the pool's secret; known here: ${known.join(', ')}`,
      );
    }
    return secret;
  }
}

/**
 * Checks what a client shows.
 * @param ticketBytes - From the wire; not kept.
 * @param now - Seconds since 1970.
 * @throws StoreError `E_DENIED` saying why: no ticket, unknown pool or generation, not yet valid, expired, revoked;
 *   `E_STALE_MAP`: see {@link SecretRing.secretFor}
 */
export function checkTicket(
  ticketBytes: Buffer,
  known: { secrets: SecretRing; blocklist: Blocklist },
  now: number,
): CheckedTicket {
  const ticket = decodeTicket(ticketBytes);
  const secret = known.secrets.secretFor(ticket);
  checkTime(ticket, now);
  checkRevoked(ticket, known.blocklist);
  const { client, pool, rights, expires } = ticket;
  return {
    grants: { client, pool, rights, expires },
    ticket,
    key: ticketKey(secret, ticketBytes),
  };
}

/**
 * Checks a ticket again that was in order: time has passed, and secrets and lists have changed. A clock that was set
 * back meanwhile puts out nobody who is in.
 * @throws StoreError as {@link checkTicket}
 */
export function recheckTicket(
  { ticket, key }: CheckedTicket,
  known: { secrets: SecretRing; blocklist: Blocklist },
  now: number,
): void {
  const { secrets, blocklist } = known;
  const since = Math.max(now, ticket.issued);
  const checked = checkTicket(encodeTicket(ticket), { secrets, blocklist }, since);
  // A secret may have been replaced by another of the same generation.
  if (!checked.key.equals(key))
    throw denied(`The ticket ${ticket.id} was made with a secret that is not known any more`);
}

function checkTime(ticket: Ticket, now: number): void {
  if (now >= ticket.expires)
    throw denied(`The ticket expired at ${momentText(ticket.expires)}; get a new one`);
  if (ticket.issued > now + CLOCK_SKEW_SECONDS)
    throw denied(
      `The ticket is of ${momentText(ticket.issued)}, and here it is ${momentText(now)}; set the clocks right`,
    );
}

function checkRevoked(ticket: Ticket, blocklist: Blocklist): void {
  const revoked = blocklist.revokedBy(ticket);
  if (revoked === 'ticket') throw denied(`The ticket ${ticket.id} was revoked`);
  if (revoked === 'client') throw denied(`The client ${JSON.stringify(ticket.client)} was revoked`);
}

function denied(message: string): StoreError {
  return new StoreError('E_DENIED', message);
}
