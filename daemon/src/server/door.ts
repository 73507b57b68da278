/**
 * Who may come in, and how (design section 10). Where others can connect, a client needs TLS and a ticket; on the machine
 * itself it may speak plainly; whoever can open the owner's socket owns the folder. Secrets of pools that are given to a
 * daemon make it demand tickets of everybody but the owner.
 */
import {
  Blocklist,
  checkTicket,
  isLoopbackPeer,
  makeProof,
  recheckTicket,
  SecretRing,
  StoreError,
  verifyProof,
  type CheckedTicket,
  type Clock,
  type Meeting,
  type Right,
  type TlsContext,
} from '@store/core';

/** Where a connection came in. */
export type Entrance =
  /** The socket in the folder. */
  | 'owner'
  /** Where clients connect. */
  | 'listen'
  /** Where other daemons and masters connect, with certificates on both sides. */
  | 'peer';

export interface DoorOptions {
  readonly secrets: SecretRing;
  readonly blocklist: Blocklist;
  /** For connections where clients connect; null: none can be private. */
  readonly tls: TlsContext | null;
  /** For connections of other daemons and masters, which must show a certificate. */
  readonly peerTls: TlsContext | null;
  /** Everybody may speak plainly and needs no ticket, unless there are secrets. */
  readonly insecure: boolean;
}

/** What somebody who is in may do. */
export interface Guest {
  /** For sessions and log lines; stays the same when it comes back. */
  readonly principal: string;
  /** The only pool it may use; null: any. */
  readonly pool: string | null;
  readonly rights: string;
  readonly ticket: CheckedTicket | null;
}

/** What a connection must do before it is let in. */
export interface Demands {
  readonly tls: boolean;
  readonly ticket: boolean;
}

export class Door {
  readonly #clock: Clock;
  #options: DoorOptions;

  constructor(options: DoorOptions, clock: Clock) {
    this.#options = options;
    this.#clock = clock;
  }

  get tls(): TlsContext | null {
    return this.#options.tls;
  }

  get peerTls(): TlsContext | null {
    return this.#options.peerTls;
  }

  get hasSecrets(): boolean {
    return this.#options.secrets.pools.length > 0;
  }

  /** Secrets and lists were read again. */
  replace(options: Pick<DoorOptions, 'secrets' | 'blocklist'>): void {
    this.#options = { ...this.#options, ...options };
  }

  /** @param peer - Address of the other end, as `Connection.peer` */
  demands(entrance: Entrance, peer: string): Demands {
    if (entrance === 'owner') return { tls: false, ticket: false };
    if (entrance === 'peer') return { tls: true, ticket: false };
    const isExposed = !isLoopbackPeer(peer) && !this.#options.insecure;
    return { tls: isExposed, ticket: isExposed || this.hasSecrets };
  }

  /** What a ticket is worth once its client has proved to be its. @throws StoreError as `checkTicket` */
  check(ticketBytes: Buffer): CheckedTicket {
    const { secrets, blocklist } = this.#options;
    return checkTicket(ticketBytes, { secrets, blocklist }, this.#clock.wallSeconds());
  }

  /** The daemon's side of the proof. */
  prove(ticket: CheckedTicket, meeting: Meeting): Buffer {
    return makeProof(ticket.key, 'daemon', meeting);
  }

  /** @throws StoreError `E_DENIED` unless the client has proved to know the ticket's key */
  admit(ticket: CheckedTicket, meeting: Meeting, proof: Buffer): Guest {
    if (!verifyProof(ticket.key, 'client', meeting, proof))
      throw new StoreError('E_DENIED', 'The proof that the ticket is yours is wrong');
    const { client, pool, rights } = ticket.grants;
    return { principal: `client ${client}`, pool, rights, ticket };
  }

  /** Why somebody who is in must go, by what is demanded of him now; null if he may stay. */
  objection({ ticket }: Guest, demands: Demands): StoreError | null {
    if (ticket === null)
      return demands.ticket
        ? new StoreError('E_DENIED', 'This daemon was given secrets and wants a ticket now')
        : null;
    try {
      recheckTicket(ticket, this.#options, this.#clock.wallSeconds());
      return null;
    } catch (error) {
      if (error instanceof StoreError) return error;
      throw error;
    }
  }
}

/** Somebody who needs no ticket. */
export function guestWithoutTicket(entrance: Entrance, name: string): Guest {
  const rights = entrance === 'peer' ? 'r' : 'rwa';
  return { principal: `${entrance} ${name}`, pool: null, rights, ticket: null };
}

/** Why a guest may not do `what`; null if it may. */
export function rightObjection(guest: Guest, right: Right, what: string): StoreError | null {
  if (right === 'none' || guest.rights.includes(right)) return null;
  return new StoreError(
    'E_DENIED',
    `${guest.principal} may not ${what}: it has the rights '${guest.rights}' and this needs '${right}'`,
  );
}
