/**
 * Flushes of pools that lie on several daemons. A flush is done when this daemon and every member of its groups that must
 * have what was answered have finished an fdatasync that began after the flush came. A member that is not waited for any
 * more, by a newer epoch, need not answer. If this daemon stops being primary of one of the groups meanwhile, the flush says
 * so: whoever is primary now knows who must have it.
 *
 * Questions to one member are shared: while one is under way, all flushes that come wait for the next.
 */
import { StoreError, type Done } from '@store/core';
import type { StartOf } from './group-host.js';
import type { GroupPrimary } from './group-primary.js';
import type { PeerMessage } from './peer-message.js';

/** An answer that has not come by then may be lost; one that comes later counts all the same. */
const AGAIN_MS = 4000;

/** What flushes need of the node. */
export interface FlushHost {
  readonly now: number;
  send(daemon: number, message: PeerMessage): void;
  flushHere(pool: number, done: Done): void;
  /** Greater than all before; nothing else that is asked of another daemon has it, or its answer could be taken for ours. */
  nextId(): number;
}

interface Flush {
  readonly primaries: readonly GroupPrimary[];
  /** By daemon: the start that has to answer. */
  readonly left: Map<number, string>;
  isDoneHere: boolean;
  readonly done: Done;
}

/** A question under way, and whom its answer is for. */
interface Batch {
  readonly id: number;
  readonly flushes: readonly Flush[];
}

/** The way to one member, for one pool. */
interface Lane {
  readonly pool: number;
  readonly to: StartOf;
  sentAt: number;
  batches: Batch[];
  /** They came after the last question was asked. */
  waiting: Flush[];
}

export class Flushes {
  readonly #host: FlushHost;
  readonly #flushes = new Set<Flush>();
  readonly #lanes = new Map<string, Lane>();

  constructor(host: FlushHost) {
    this.#host = host;
  }

  /** @param primaries - Of the groups of the pool in which something may have been answered */
  flush(pool: number, primaries: readonly GroupPrimary[], done: Done): void {
    const left = new Map<number, string>();
    for (const primary of primaries)
      for (const { daemon, startId } of primary.streams) left.set(daemon, startId);
    const flush: Flush = { primaries, left, isDoneHere: false, done };
    this.#flushes.add(flush);
    for (const [daemon, startId] of left) this.#ask(pool, { daemon, startId }, flush);
    this.#host.flushHere(pool, (error) => {
      if (error !== null) {
        this.#end(flush, error);
        return;
      }
      flush.isDoneHere = true;
      this.#look(flush);
    });
  }

  synced(from: StartOf, id: number, isDone: boolean): void {
    if (!isDone) return; // it is asked again, until it can, or is not waited for any more
    for (const lane of this.#lanes.values()) {
      const batch = lane.batches.find((one) => one.id === id);
      if (batch === undefined || !isSame(lane.to, from)) continue;
      // Those before it are answered by it as well: they came earlier.
      lane.batches = lane.batches.filter((one) => one.id > id);
      if (lane.batches.length === 0 && lane.waiting.length > 0) this.#send(lane);
      for (const flush of batch.flushes) {
        if (flush.left.get(from.daemon) === from.startId) flush.left.delete(from.daemon);
        this.#look(flush);
      }
      return;
    }
  }

  /** Members have changed, or this daemon is not primary any more: some are not waited for any longer, or in vain. */
  membersChanged(): void {
    for (const flush of [...this.#flushes]) this.#look(flush);
  }

  linkIsUp(to: StartOf): void {
    for (const lane of this.#lanes.values()) if (isSame(lane.to, to)) this.#send(lane);
  }

  /** To be called often. */
  tick(): void {
    for (const [key, lane] of this.#lanes) {
      const isOpen = (flush: Flush): boolean => this.#flushes.has(flush);
      lane.waiting = lane.waiting.filter(isOpen);
      const isIdle = lane.waiting.length === 0 && !lane.batches.some((b) => b.flushes.some(isOpen));
      if (isIdle) this.#lanes.delete(key);
      else if (this.#host.now - lane.sentAt >= AGAIN_MS) this.#send(lane);
    }
  }

  close(error: StoreError): void {
    for (const flush of [...this.#flushes]) this.#end(flush, error);
    this.#lanes.clear();
  }

  #ask(pool: number, to: StartOf, flush: Flush): void {
    const key = `${pool} ${to.daemon} ${to.startId}`;
    let lane = this.#lanes.get(key);
    if (lane === undefined) {
      lane = { pool, to, sentAt: -Infinity, batches: [], waiting: [] };
      this.#lanes.set(key, lane);
    }
    lane.waiting.push(flush);
    if (lane.batches.length === 0) this.#send(lane);
  }

  /** Asks, for all who wait. */
  #send(lane: Lane): void {
    const open = new Set([...lane.batches.flatMap(({ flushes }) => flushes), ...lane.waiting]);
    const flushes = [...open].filter((flush) => this.#flushes.has(flush));
    lane.waiting = [];
    lane.sentAt = this.#host.now;
    if (flushes.length === 0) return;
    const id = this.#host.nextId();
    lane.batches.push({ id, flushes });
    this.#host.send(lane.to.daemon, { type: 'sync', id, pool: lane.pool });
  }

  #look(flush: Flush): void {
    if (!this.#flushes.has(flush)) return;
    const { left, primaries } = flush;
    if (primaries.some(({ hasFailed }) => hasFailed)) {
      this.#end(
        flush,
        new StoreError('E_STALE_MAP', 'This daemon does not serve all of the groups any more'),
      );
      return;
    }
    for (const [daemon, startId] of left)
      if (!primaries.some((primary) => primary.stream(daemon)?.startId === startId))
        left.delete(daemon);
    if (flush.isDoneHere && left.size === 0) this.#end(flush, null);
  }

  #end(flush: Flush, error: StoreError | null): void {
    if (this.#flushes.delete(flush)) flush.done(error);
  }
}

function isSame(a: StartOf, b: StartOf): boolean {
  return a.daemon === b.daemon && a.startId === b.startId;
}
