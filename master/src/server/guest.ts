/**
 * One connection to a master: somebody who was met, and what it may ask. Daemons come in where masters and daemons
 * connect, clients and people where clients do.
 */
import {
  bytesIn,
  CONTROL,
  ControlChannel,
  decodeGreeting,
  decodeGroupRequest,
  decodeRegistration,
  decodeReport,
  encodeMasterGreeting,
  exporterOf,
  makeProof,
  meetingOf,
  messageOf,
  NO_ANSWER,
  numberIn,
  PROTOCOL_VERSION,
  saying,
  StoreError,
  textIn,
  verifyProof,
  type ControlAnswer,
  type ControlMessage,
  type ControlOp,
  type Greeting,
  type MasterGreeting,
} from '@store/core';
import type { ClientRecord } from '../cluster/cluster-state.js';
import type { DaemonConnection } from './roster.js';
import type { Host } from './host.js';
import type { SecuredConnection } from './secure-connection.js';

const NONCE_BYTES = 32;
const PROOF_BYTES = 32;
const POOL_BYTES_MAX = 128;
const SILENCE_MS = 6000;
/** Maps and other long things go from masters to the others, not back. */
const PAYLOAD_MAX: number = 64 * 1024;
const GREETING_MS = 10_000;
const PUSH_AGAIN_MS = 2000;
const NOTHING = Buffer.alloc(0);

/** Where a connection came in. */
export type Entrance = 'listen' | 'peer';

/** Who somebody is, and what it may do. */
export interface Principal {
  /** For logs. */
  readonly name: string;
  /** Null: somebody on this machine, while nobody needs a key. */
  readonly client: ClientRecord | null;
  readonly isAdmin: boolean;
}

export class Guest {
  readonly entrance: Entrance;
  readonly channel: ControlChannel;
  /** Resolves when it is gone. */
  readonly done: Promise<void>;
  readonly #host: Host;
  #isTls: boolean;
  /** Common name of its certificate; empty: it showed none. */
  #certified = '';
  #greeting: Greeting | null = null;
  #master: MasterGreeting | null = null;
  #principal: Principal | null = null;
  #daemon: DaemonConnection | null = null;
  #reportedAt = 0;
  /** The version of the map it was sent last; null: it has not asked for any. */
  #sentVersion: number | null = null;
  #isSending = false;

  constructor(
    host: Host,
    { connection, certified }: SecuredConnection,
    entrance: Entrance,
    isTls: boolean,
  ) {
    this.#host = host;
    this.#certified = certified;
    this.entrance = entrance;
    this.#isTls = isTls;
    let gone: () => void = () => undefined;
    this.done = new Promise((resolve) => (gone = resolve));
    this.channel = new ControlChannel(host.env, connection, {
      name: `The ${entrance === 'peer' ? 'daemon' : 'client'} at ${connection.peer}`,
      silenceMs: SILENCE_MS,
      events: {
        asked: (op, message) => this.#asked(op, message),
        closed: (error) => {
          this.#left(error);
          gone();
        },
        defect: (error) => host.defect(error),
      },
    });
    const timer = host.env.timers.after(GREETING_MS, () => {
      if (this.#principal === null)
        this.channel.fail(new StoreError('E_TIMEOUT', 'The greeting took too long'));
    });
    void this.done.then(() => timer.cancel());
  }

  get principal(): Principal | null {
    return this.#principal;
  }

  /** The daemon that registered on this connection. */
  get daemon(): DaemonConnection | null {
    return this.#daemon;
  }

  /** Sends the newest map, unless it has it or does not want any. One at a time, the newest only. */
  sendMap(): void {
    if (this.#sentVersion === null || this.#isSending || !this.channel.isOpen) return;
    if (!this.#host.isLeader) return; // it is sent away
    const { version, bytes } = this.#host.encodedMap();
    if (this.#sentVersion >= version) return;
    this.#isSending = true;
    this.channel.ask(CONTROL.map, { version }, { payload: bytes, deadlineMs: 30_000 }).then(
      () => {
        this.#isSending = false;
        this.#sentVersion = version;
        this.sendMap();
      },
      (error: unknown) => {
        this.#isSending = false;
        if (!this.channel.isOpen) return;
        const { log, timers } = this.#host.env;
        log.warn({ peer: this.channel.peer }, `Map ${version} was not taken: ${messageOf(error)}`);
        timers.after(PUSH_AGAIN_MS, () => this.sendMap());
      },
    );
  }

  /** Sends a daemon the secrets of all pools, and says what it may remove. */
  sendSecrets(): void {
    if (this.#daemon === null || !this.channel.isOpen || !this.#host.isLeader) return;
    const { payload } = this.#secrets();
    this.channel
      .ask(CONTROL.secrets, {}, { payload, deadlineMs: 30_000 })
      .catch((error: unknown) => {
        if (!this.channel.isOpen) return;
        const { log, timers } = this.#host.env;
        log.warn({ peer: this.channel.peer }, `Secrets were not taken: ${messageOf(error)}`);
        timers.after(PUSH_AGAIN_MS, () => this.sendSecrets());
      });
  }

  #secrets(): ControlMessage {
    if (this.#daemon === null)
      throw new StoreError('E_DENIED', 'Secrets of pools are for daemons that have registered');
    const { daemonId } = this.#daemon;
    return { fields: {}, payload: Buffer.from(JSON.stringify(this.#host.secretsFor(daemonId))) };
  }

  #left(error: StoreError): void {
    const daemon = this.#daemon;
    this.#daemon = null;
    if (daemon !== null) this.#host.daemonLeft(daemon, error);
  }

  async #asked(op: ControlOp, message: ControlMessage): Promise<ControlAnswer> {
    const { fields } = message;
    if (op === CONTROL.startTls) return this.#startTls();
    if (op === CONTROL.meet) return this.#meet(decodeGreeting(fields));
    if (op === CONTROL.prove) return this.#prove(bytesIn(fields, 'proof', PROOF_BYTES));
    const principal = this.#principal;
    if (principal === null) throw new StoreError('E_BAD_FRAME', 'Who asks must be met first');
    this.#host.needLeader();
    switch (op) {
      case CONTROL.map:
        return this.#wantsMap(numberIn(fields, 'after', Number.MAX_SAFE_INTEGER));
      case CONTROL.register:
        return this.#register(message);
      case CONTROL.report:
        return this.#report(message);
      case CONTROL.group:
        return this.#decideGroup(message);
      case CONTROL.secrets:
        return this.#secrets();
      case CONTROL.ticket:
        return saying(this.#host.ticketFor(principal, textIn(fields, 'pool', POOL_BYTES_MAX)));
      case CONTROL.admin:
        if (this.entrance === 'peer') throw wrongEntrance();
        return this.#host.administer(principal, fields);
      default:
        throw new StoreError('E_BAD_FRAME', `A master is not asked for operation ${op}`);
    }
  }

  #startTls(): ControlAnswer {
    const tls = this.entrance === 'listen' ? this.#host.listenTls : null;
    if (tls === null)
      throw new StoreError(
        'E_DENIED',
        'This master speaks no TLS here; start it with --listen-cert and --listen-key, or leave out --ca-cert',
      );
    if (this.#isTls || this.#greeting !== null)
      throw new StoreError('E_BAD_FRAME', 'TLS begins before anything else, and once');
    this.#isTls = true;
    const begin = (): void => {
      this.channel.startTls(tls).then(
        ({ proof, name }) => {
          if (proof === 'x509') this.#certified = name;
        },
        (error: unknown) => {
          this.#host.env.log.info({ peer: this.channel.peer }, `No TLS: ${messageOf(error)}`);
          this.channel.fail(
            error instanceof StoreError ? error : new StoreError('E_SYSTEM', messageOf(error)),
          );
        },
      );
    };
    return { ...NO_ANSWER, after: begin }; // it leaves in the clear
  }

  #meet(greeting: Greeting): ControlMessage {
    if (this.#greeting !== null) throw new StoreError('E_BAD_FRAME', 'One meets once');
    if (this.entrance === 'peer' && greeting.client !== '') throw wrongEntrance();
    if (greeting.versionMin > PROTOCOL_VERSION || greeting.versionMax < PROTOCOL_VERSION)
      throw new StoreError(
        'E_PROTOCOL_VERSION',
        `This master speaks version ${PROTOCOL_VERSION} of the protocol, and ${greeting.name} ${greeting.versionMin} to ${greeting.versionMax}; use programs of one release`,
      );
    const host = this.#host;
    host.checkWay(this.entrance, this.channel.peer, this.#isTls);
    this.#greeting = greeting;
    const nonce = host.env.random.bytes(NONCE_BYTES);
    const { clusterId, masterId, leader } = host.facts(this.entrance);
    const isLeader = leader === null;
    const base = { version: PROTOCOL_VERSION, clusterId, masterId, isLeader, nonce };
    const master: MasterGreeting = { ...base, leader: leader ?? '', proof: NOTHING };
    this.#master = master;
    if (!isLeader) return saying(encodeMasterGreeting(master));
    if (this.entrance === 'peer')
      this.#isMet({ name: greeting.name, client: null, isAdmin: false });
    else if (greeting.client === '' && this.#certified !== '')
      this.#isClient(host.clientNamed(this.#certified));
    else if (greeting.client === '') this.#isMet(host.withoutKey(this.channel.peer, greeting.name));
    else {
      const { key } = host.clientNamed(greeting.client);
      const proof = makeProof(key, 'daemon', meetingOf(greeting, master, exporterOf(this.channel)));
      return saying(encodeMasterGreeting({ ...master, proof }));
    }
    return saying(encodeMasterGreeting(master));
  }

  #prove(proof: Buffer): ControlMessage {
    const [greeting, master] = [this.#greeting, this.#master];
    if (greeting === null || master === null || !master.isLeader || this.#principal !== null)
      throw new StoreError('E_BAD_FRAME', 'A proof has no place here');
    this.#host.needLeader();
    const client = this.#host.clientNamed(greeting.client);
    const meeting = meetingOf(greeting, master, exporterOf(this.channel));
    if (!verifyProof(client.key, 'client', meeting, proof))
      throw new StoreError('E_DENIED', `The key is not that of client "${client.name}"`);
    this.#isClient(client);
    return NO_ANSWER;
  }

  #isClient(client: ClientRecord): void {
    this.#isMet({ name: `client ${client.name}`, client, isAdmin: client.isAdmin });
  }

  #isMet(principal: Principal): void {
    this.#principal = principal;
    this.channel.trust(PAYLOAD_MAX);
  }

  #wantsMap(after: number): ControlMessage {
    const { version, bytes } = this.#host.encodedMap();
    this.#sentVersion = Math.max(this.#sentVersion ?? 0, version);
    return { fields: { version }, payload: version > after ? bytes : NOTHING };
  }

  async #register({ fields }: ControlMessage): Promise<ControlMessage> {
    if (this.entrance !== 'peer')
      throw new StoreError(
        'E_DENIED',
        'Daemons register at the peer address of a master (--peer-address), and this is the one for clients',
      );
    if (this.#certified !== '' && this.#host.state.clients.has(this.#certified))
      throw new StoreError(
        'E_DENIED',
        `The certificate is that of client "${this.#certified}", which is no daemon`,
      );
    const registration = decodeRegistration(fields);
    const { daemonId, startId } = await this.#host.register(registration, this.channel.peer);
    if (!this.channel.isOpen) throw new StoreError('E_CLOSED', 'The daemon has left already');
    const connection = { daemonId, startId, peer: this.channel.peer };
    this.#daemon = connection;
    this.#reportedAt = this.#host.env.clock.now();
    this.#host.daemonArrived(connection, this);
    const { map, recoveryRate } = this.#host.state;
    return saying({ daemonId, clusterId: map.clusterId, recoveryRate });
  }

  async #decideGroup({ fields }: ControlMessage): Promise<ControlMessage> {
    const daemon = this.#daemon;
    if (daemon === null)
      throw new StoreError('E_DENIED', 'Only daemons that have registered ask about groups');
    return saying({ version: await this.#host.decideGroup(daemon, decodeGroupRequest(fields)) });
  }

  async #report({ fields }: ControlMessage): Promise<ControlMessage> {
    const daemon = this.#daemon;
    if (daemon === null) throw new StoreError('E_BAD_FRAME', 'A daemon registers, then reports');
    const now = this.#host.env.clock.now();
    const elapsed = now - this.#reportedAt;
    this.#reportedAt = now;
    await this.#host.reported(daemon, decodeReport(fields), elapsed);
    return NO_ANSWER;
  }
}

function wrongEntrance(): StoreError {
  return new StoreError(
    'E_DENIED',
    'This is where daemons connect (--peer-address); name the address where the master listens for clients (--listen-address)',
  );
}
