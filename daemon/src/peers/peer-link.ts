/**
 * A link to one start of another daemon, which has proved to be it: two connections, of which `control` never waits for
 * `data` (see `peer-ops.ts`).
 *
 * Each end says on `control`, every second, that it is there and how much of `data` it has read. Who is silent for
 * `SILENCE_MS` is given up; so is who does not read `data` although its disk is not behind: a connection that is dead in
 * one direction, which the system would find out after a quarter of an hour.
 */
import { readU64, StoreError, writeU64, type BufferPool, type Env, type Timer } from '@store/core';
import type { Ack, PeerMessage } from '../replication/peer-message.js';
import { OpenChanges } from './open-changes.js';
import type { Held, PeerConnection } from './peer-connection.js';
import { channelOf } from './peer-ops.js';

export const PULSE_MS = 1000;
export const SILENCE_MS = 5000;
/** A look that comes so late was held up by us: what the other end has said may not have been read yet. */
const HELD_UP_MS = 1000;

// PULSE, little-endian.
const AT_READ = 0; //    8  bytes that came over `data`, with everything
const AT_STALLED = 8; // 1  1: nothing is read, the disk is behind
const PULSE_BYTES = 9;

export interface PeerLinkEvents {
  received(message: PeerMessage): void;
  /** It is over. Called once, and nothing after it; in a turn of its own. */
  closed(error: StoreError): void;
  defect(error: unknown): void;
}

export interface PeerLinkOptions {
  readonly env: Env;
  readonly daemon: number;
  readonly startId: string;
  readonly control: PeerConnection;
  readonly data: PeerConnection;
  readonly buffers: BufferPool;
  readonly events: PeerLinkEvents;
}

export class PeerLink {
  readonly daemon: number;
  readonly startId: string;
  readonly #env: Env;
  readonly #control: PeerConnection;
  readonly #data: PeerConnection;
  readonly #events: PeerLinkEvents;
  readonly #changes: OpenChanges;
  /** Acks of this turn, by group: they leave in one frame each. */
  #acks: { type: 'ack'; pool: number; group: number; epoch: number; indexes: number[] }[] = [];
  #heardAt: number;
  #lookedAt: number;
  /** How much of `data` the other end has read, and since when it has not read more. */
  #readThere = 0;
  #stuckSince: number;
  #timer: Timer | null = null;
  #failure: StoreError | null = null;

  constructor(options: PeerLinkOptions) {
    const { env, daemon, startId, control, data, buffers, events } = options;
    this.daemon = daemon;
    this.startId = startId;
    this.#env = env;
    this.#control = control;
    this.#data = data;
    this.#events = events;
    this.#changes = new OpenChanges(buffers);
    const now = env.clock.now();
    this.#heardAt = now;
    this.#lookedAt = now;
    this.#stuckSince = now;
  }

  /** Address of the other end. */
  get peer(): string {
    return this.#control.peer;
  }

  /** Bytes of changes that wait for the disk. */
  get heldBytes(): number {
    return this.#data.heldBytes;
  }

  get isOpen(): boolean {
    return this.#failure === null;
  }

  /** Reads from now on. */
  open(): void {
    const events = {
      met: () => undefined,
      closed: (error: StoreError) => this.close(error),
      defect: (error: unknown) => this.#events.defect(error),
      received: (message: PeerMessage, held: Held) => this.#received(message, held),
      pulse: (body: Buffer) => this.#pulse(body),
    };
    this.#lookLater();
    this.#control.open('control', events);
    this.#data.open('data', events);
    for (const { isOpen } of [this.#control, this.#data])
      if (!isOpen) this.close(new StoreError('E_UNREACHABLE', `${this.peer} has gone already`));
  }

  /** In order on each of the connections; lost if the link breaks. */
  send(message: PeerMessage): void {
    if (this.#failure !== null) return;
    if (message.type === 'ack') {
      this.#ack(message);
      return;
    }
    if (message.type === 'refusal' || message.type === 'behind')
      this.#free(this.#changes.answered(message));
    if (channelOf(message.type) === 'data') {
      this.#data.send(message);
      return;
    }
    this.#sendAcks();
    this.#control.send(message);
  }

  /** See `PeerPort.recall`. */
  recall(): void {
    if (this.#data.hasUnsent)
      this.close(
        new StoreError('E_CLOSED', 'Not waited for any more, with changes still to be sent'),
      );
  }

  /** It is over. */
  close(error: StoreError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#timer?.cancel();
    this.#control.fail(error);
    this.#data.fail(error);
    queueMicrotask(() => this.#events.closed(error));
  }

  #received(message: PeerMessage, held: Held): void {
    if (this.#failure !== null) return;
    if (message.type === 'prepare')
      this.#free(this.#changes.add(message, held, this.#env.clock.now()));
    this.#events.received(message);
  }

  #free(bytes: number): void {
    if (bytes > 0) this.#data.free(bytes);
  }

  #ack(message: Ack): void {
    this.#free(this.#changes.answered(message));
    const { pool, group, epoch, indexes } = message;
    // Few groups are busy in one turn.
    const same = this.#acks.find(
      (ack) => ack.group === group && ack.pool === pool && ack.epoch === epoch,
    );
    if (same !== undefined) {
      for (const index of indexes) same.indexes.push(index);
      return;
    }
    if (this.#acks.length === 0) queueMicrotask(() => this.#sendAcks());
    this.#acks.push({ type: 'ack', pool, group, epoch, indexes: [...indexes] });
  }

  #sendAcks(): void {
    if (this.#acks.length === 0) return;
    const acks = this.#acks;
    this.#acks = [];
    for (const ack of acks) this.#control.send(ack);
  }

  /** @throws StoreError `E_BAD_FRAME` */
  #pulse(body: Buffer): void {
    const stalled = body[AT_STALLED];
    if (body.length !== PULSE_BYTES || (stalled !== 0 && stalled !== 1))
      throw new StoreError('E_BAD_FRAME', 'A pulse has other fields than it should');
    const now = this.#env.clock.now();
    this.#heardAt = now;
    const read = readU64(body, AT_READ);
    if (read < this.#readThere || read > this.#data.writtenBytes)
      throw new StoreError('E_BAD_FRAME', 'A daemon has read what it was not sent');
    if (read > this.#readThere || read === this.#data.writtenBytes || stalled === 1)
      this.#stuckSince = now;
    this.#readThere = read;
  }

  #lookLater(): void {
    this.#timer = this.#env.timers.after(PULSE_MS, () => {
      this.#look(this.#env.clock.now());
      if (!this.isOpen) return;
      this.#sendPulse();
      this.#lookLater();
    });
  }

  #look(now: number): void {
    if (now - this.#lookedAt > PULSE_MS + HELD_UP_MS) {
      // What has come in meanwhile is read first: an end must not be given up for our own sleep.
      this.#heardAt = Math.max(this.#heardAt, now - SILENCE_MS / 2);
      this.#stuckSince = Math.max(this.#stuckSince, now - SILENCE_MS / 2);
    }
    this.#lookedAt = now;
    this.#free(this.#changes.sweep(now));
    if (now - this.#heardAt > SILENCE_MS)
      this.close(new StoreError('E_TIMEOUT', `${this.peer} has said nothing for 5 s`));
    else if (now - this.#stuckSince > SILENCE_MS)
      this.close(new StoreError('E_TIMEOUT', `${this.peer} has read nothing for 5 s`));
  }

  #sendPulse(): void {
    const body = Buffer.alloc(PULSE_BYTES);
    writeU64(body, AT_READ, this.#data.receivedBytes);
    body[AT_STALLED] = this.#data.isStalled ? 1 : 0;
    this.#control.pulse(body);
  }
}
