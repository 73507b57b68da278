/**
 * Lists a pool that lies on many daemons: one daemon after the other, each the groups that it is the primary of. It is asked
 * for these groups by name, in their epochs, and refuses if it is not the primary of all of them, so that none is left out
 * because one of the two had an old map. Groups that are listed are ticked off, whoever has them later.
 *
 * What exists all the time is listed at least once, and once only unless its group moves when a page has already shown
 * a part of it: then the group is listed from its start, as nobody can say where in it the other daemon would go on. Until
 * a page is given out, what came of a group that moves is thrown away. A page may end early, and the last one may be empty.
 */
import { listRequest } from '../client/request-pool.js';
import type { GroupAtEpoch } from '../pool/epoched-pool.js';
import type { ListOptions, ListPage } from '../pool/object-pool.js';
import { promisedWith, StoreError } from '../util/errors.js';
import { LIST_PAGE_MAX } from '../util/limits.js';
import { NAMED_GROUPS_MAX } from '../wire/wire-limits.js';
import { BitSet } from './bit-set.js';
import type { PoolLane } from './pool-lane.js';
import type { PoolRouter } from './pool-router.js';

/** Where a list goes on. */
export interface ListPlace {
  /** Groups that are listed. */
  readonly done: BitSet;
  /** Groups that `daemon` has listed up to `cursor`; none: the next daemon begins. */
  readonly begun: BitSet;
  readonly daemon: number;
  readonly cursor: Buffer;
}

const NOTHING = Buffer.alloc(0);
const DAEMON_BYTES = 4;

// daemon 4, the two sets, a bit for each group of the pool, then the daemon's cursor (less than 600 bytes of those of ours).
export function encodePlace({ done, begun, daemon, cursor }: ListPlace): Buffer {
  const head = Buffer.alloc(DAEMON_BYTES);
  head.writeUInt32LE(daemon);
  return Buffer.concat([head, done.bytes, begun.bytes, cursor]);
}

/** @throws StoreError `E_INVALID` */
export function decodePlace(bytes: Buffer, groupCount: number): ListPlace {
  const done = new BitSet(groupCount);
  const begun = new BitSet(groupCount);
  const cursorAt = DAEMON_BYTES + done.bytes.length + begun.bytes.length;
  if (bytes.length < cursorAt)
    throw new StoreError('E_INVALID', 'The cursor does not come from a list of this pool');
  bytes.copy(done.bytes, 0, DAEMON_BYTES);
  bytes.copy(begun.bytes, 0, DAEMON_BYTES + done.bytes.length);
  const daemon = bytes.readUInt32LE(0);
  return { done, begun, daemon, cursor: Buffer.from(bytes.subarray(cursorAt)) };
}

/** @throws StoreError */
export async function listPool(router: PoolRouter, options: ListOptions): Promise<ListPage> {
  return await new PoolList(router, options).page();
}

class PoolList {
  readonly #router: PoolRouter;
  readonly #filter: Pick<ListOptions, 'kind' | 'prefix'>;
  readonly #limit: number;
  readonly #lateAt: number;
  readonly #entries: ListPage['entries'][number][] = [];
  readonly #done: BitSet;
  /** Groups that are being listed, and by whom; none: the next daemon begins. */
  #groups: readonly number[] = [];
  #lane: PoolLane | null = null;
  #cursor: Buffer = NOTHING;
  /** Where in `#entries` they begin; -1: a part of them was given out. */
  #start = -1;

  constructor(router: PoolRouter, options: ListOptions) {
    const { env, deadlineMs } = router.options;
    this.#router = router;
    const { kind, prefix } = options;
    this.#filter = {
      ...(kind === undefined ? {} : { kind }),
      ...(prefix === undefined ? {} : { prefix }),
    };
    this.#limit = options.limit ?? LIST_PAGE_MAX;
    this.#lateAt = env.clock.now() + deadlineMs;
    const groupCount = router.pool.groups.length;
    if (options.cursor === undefined) {
      this.#done = new BitSet(groupCount);
      return;
    }
    const { done, begun, daemon, cursor } = decodePlace(options.cursor, groupCount);
    this.#done = done;
    this.#lane = router.laneTo(daemon);
    this.#groups = begun.all();
    this.#cursor = cursor;
  }

  async page(): Promise<ListPage> {
    while (this.#entries.length < this.#limit) {
      this.#letGo();
      if (this.#groups.length === 0) this.#begin();
      if (this.#groups.length > 0) await this.#ask();
      else if (this.#done.size === this.#router.pool.groups.length)
        return { entries: this.#entries };
      else if (this.#entries.length > 0) break;
      else await this.#patience(null);
    }
    return { entries: this.#entries, cursor: this.#place() };
  }

  #place(): Buffer {
    const begun = new BitSet(this.#router.pool.groups.length);
    for (const group of this.#groups) begun.add(group);
    const daemon = this.#lane?.daemon ?? 0;
    return encodePlace({ done: this.#done, begun, daemon, cursor: this.#cursor });
  }

  /** Groups that have moved from the daemon that lists them are listed by another one. */
  #letGo(): void {
    const stays = this.#groups.filter((group) => this.#router.laneOf(group) === this.#lane);
    if (stays.length === this.#groups.length) return;
    if (this.#start >= 0) {
      this.#entries.splice(this.#start);
      this.#groups = [];
    } else this.#groups = stays;
  }

  /** The groups of the next daemon; none if nobody serves those that are left. */
  #begin(): void {
    const router = this.#router;
    const groups: number[] = [];
    let lane: PoolLane | null = null;
    for (const group of router.pool.groups.keys()) {
      if (this.#done.has(group)) continue;
      lane ??= router.laneOf(group);
      if (lane === null || router.laneOf(group) !== lane) continue;
      groups.push(group);
      if (groups.length === NAMED_GROUPS_MAX) break;
    }
    this.#groups = groups;
    this.#lane = lane;
    this.#cursor = NOTHING;
    this.#start = this.#entries.length;
  }

  async #ask(): Promise<void> {
    try {
      const { entries, cursor } = await this.#askPage();
      this.#entries.push(...entries);
      this.#cursor = cursor ?? NOTHING;
      if (cursor !== undefined) return;
      for (const group of this.#groups) this.#done.add(group);
      this.#groups = [];
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'E_STALE_MAP') throw error;
      await this.#patience(error);
    }
  }

  #askPage(): Promise<ListPage> {
    const [router, lane, groups] = [this.#router, this.#lane, this.#groups];
    const limit = this.#limit - this.#entries.length;
    const place = this.#cursor.length === 0 ? {} : { cursor: this.#cursor };
    const named = groups.map((group): GroupAtEpoch => ({ group, epoch: router.epochOf(group) }));
    return promisedWith((done) => {
      if (lane === null) throw new StoreError('E_STALE_MAP', 'Nobody lists these groups');
      const request = listRequest(lane, named, { ...this.#filter, ...place, limit }, done);
      request.lateAt = this.#lateAt;
      request.isElsewhere = () => groups.some((group) => router.laneOf(group) !== lane);
      router.submitTo(lane, request);
    });
  }

  /** Waits for another map. @throws StoreError `E_TIMEOUT` when that took too long; why nothing is listed any more */
  async #patience(why: StoreError | null): Promise<void> {
    const router = this.#router;
    if (router.refusal !== null) throw router.refusal;
    if (router.options.env.clock.now() >= this.#lateAt) {
      const [group = Math.max(0, router.groupWithoutPrimary())] = this.#groups;
      throw router.lateError(group, why);
    }
    await router.newerMap();
  }
}
