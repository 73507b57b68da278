/**
 * Takes the place of a master whose state is lost: daemons come as always, are asked for what they have kept, and are
 * told to wait. Nothing is decided here.
 */
import {
  CONTROL,
  ControlChannel,
  decodeGreeting,
  decodeJson,
  decodeMap,
  decodeRegistration,
  encodeMasterGreeting,
  MAP_BYTES_MAX,
  messageOf,
  numberIn,
  PoolSecret,
  PROTOCOL_VERSION,
  saying,
  StoreError,
  textsIn,
  isLoopbackPeer,
  type Connection,
  type ControlMessage,
  type ControlOp,
  type Env,
  type JsonFields,
  type ListenAddress,
  type Listener,
  type TlsContext,
} from '@store/core';
import { securePeer } from '../server/secure-connection.js';
import type { KeptByDaemon } from './rebuild-state.js';

const SILENCE_MS = 6000;
const KEPT_MS = 30_000;
const SECRET_BYTES_MAX = 4096;
const NOTHING = Buffer.alloc(0);

export interface RecoveryDeskOptions {
  readonly env: Env;
  readonly peerTls: TlsContext | null;
  /** Daemons on other machines may speak in the clear. */
  readonly insecure: boolean;
  /** A daemon has answered; null: it has kept nothing. */
  readonly answered: (address: string, kept: KeptByDaemon | null) => void;
  readonly defect: (error: unknown) => void;
}

export class RecoveryDesk {
  /** By disk. */
  readonly kept = new Map<string, KeptByDaemon>();
  readonly #options: RecoveryDeskOptions;
  readonly #channels = new Set<ControlChannel>();
  readonly #masterId: Buffer;
  #listener: Listener | null = null;

  constructor(options: RecoveryDeskOptions) {
    this.#options = options;
    this.#masterId = options.env.random.bytes(16);
  }

  /** @throws StoreError `E_SYSTEM` */
  async listen(address: ListenAddress): Promise<ListenAddress> {
    const { env } = this.#options;
    this.#listener = await env.network.listen(address, (connection) => {
      this.#accept(connection).catch((error: unknown) => {
        if (!(error instanceof StoreError)) this.#options.defect(error);
        env.log.warn({ peer: connection.peer }, `A daemon was refused: ${messageOf(error)}`);
      });
    });
    return this.#listener.address;
  }

  async close(): Promise<void> {
    await this.#listener?.close();
    for (const channel of [...this.#channels])
      channel.end(new StoreError('E_CLOSED', 'The recovery is over'));
  }

  async #accept(connection: Connection): Promise<void> {
    const { env, peerTls, insecure, defect } = this.#options;
    const { connection: secured } = await securePeer(env, connection, peerTls);
    const mayAsk = peerTls !== null || insecure || isLoopbackPeer(connection.peer);
    const channel: ControlChannel = new ControlChannel(env, secured, {
      name: `The daemon at ${connection.peer}`,
      silenceMs: SILENCE_MS,
      events: {
        asked: (op, message) => this.#asked(channel, op, message, mayAsk),
        closed: () => this.#channels.delete(channel),
        defect,
      },
    });
    this.#channels.add(channel);
  }

  async #asked(
    channel: ControlChannel,
    op: ControlOp,
    { fields }: ControlMessage,
    mayAsk: boolean,
  ): Promise<ControlMessage> {
    if (!mayAsk)
      throw new StoreError('E_DENIED', 'This master speaks in the clear on its own machine only');
    if (op === CONTROL.meet) return this.#meet(channel, fields);
    if (op === CONTROL.register) await this.#question(channel, fields);
    throw new StoreError(
      'E_BUSY',
      'The masters of this cluster are being recovered; wait until one is started again',
    );
  }

  #meet(channel: ControlChannel, fields: JsonFields): ControlMessage {
    decodeGreeting(fields);
    channel.trust(MAP_BYTES_MAX);
    return saying(
      encodeMasterGreeting({
        version: PROTOCOL_VERSION,
        clusterId: Buffer.alloc(16),
        masterId: this.#masterId,
        isLeader: true,
        leader: '',
        nonce: this.#options.env.random.bytes(32),
        proof: NOTHING,
      }),
    );
  }

  async #question(channel: ControlChannel, fields: JsonFields): Promise<void> {
    const { diskId, address, capacityBytes } = decodeRegistration(fields);
    const answer = await channel.ask(CONTROL.keptMap, {}, { deadlineMs: KEPT_MS });
    const mapBytes = numberIn(answer.fields, 'mapBytes', answer.payload.length);
    if (mapBytes === 0) {
      this.#options.answered(address, null);
      return;
    }
    const map = decodeMap(answer.payload.subarray(0, mapBytes));
    const rest = decodeJson(
      Buffer.concat([
        Buffer.from('{"secrets":'),
        answer.payload.subarray(mapBytes),
        Buffer.from('}'),
      ]),
    );
    const texts = textsIn(rest, 'secrets', SECRET_BYTES_MAX);
    const secrets = texts.map((text) => PoolSecret.parse(`A secret from ${address}`, text));
    const isNews = this.kept.get(diskId)?.map.version !== map.version;
    const kept = { diskId, capacityBytes, map, secrets };
    this.kept.set(diskId, kept);
    if (isNews) this.#options.answered(address, kept);
  }
}
