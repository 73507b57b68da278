/** The last resort of an operator: a group goes on with a copy that is not in sync, and what that one lacks is gone. */
import { StoreError, type MapGroup } from '@store/core';
import { withEntry, type ClusterState, type IncidentRecord } from './cluster-state.js';
import { daemonOf } from './decide-daemons.js';
import { poolOf } from './decide-pools.js';
import { inSyncOf, memberOf, nextGroup, withGroup } from './group-changes.js';
import type { RosterView } from './roster-view.js';

/** As many are remembered. */
const INCIDENTS_MAX = 100;

export interface AcceptedLoss {
  /** Name of the pool. */
  readonly pool: string;
  readonly group: number;
  /** The member that the group is to go on with. */
  readonly daemon: number;
}

export interface LossContext {
  readonly view: RosterView;
  /** Monotonic milliseconds, as those of the view. */
  readonly now: number;
  /** Seconds since 1970. */
  readonly time: number;
}

/**
 * The member becomes the only one in sync and the primary, with a loss noted at the new epoch: writers hear of it with
 * their next flush. The others join again from it, and lose what it does not have. It is remembered as an incident.
 * @throws StoreError `E_NOT_FOUND`; `E_INVALID` if that is no member outside the set that runs; `E_IN_USE` if one of the
 *   set runs: then nothing has to be lost
 */
export function acceptDataLoss(
  state: ClusterState,
  loss: AcceptedLoss,
  context: LossContext,
): ClusterState {
  const { view, time } = context;
  const { pool, index, group } = groupOfLoss(state, loss);
  const daemon = daemonOf(state.map, loss.daemon);
  const member = memberOf(group, loss.daemon);
  const name = `group ${index} of pool ${loss.pool}`;
  const running = inSyncOf(group).find((one) => view.startOf(one.daemon) !== null);
  if (running !== undefined)
    throw new StoreError(
      'E_IN_USE',
      `Daemon ${running.daemon} is in sync in ${name} and runs: nothing has to be lost. It serves, or will in a moment; see store group show`,
    );
  if (member === undefined)
    throw new StoreError(
      'E_INVALID',
      `Daemon ${loss.daemon} is no member of ${name}: it has no copy at all; see store group show`,
    );
  if (member.inSync !== null)
    throw new StoreError(
      'E_INVALID',
      `Daemon ${loss.daemon} has an in-sync copy of ${name}: nothing has to be lost, it only has to be started`,
    );
  if (daemon.startId === null || view.startOf(loss.daemon) !== daemon.startId)
    throw new StoreError('E_INVALID', `Daemon ${loss.daemon} does not run; start it first`);
  const others = group.members.filter((one) => one !== member);
  const next = nextGroup(
    group,
    [
      { daemon: loss.daemon, inSync: daemon.startId },
      ...others.map((one) => ({ daemon: one.daemon, inSync: null })),
    ],
    { hasLost: true },
  );
  const incident: IncidentRecord = {
    time,
    pool: loss.pool,
    group: index,
    epoch: next.epoch,
    daemon: loss.daemon,
    what: `The group went on with the copy of daemon ${loss.daemon}, which was not in sync. ${lostText(group, context)}`,
  };
  const changed = withGroup(state, { pool: pool.id, group: index }, next);
  return { ...changed, incidents: withIncident(state.incidents, incident) };
}

/** What somebody has to know before it is done: sentences. */
export function lossWarnings(
  state: ClusterState,
  loss: AcceptedLoss,
  context: LossContext,
): string[] {
  const { group } = groupOfLoss(state, loss);
  return [
    lostText(group, context),
    `Everything that was written to this group since daemon ${loss.daemon} was last in sync is gone for good, also what was flushed, and deleted objects may be back.`,
    'If one of the daemons that were in sync can still be started, start it instead: nothing is lost then. If it comes back later, its copy is overwritten.',
  ];
}

function groupOfLoss(
  state: ClusterState,
  { pool: name, group: index }: AcceptedLoss,
): { pool: ReturnType<typeof poolOf>; index: number; group: MapGroup } {
  const pool = poolOf(state.map, name);
  const group = pool.groups[index];
  if (group !== undefined) return { pool, index, group };
  throw new StoreError(
    'E_NOT_FOUND',
    `Pool '${name}' has groups 0 to ${pool.groups.length - 1}, and no group ${index}`,
  );
}

function lostText(group: MapGroup, { view, now }: LossContext): string {
  const gone = inSyncOf(group).map(({ daemon }) => {
    const minutes = Math.floor((now - view.sinceOf(daemon)) / 60_000);
    return `daemon ${daemon} (gone for ${minutes} min at least)`;
  });
  return gone.length === 0
    ? 'No daemon was in sync.'
    : `In sync ${gone.length === 1 ? 'was' : 'were'} ${gone.join(', ')}.`;
}

function withIncident(
  incidents: ClusterState['incidents'],
  incident: IncidentRecord,
): ClusterState['incidents'] {
  const numbers = [...incidents.keys()];
  let next = withEntry(incidents, Math.max(0, ...numbers) + 1, incident);
  for (const old of numbers.slice(0, Math.max(0, numbers.length + 1 - INCIDENTS_MAX)))
    next = withEntry(next, old, undefined);
  return next;
}
