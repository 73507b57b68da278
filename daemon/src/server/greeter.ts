/**
 * What is said before a session begins: START_TLS (where clients connect), HELLO, BEGIN, in this order and once each.
 * Nothing has an effect before BEGIN is answered.
 */
import {
  decodeBegin,
  decodeHello,
  encodeBeginAnswer,
  encodeHelloAnswer,
  DATAGRAM_LABEL,
  EXPORTER_BYTES,
  EXPORTER_LABEL,
  NONCE_BYTES,
  OP,
  PROTOCOL_VERSION,
  StoreError,
  type Begin,
  type CheckedTicket,
  type Hello,
  type Meeting,
  type TlsContext,
  type TlsPeer,
} from '@store/core';
import type { Association, AssociationKeys } from './datagram-desk.js';
import type { ClientLink, LinkShared } from './client-link.js';
import { guestWithoutTicket, type Entrance, type Guest } from './door.js';
import type { Session } from './session.js';

const NOTHING = Buffer.alloc(0);

/** Who is in. */
export interface Greeted {
  readonly guest: Guest;
  readonly session: Session;
  readonly resumed: boolean;
  readonly association: Association | null;
}

/** What to answer, and what comes next. */
export type GreetingStep =
  | { readonly body: Buffer; readonly then: 'more' | 'tls' }
  | { readonly body: Buffer; readonly then: 'begun'; readonly greeted: Greeted };

export interface GreeterOptions {
  readonly shared: LinkShared;
  readonly entrance: Entrance;
  readonly link: ClientLink;
  readonly isTls: boolean;
  /** Why nobody is let in, whoever it is; null: there is room. */
  readonly refusal: StoreError | null;
}

export class Greeter {
  /** Who the other end proved to be in TLS. */
  tlsPeer: TlsPeer | null = null;
  readonly #options: GreeterOptions;
  #hello: Hello | null = null;
  #ticket: CheckedTicket | null = null;
  #meeting: Meeting | null = null;
  #daemonNonce: Buffer = NOTHING;
  #session: Session | null = null;

  constructor(options: GreeterOptions) {
    this.#options = options;
  }

  get tls(): TlsContext | null {
    return this.#options.shared.door.tls;
  }

  get peerTls(): TlsContext | null {
    return this.#options.shared.door.peerTls;
  }

  /** The connection is gone before it began. */
  leave(): void {
    if (this.#session !== null)
      this.#options.shared.sessions.leave(this.#session, this.#options.link);
  }

  /** @throws StoreError why the client is not let in */
  async take(op: number, body: Buffer): Promise<GreetingStep> {
    if (op === OP.startTls) return this.#startTls();
    if (this.#options.refusal !== null) throw this.#options.refusal;
    if (op === OP.hello) return { body: this.#greet(decodeHello(body)), then: 'more' };
    return this.#begin(decodeBegin(body));
  }

  #startTls(): GreetingStep {
    if (this.#options.isTls || this.#hello !== null)
      throw new StoreError('E_BAD_FRAME', 'TLS begins before anything else, and once');
    if (this.tls === null)
      throw new StoreError(
        'E_DENIED',
        'This daemon has no certificate, so it cannot speak TLS; start it with --listen-cert and --listen-key',
      );
    return { body: NOTHING, then: 'tls' };
  }

  #greet(hello: Hello): Buffer {
    const { shared, isTls } = this.#options;
    if (this.#hello !== null) throw new StoreError('E_BAD_FRAME', 'HELLO is said once');
    if (hello.versionMin > PROTOCOL_VERSION || hello.versionMax < PROTOCOL_VERSION)
      throw new StoreError(
        'E_PROTOCOL_VERSION',
        `This daemon speaks version ${PROTOCOL_VERSION} of the protocol, the client ${hello.versionMin} to ${hello.versionMax}; use programs of one release`,
      );
    this.#needTls();
    const { diskId, startId } = shared.identity;
    const nonce = shared.env.random.bytes(NONCE_BYTES);
    this.#daemonNonce = nonce;
    let proof: Buffer = NOTHING;
    if (hello.ticket.length > 0) {
      this.#ticket = shared.door.check(hello.ticket);
      this.#meeting = {
        clientNonce: hello.nonce,
        daemonNonce: nonce,
        diskId,
        startId,
        ticketBytes: hello.ticket,
        exporter: isTls ? this.#options.link.exportKey(EXPORTER_LABEL, EXPORTER_BYTES) : NOTHING,
      };
      proof = shared.door.prove(this.#ticket, this.#meeting);
    }
    this.#hello = hello;
    return encodeHelloAnswer({ version: PROTOCOL_VERSION, diskId, startId, nonce, proof });
  }

  /** Without TLS nothing is said to whoever needs it. */
  #needTls(): void {
    const { shared, entrance, link, isTls } = this.#options;
    if (shared.door.demands(entrance, link.peer).tls && !isTls)
      throw new StoreError(
        'E_DENIED',
        this.tls === null
          ? 'This daemon lets in only programs on its own machine: it has no certificate for others (--listen-cert, --listen-key)'
          : 'This daemon wants TLS of whoever is not on its own machine; give the client --ca-cert',
      );
  }

  async #begin(begin: Begin): Promise<GreetingStep> {
    const hello = this.#hello;
    if (hello === null || this.#session !== null)
      throw new StoreError('E_BAD_FRAME', 'BEGIN comes after HELLO, and once');
    const { shared, link } = this.#options;
    const guest = this.#guest(hello, begin);
    const { session, resumed } = await shared.sessions.take(
      begin.session,
      begin.incarnation,
      guest.principal,
      link,
    );
    this.#session = session;
    const association =
      begin.datagramBytes === 0 || shared.desk === null || this.#options.entrance !== 'listen'
        ? null
        : shared.desk.associate({
            datagramBytes: begin.datagramBytes,
            peer: link.peer,
            keys: this.#sharedKeys(hello),
          });
    const { connectionRequestsMax, connectionBytesMax } = shared.budget.limits;
    const body = encodeBeginAnswer({
      resumed,
      lineage: shared.identity.lineage,
      requestsMax: connectionRequestsMax,
      bytesMax: connectionBytesMax,
      association: association?.id ?? NOTHING,
      datagramBytes: association?.datagramBytes ?? 0,
      isSealed: association?.isSealed ?? false,
    });
    return { body, then: 'begun', greeted: { guest, session, resumed, association } };
  }

  #guest(hello: Hello, begin: Begin): Guest {
    const { shared, entrance, link } = this.#options;
    if (this.#ticket !== null && this.#meeting !== null)
      return shared.door.admit(this.#ticket, this.#meeting, begin.proof);
    if (shared.door.demands(entrance, link.peer).ticket)
      throw new StoreError(
        'E_DENIED',
        'This daemon wants a ticket; give the client --ticket FILE, made with: store key ticket. If it is a part of a cluster, give --master and --client-key instead of --storage-daemon',
      );
    return guestWithoutTicket(entrance, this.tlsPeer?.name ?? hello.name);
  }

  /** What both ends know and nobody else; null without TLS and ticket. */
  #sharedKeys(hello: Hello): AssociationKeys | null {
    const nonces = { clientNonce: hello.nonce, daemonNonce: this.#daemonNonce };
    if (this.#ticket !== null) return { key: this.#ticket.key, ...nonces };
    if (!this.#options.isTls) return null;
    return { key: this.#options.link.exportKey(DATAGRAM_LABEL, EXPORTER_BYTES), ...nonces };
  }
}
