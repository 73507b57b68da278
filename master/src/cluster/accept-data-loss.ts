/** The last resort of an operator: a group goes on with a copy that is not in sync, and what that one lacks is gone. */
import { formatSize, momentText, StoreError, type CopyContents, type MapGroup } from '@store/core';
import { withEntry, type ClusterState, type IncidentRecord } from './cluster-state.js';
import { daemonOf } from './decide-daemons.js';
import { poolOf } from './decide-pools.js';
import { behindSince } from './members-behind.js';
import { inSyncOf, memberOf, nextGroup, withGroup } from './group-changes.js';
import type { RosterView } from './roster-view.js';

/** As many are remembered. */
const INCIDENTS_MAX = 100;
/** Images that are named; the rest is counted. */
const IMAGES_NAMED_MAX = 20;

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
  /** What the copy holds, and names of images by the ids of their layers; an error: why nobody says. */
  readonly copy: (CopyContents & { readonly names: ReadonlyMap<string, string> }) | StoreError;
  /** Members that its daemon has a link with, whether or not the masters reach them; an error: why it does not say. */
  readonly reached: readonly number[] | StoreError;
}

/**
 * The member becomes the only one in sync and the primary, with a loss noted at the new epoch: writers hear of it with
 * their next flush. The others join again from it, and lose what it does not have. It is remembered as an incident.
 * Whoever was in sync must not run any more. Of one that the master does not hear of, and the chosen daemon does, that is
 * known; of one that only clients reach nobody here can know it: it would serve them by its old map.
 * @throws StoreError `E_NOT_FOUND`; `E_INVALID` if that is no member outside the set that runs; `E_IN_USE` if one of the
 *   set runs, or may: then nothing has to be lost; `E_BUSY` if nobody says whether one does
 */
export function acceptDataLoss(
  state: ClusterState,
  loss: AcceptedLoss,
  context: LossContext,
): ClusterState {
  const { view, time, reached } = context;
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
  if (reached instanceof StoreError)
    throw new StoreError(
      'E_BUSY',
      `Daemon ${loss.daemon} does not say whether one that was in sync still runs (${reached.message}); ask again in a moment`,
    );
  const met = inSyncOf(group).find((one) => reached.includes(one.daemon));
  if (met !== undefined)
    throw new StoreError(
      'E_IN_USE',
      `Daemon ${met.daemon}, which was in sync in ${name}, runs or has just ended: only the masters do not reach it, daemon ${loss.daemon} has a link to it. If it runs nothing has to be lost: mend the network, or stop it first. If not, ask again in a few seconds`,
    );
  const others = group.members.filter((one) => one !== member);
  const next = nextGroup(
    group,
    [
      { daemon: loss.daemon, inSync: daemon.startId },
      ...others.map((one) => ({ daemon: one.daemon, inSync: null })),
    ],
    { lost: 'all' },
  );
  const incident: IncidentRecord = {
    time,
    pool: loss.pool,
    group: index,
    epoch: next.epoch,
    daemon: loss.daemon,
    what: [
      `The group went on with the copy of daemon ${loss.daemon}, which was not in sync.`,
      inSyncText(group, context),
      sinceText(state, loss, context),
      copyText(loss, context),
    ].join(' '),
  };
  const changed = withGroup(state, { pool: pool.id, group: index }, next);
  return { ...changed, incidents: withIncident(state.incidents, incident) };
}

export const LOSS_ADVICE =
  'If one of the daemons that were in sync can still be started, start it instead: nothing is lost then. If it comes back later, its copy is overwritten. Make sure that none of them runs: one that is only cut off from the masters goes on serving whom it reaches, and what it takes from them is lost as well.';

/** What somebody has to know of it: paragraphs. */
export function lossWarnings(
  state: ClusterState,
  loss: AcceptedLoss,
  context: LossContext,
): string[] {
  const { group } = groupOfLoss(state, loss);
  return [
    inSyncText(group, context),
    `${sinceText(state, loss, context)} That is gone for good, also what was flushed; what was deleted since may be back.`,
    `${copyText(loss, context)} Images that were made since may have parts here too, which read as zeros; if their header lies here they are gone. What was removed or resized since may be as before.`,
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

function inSyncText(group: MapGroup, { view, now }: LossContext): string {
  const gone = inSyncOf(group).map(({ daemon }) => {
    const minutes = Math.floor((now - view.sinceOf(daemon)) / 60_000);
    return `daemon ${daemon} (gone for ${minutes} min at least)`;
  });
  return gone.length === 0
    ? 'No daemon was in sync.'
    : `In sync ${gone.length === 1 ? 'was' : 'were'} ${gone.join(', ')}.`;
}

/** What the copy lacks. */
function sinceText(state: ClusterState, loss: AcceptedLoss, { time }: LossContext): string {
  const { daemon, group } = loss;
  const since = behindSince(state, { pool: poolOf(state.map, loss.pool).id, group, daemon });
  if (since === null)
    return `The copy of daemon ${daemon} may lack anything: nobody has noted when it was last in sync.`;
  const minutes = Math.max(0, Math.floor((time - since) / 60));
  return `The copy of daemon ${daemon} lacks what was written to this group since ${momentText(since)} (${minutes} min ago), and if its machine lost power then, also what was not flushed before.`;
}

/** What the copy has. */
function copyText({ daemon }: AcceptedLoss, { copy }: LossContext): string {
  if (copy instanceof StoreError)
    return `What the copy of daemon ${daemon} holds is not known: ${copy.message}.`;
  const { objects, usedBytes, isAll, otherObjects, layers, moreLayers, names } = copy;
  if (objects === 0 && isAll) return `The copy of daemon ${daemon} is empty.`;
  const named = layers.filter(({ layer }) => names.has(layer)).slice(0, IMAGES_NAMED_MAX);
  const others = layers.length + moreLayers - named.length;
  const parts = [
    ...named.map(({ layer, objects: count }) => `image '${names.get(layer)}' (${count})`),
    ...(others > 0 ? [`${others} ${named.length > 0 ? 'more' : 'unknown'} images`] : []),
    ...(otherObjects > 0 ? [`headers and other objects (${otherObjects})`] : []),
  ];
  const count = objects === 1 ? '1 object' : `${objects} objects`;
  return `The copy of daemon ${daemon} has ${isAll ? '' : 'at least '}${count} (${formatSize(usedBytes)}), of: ${parts.join(', ')}.`;
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
