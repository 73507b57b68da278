/** A master that leads, knows whoever comes, and pushes whatever a test wants: also what no master would. */
import {
  CONTROL,
  ControlChannel,
  decodeGreeting,
  encodeMasterGreeting,
  NO_ANSWER,
  PROTOCOL_VERSION,
  saying,
  StoreError,
  type ControlMessage,
  type ControlOp,
  type Listener,
  type MasterAddress,
} from '@store/core';
import type { HasTeardown } from '../host/temp-folder.js';
import { liveEnv } from './live-cluster.js';

const PAYLOAD_MAX: number = 1024 * 1024;
const NOTHING = Buffer.alloc(0);

export interface FakeCluster {
  /** 32 hexadecimal digits. */
  readonly clusterId: string;
  /** Encoded. */
  readonly map: Buffer;
  readonly secrets: Buffer;
  /** Whom every daemon is taken for. */
  readonly daemonId: number;
}

export class FakeMaster {
  readonly #cluster: FakeCluster;
  readonly #listener: Listener;
  readonly #channels = new Set<ControlChannel>();
  /** So many of the first commands it does not answer: the connection breaks instead. */
  lostAnswers = 0;
  /** Commands that came. */
  commandCount = 0;

  /** @param at - Where somebody looks for a master. */
  static async start(t: HasTeardown, at: MasterAddress, cluster: FakeCluster): Promise<FakeMaster> {
    let fake: FakeMaster | null = null;
    const listener = await liveEnv.network.listen(at, (connection) => fake?.accept(connection));
    fake = new FakeMaster(listener, cluster);
    t.teardown(() => fake.close());
    return fake;
  }

  private constructor(listener: Listener, cluster: FakeCluster) {
    this.#listener = listener;
    this.#cluster = cluster;
  }

  /** Where it listens. */
  get address(): Listener['address'] {
    return this.#listener.address;
  }

  get connectionCount(): number {
    return this.#channels.size;
  }

  /** Tells everybody. @returns what each answers; null: it has taken it */
  push(op: ControlOp, payload: Buffer): Promise<(string | null)[]> {
    return Promise.all(
      [...this.#channels].map(async (channel) => {
        try {
          await channel.ask(op, {}, { payload });
          return null;
        } catch (error) {
          if (error instanceof StoreError) return error.code;
          throw error;
        }
      }),
    );
  }

  accept(connection: ConstructorParameters<typeof ControlChannel>[1]): void {
    const channel: ControlChannel = new ControlChannel(liveEnv, connection, {
      name: 'Who believes in the fake',
      silenceMs: 60_000,
      events: {
        asked: (op, message) => Promise.resolve(this.#asked(op, message, channel)),
        closed: () => this.#channels.delete(channel),
        defect: (error) => {
          throw error;
        },
      },
    });
    channel.trust(PAYLOAD_MAX);
    this.#channels.add(channel);
  }

  async close(): Promise<void> {
    for (const channel of [...this.#channels]) channel.end(new StoreError('E_CLOSED', 'Over'));
    await this.#listener.close();
  }

  #asked(op: ControlOp, { fields }: ControlMessage, channel: ControlChannel): ControlMessage {
    const { clusterId, daemonId, map, secrets } = this.#cluster;
    switch (op) {
      case CONTROL.meet: {
        decodeGreeting(fields);
        const ids = { clusterId: Buffer.from(clusterId, 'hex'), masterId: Buffer.alloc(16, 1) };
        const base = { version: PROTOCOL_VERSION, isLeader: true, leader: '' };
        return saying(
          encodeMasterGreeting({ ...base, ...ids, nonce: Buffer.alloc(32, 2), proof: NOTHING }),
        );
      }
      case CONTROL.register:
        return saying({ daemonId, clusterId, recoveryRate: 0 });
      case CONTROL.map:
        return { fields: {}, payload: map };
      case CONTROL.admin:
        this.commandCount += 1;
        if (this.commandCount <= this.lostAnswers)
          channel.fail(new StoreError('E_CLOSED', 'It dies'));
        return { fields: {}, payload: Buffer.from('null') };
      case CONTROL.secrets:
        return { fields: {}, payload: secrets };
      default:
        return NO_ANSWER;
    }
  }
}
