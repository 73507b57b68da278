/** What a daemon asks the masters about a group it is a member of, as JSON. Each is answered by a newer map, or refused. */
import { MAP_ID_MAX } from '../map/map-limits.js';
import { StoreError } from '../util/errors.js';
import { numberIn, textIn, type JsonFields } from '../wire/json-body.js';

/**
 * - `remove`: the primary wants members out of the in-sync set (or out of a join): they do not answer, or are full.
 * - `joined`: the primary says that a member has everything: it is in sync from the next epoch on.
 * - `take`: a member in sync has not heard of the primary for the grace period, and takes its place.
 * - `resign`: the primary cannot go on (it could not make a change that others have made): another in sync takes over.
 * - `renew`: the primary has nearly used up the numbers of its epoch.
 */
export const GROUP_REQUESTS = ['remove', 'joined', 'take', 'resign', 'renew'] as const;
export type GroupRequestKind = (typeof GROUP_REQUESTS)[number];

export interface GroupRequest {
  readonly kind: GroupRequestKind;
  readonly pool: number;
  readonly group: number;
  /** Of the group as whoever asks knows it: a decision is made about this epoch or not at all. */
  readonly epoch: number;
  /** Start of the daemon that asks, as `MapDaemon.startId`. */
  readonly startId: string;
  /** Whom it is about (`remove`, `joined`): daemon and start. */
  readonly member: number;
  readonly memberStart: string;
}

const ID = /^[0-9a-f]{32}$/;
const EPOCH_MAX: number = 2 ** 32 - 1;

/** @throws StoreError `E_BAD_FRAME` */
export function decodeGroupRequest(fields: JsonFields): GroupRequest {
  const kind = GROUP_REQUESTS.find((one) => one === fields['kind']);
  if (kind === undefined) throw new StoreError('E_BAD_FRAME', 'A group is asked for nothing known');
  const start = (name: string): string => {
    const id = textIn(fields, name, 32);
    if (id === '' || ID.test(id)) return id;
    throw new StoreError('E_BAD_FRAME', `Field '${name}' of a message is no start of a daemon`);
  };
  return {
    kind,
    pool: numberIn(fields, 'pool', MAP_ID_MAX),
    group: numberIn(fields, 'group', 0xffff),
    epoch: numberIn(fields, 'epoch', EPOCH_MAX),
    startId: start('startId'),
    member: numberIn(fields, 'member', MAP_ID_MAX),
    memberStart: start('memberStart'),
  };
}

export function encodeGroupRequest(request: GroupRequest): JsonFields {
  return { ...request };
}
