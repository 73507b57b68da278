/**
 * Changes that came over a link and were not answered yet: what they take of the window and of memory. That a change is
 * made, or will not be, is what its receiver says to who sent it; so nobody has to say it twice.
 *
 * A change that is never answered (its group moved away meanwhile) gives its part of the window back after a while, but
 * not its memory.
 */
import type { BufferPool } from '@store/core';
import type { Ack, Behind, GroupEpoch, Prepare, Refusal } from '../replication/peer-message.js';
import type { Held } from './peer-connection.js';

export const FORGOTTEN_MS = 30_000;

interface OpenChange extends Held {
  readonly at: number;
}

/** Of one group, in one epoch: changes by their index, in the order they came. */
interface Stream {
  readonly epoch: number;
  readonly changes: Map<number, OpenChange>;
  /** From this index on nothing is made, and nothing more is said. */
  refusedFrom: number;
}

export class OpenChanges {
  readonly #buffers: BufferPool;
  readonly #streams = new Map<number, Stream>();

  constructor(buffers: BufferPool) {
    this.#buffers = buffers;
  }

  /** @returns bytes of the window that are free now: of an older epoch, which nobody waits for */
  add(message: Prepare, held: Held, now: number): number {
    const key = keyOf(message);
    let stream = this.#streams.get(key);
    let freed = 0;
    if (stream?.epoch !== message.epoch) {
      if (stream !== undefined) freed = costOf(stream.changes.values());
      stream = { epoch: message.epoch, changes: new Map(), refusedFrom: Infinity };
      this.#streams.set(key, stream);
    }
    if (message.index >= stream.refusedFrom) return freed + held.cost;
    // One that comes twice is answered once.
    freed += stream.changes.get(message.index)?.cost ?? 0;
    // Field by field: what a spread makes is slow to make, and to read.
    const { cost, buffer } = held;
    stream.changes.set(message.index, { cost, buffer, at: now });
    return freed;
  }

  /** The receiver answers. @returns bytes of the window that are free now */
  answered(message: Ack | Refusal | Behind): number {
    const key = keyOf(message);
    const stream = this.#streams.get(key);
    if (stream === undefined) return 0;
    const freed =
      message.type === 'ack' ? this.#made(stream, message) : this.#refused(stream, message);
    if (isIdle(stream)) this.#streams.delete(key);
    return freed;
  }

  /** @returns bytes of the window that were of changes nobody will answer */
  sweep(now: number): number {
    let freed = 0;
    for (const [key, stream] of this.#streams) {
      const { changes } = stream;
      for (const [index, { at, cost }] of changes) {
        if (now - at < FORGOTTEN_MS) break;
        freed += cost;
        changes.delete(index);
      }
      if (isIdle(stream)) this.#streams.delete(key);
    }
    return freed;
  }

  #made({ epoch, changes }: Stream, message: Ack): number {
    if (epoch !== message.epoch) return 0;
    let freed = 0;
    for (const index of message.indexes) {
      const change = changes.get(index);
      if (change === undefined) continue;
      changes.delete(index);
      freed += change.cost;
      if (change.buffer !== null) this.#buffers.release(change.buffer);
    }
    return freed;
  }

  /** Nothing from that index on is made, but maybe looked at still. */
  #refused(stream: Stream, message: Refusal | Behind): number {
    const { epoch, changes } = stream;
    if (message.type === 'refusal' && epoch === message.epoch) stream.refusedFrom = message.index;
    let freed = 0;
    for (const [index, { cost }] of changes) {
      if (epoch === message.epoch && index < message.index) continue;
      freed += cost;
      changes.delete(index);
    }
    return freed;
  }
}

function isIdle({ changes, refusedFrom }: Stream): boolean {
  return changes.size === 0 && refusedFrom === Infinity;
}

function costOf(changes: Iterable<OpenChange>): number {
  let cost = 0;
  for (const change of changes) cost += change.cost;
  return cost;
}

function keyOf({ pool, group }: GroupEpoch): number {
  return pool * 65_536 + group;
}
