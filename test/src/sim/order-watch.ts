/**
 * The order of changes in a group, as the messages between daemons show it (FAULTS.md 3.3).
 *
 * - I4: a number names one change, whoever sends it, so what two members have made up to a number is the same; and a primary
 *   says that a number is committed only when each member in sync that it was sent to has said that it made it.
 * - I5: no message of an older epoch than a daemon knows of makes it change anything.
 */
import { crc32c, type MapGroup } from '@store/core';
import {
  firstNumber,
  type Ack,
  type Change,
  type PeerMessage,
  type Prepare,
} from '@store/daemon/testing';
import type { SimWorld } from './sim-world.js';

/** Changes that are remembered of each group. */
const CHANGES_MAX = 2000;

/** A change on its way to the members of its group. */
interface Sent {
  readonly print: number;
  /** Daemons that it was sent to; true: they have made it. */
  readonly members: Map<number, boolean>;
}

interface GroupOrder {
  /** By number, in the order in which they were first sent. */
  readonly changes: Map<number, Sent>;
  /** By `epoch member`: the number of each index. */
  readonly streams: Map<string, Map<number, number>>;
}

export class OrderWatch {
  readonly #world: SimWorld;
  readonly #groupNow: (group: number) => MapGroup | undefined;
  readonly #groups = new Map<number, GroupOrder>();

  constructor(world: SimWorld, groupNow: (group: number) => MapGroup | undefined) {
    this.#world = world;
    this.#groupNow = groupNow;
  }

  /** One daemon sends another one something. */
  sending(from: number, to: number, message: PeerMessage): void {
    if (message.type === 'prepare') this.#prepare(from, to, message);
    else if (message.type === 'ack') this.#ack(from, message);
  }

  /**
   * A daemon makes a change that others have made.
   * @param cause - The message that it is about to handle; null: none
   * @param epoch - Of the group of that message, as the daemon knows it
   */
  applying(name: string, cause: PeerMessage | null, epoch: number, change: Change): void {
    if (cause === null || !('epoch' in cause) || cause.epoch >= epoch) return;
    this.#world.fail(
      `I5: ${name} changes '${change.object.key.toString()}' for a ${cause.type} of epoch ${cause.epoch} of group ${cause.group}, and knows of epoch ${epoch}`,
    );
  }

  #prepare(
    from: number,
    to: number,
    { group, epoch, index, number, committed, change }: Prepare,
  ): void {
    const order = this.#orderOf(group);
    if (number > 0) {
      const key = `${epoch} ${to}`;
      const stream = order.streams.get(key) ?? new Map<number, number>();
      order.streams.set(key, stream.set(index, number));
      this.#note(order, group, number, to, change);
    }
    this.#look(order, group, epoch, committed, from);
  }

  #note(order: GroupOrder, group: number, number: number, to: number, change: Change): void {
    const print = printOf(change);
    const known = order.changes.get(number);
    if (known === undefined) {
      order.changes.set(number, { print, members: new Map([[to, false]]) });
      const [oldest] = order.changes.keys();
      if (order.changes.size > CHANGES_MAX && oldest !== undefined) order.changes.delete(oldest);
      return;
    }
    if (!known.members.has(to)) known.members.set(to, false);
    if (known.print !== print)
      this.#world.fail(`I4: two changes of group ${group} have number ${number}`);
  }

  #ack(from: number, { group, epoch, indexes }: Ack): void {
    const order = this.#orderOf(group);
    const stream = order.streams.get(`${epoch} ${from}`);
    for (const index of indexes) {
      const number = stream?.get(index);
      if (number !== undefined) order.changes.get(number)?.members.set(from, true);
    }
  }

  #look(order: GroupOrder, group: number, epoch: number, committed: number, from: number): void {
    const now = this.#groupNow(group);
    // Who has been deposed, and does not know it, says what it likes.
    if (now?.epoch !== epoch) return;
    const inSync = new Set(
      now.members.filter((member) => member.inSync !== null).map(({ daemon }) => daemon),
    );
    for (const [number, { members }] of order.changes) {
      if (number <= firstNumber(epoch) || number > committed) continue;
      for (const [member, hasMade] of members)
        if (!hasMade && member !== from && inSync.has(member))
          this.#world.fail(
            `I4: daemon ${from} says that change ${number} of group ${group} is committed, and daemon ${member}, in sync in epoch ${epoch}, has not said that it made it`,
          );
      order.changes.delete(number);
    }
  }

  #orderOf(group: number): GroupOrder {
    let order = this.#groups.get(group);
    if (order === undefined) {
      order = { changes: new Map(), streams: new Map() };
      this.#groups.set(group, order);
    }
    return order;
  }
}

/** What tells one change from another, but for the version that the member keeps of it. */
function printOf(change: Change): number {
  const { object, op } = change;
  let print = crc32c(Buffer.from(`${op} ${object.place}`, 'latin1'));
  const add = (what: number): void => {
    print = Math.imul(print ^ what, 0x01000193) >>> 0;
  };
  if (op === 'write') {
    add(change.first);
    for (const check of change.checks) add(check);
  } else if (op === 'states') {
    add(change.first);
    add(change.count);
    add(change.state);
  } else if (op === 'whole') add(crc32c(change.content));
  return print;
}
