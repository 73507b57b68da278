/**
 * Lists a pool that lies on many daemons: one daemon after the other, each what it is the primary of.
 *
 * What exists all the time is listed at least once, and exactly once unless its group moves while it is listed: then it
 * may come from both daemons. Daemons that became the primary of a group since a pass over all of them began are listed
 * again in another pass, until there are none. A page may end early, and the last one may be empty.
 */
import { listRequest } from '../client/request-pool.js';
import type { ListOptions, ListPage } from '../pool/object-pool.js';
import { promisedWith, StoreError } from '../util/errors.js';
import { LIST_PAGE_MAX } from '../util/limits.js';
import type { PoolLane } from './pool-lane.js';
import type { PoolRouter } from './pool-router.js';

/** Where a list goes on. */
export interface ListPlace {
  /** The pass is over daemons that became the primary of a group by a map newer than this one. */
  readonly since: number;
  /** The map when the pass began. */
  readonly begun: number;
  /** Daemons come by their ids; those below are done. */
  readonly daemon: number;
  /** Of that daemon's own list; empty: from its start. */
  readonly cursor: Buffer;
}

const NOTHING = Buffer.alloc(0);

// since 6, begun 6, daemon 4, then the daemon's cursor. Those of our daemons have less than 600 bytes, so it stays below
// the 1024 that a cursor may have on the wire.
const PLACE_BYTES = 16;

export function encodePlace({ since, begun, daemon, cursor }: ListPlace): Buffer {
  const out = Buffer.alloc(PLACE_BYTES);
  out.writeUIntLE(since, 0, 6);
  out.writeUIntLE(begun, 6, 6);
  out.writeUInt32LE(daemon, 12);
  return Buffer.concat([out, cursor]);
}

/** @throws StoreError `E_INVALID` */
export function decodePlace(cursor: Buffer): ListPlace {
  if (cursor.length < PLACE_BYTES)
    throw new StoreError('E_INVALID', 'The cursor does not come from a list of this pool');
  return {
    since: cursor.readUIntLE(0, 6),
    begun: cursor.readUIntLE(6, 6),
    daemon: cursor.readUInt32LE(12),
    cursor: cursor.subarray(PLACE_BYTES),
  };
}

/** @throws StoreError */
export async function listPool(router: PoolRouter, options: ListOptions): Promise<ListPage> {
  const { limit = LIST_PAGE_MAX } = options;
  const { env, deadlineMs } = router.options;
  const lateAt = env.clock.now() + deadlineMs;
  const entries: ListPage['entries'][number][] = [];
  let place =
    options.cursor === undefined ? passSince(0, router.mapVersion) : decodePlace(options.cursor);
  while (entries.length < limit) {
    const lane = nextLane(router, place);
    if (lane === null) {
      const orphan = router.groupWithoutPrimary();
      if (orphan < 0 && nextLane(router, passSince(place.begun, 0)) === null) return { entries };
      if (orphan < 0) place = passSince(place.begun, router.mapVersion);
      else if (entries.length > 0) break;
      else await patience(router, orphan, lateAt, null);
      continue;
    }
    if (lane.daemon !== place.daemon) place = { ...place, daemon: lane.daemon, cursor: NOTHING };
    try {
      const page = await askPage(router, lane, lateAt, {
        ...options,
        limit: limit - entries.length,
        cursor: place.cursor,
      });
      entries.push(...page.entries);
      place =
        page.cursor === undefined
          ? { ...place, daemon: lane.daemon + 1, cursor: NOTHING }
          : { ...place, cursor: page.cursor };
    } catch (error) {
      if (!(error instanceof StoreError) || error.code !== 'E_STALE_MAP') throw error;
      await patience(router, router.groupWithoutPrimary(), lateAt, error);
    }
  }
  return { entries, cursor: encodePlace(place) };
}

function passSince(since: number, begun: number): ListPlace {
  return { since, begun, daemon: 0, cursor: NOTHING };
}

/** To the next daemon of the pass; null: it is over. */
function nextLane(router: PoolRouter, { since, daemon }: ListPlace): PoolLane | null {
  let next: PoolLane | null = null;
  for (const lane of router.lanes) {
    if (!lane.isPrimary || lane.gainedAt <= since || lane.daemon < daemon) continue;
    if (next === null || lane.daemon < next.daemon) next = lane;
  }
  return next;
}

function askPage(
  router: PoolRouter,
  lane: PoolLane,
  lateAt: number,
  { cursor = NOTHING, ...options }: ListOptions,
): Promise<ListPage> {
  return promisedWith((done) => {
    const asked = cursor.length === 0 ? options : { ...options, cursor };
    const request = listRequest(lane, asked, done);
    request.lateAt = lateAt;
    router.submitTo(lane, request);
  });
}

/** Waits for another map. @throws StoreError `E_TIMEOUT` when that took too long; why nothing is listed any more */
async function patience(
  router: PoolRouter,
  group: number,
  lateAt: number,
  why: StoreError | null,
): Promise<void> {
  if (router.refusal !== null) throw router.refusal;
  if (router.options.env.clock.now() >= lateAt) throw why ?? router.lateError(group, null);
  await router.newerMap();
}
