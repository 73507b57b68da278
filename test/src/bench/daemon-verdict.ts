/**
 * What daemons behind the gateway reach: one beside our server with its own store and beside nbdkit file, three of them
 * beside Ceph.
 */
import type { DaemonGoal } from './rows.js';
import { CEPH, CLUSTER, NBDKIT_FILE, OURS } from './server-kinds.js';
import type { Spread } from './statistics.js';
import { pairedRatio, summarize, type Cell, type RowResult } from './verdict.js';

/** One server beside another. */
export interface Beside {
  /** Median of the other. */
  readonly value: number;
  /** Of the medians. */
  readonly ratio: number;
  /** Of the ratios of each round; null if no round has both. */
  readonly pairedRatio: Spread | null;
}

export interface DaemonVerdict {
  /** Name of the row. */
  readonly row: string;
  /** Name of the server. */
  readonly server: string;
  /** Median, in the row's unit. */
  readonly value: number;
  /** The client could not have asked for more. */
  readonly clientSaturated: boolean;
  /** Null if it was not measured. */
  readonly ours: Beside | null;
  /** Null if it was not measured. */
  readonly nbdkitFile: Beside | null;
  /** Null if it was not measured, or this is no cluster. */
  readonly ceph: Beside | null;
  /** Null: there is none. */
  readonly goal: DaemonGoal | null;
  readonly met: 'yes' | 'no' | '-';
}

/** It writes everything three times: only a cluster that does the same compares. */
const CLUSTER_GOAL: DaemonGoal = { ratio: 5, beside: CEPH };

/** Judges the servers with a daemon that were measured in a row. */
export function judgeDaemons({ row, cells }: RowResult): DaemonVerdict[] {
  const cellOf = (name: string): Cell | undefined => cells.find(({ kind }) => kind.name === name);
  return cells.flatMap((cell): DaemonVerdict[] => {
    const summary = isWithDaemon(cell) ? summarize(cell) : null;
    if (summary === null) return [];
    const value = summary.value.median;
    const ours = beside(cell, cellOf(OURS));
    const nbdkitFile = beside(cell, cellOf(NBDKIT_FILE));
    const isCluster = cell.kind.name === CLUSTER;
    const ceph = isCluster ? beside(cell, cellOf(CEPH)) : null;
    const goal = isCluster ? CLUSTER_GOAL : row.daemonGoal;
    const others = { [OURS]: ours, [NBDKIT_FILE]: nbdkitFile, [CEPH]: ceph };
    const met = goal === null ? '-' : metBy(goal, value, others[goal.beside]);
    const { clientSaturated } = summary;
    const places = { row: row.name, server: cell.kind.name };
    return [{ ...places, value, clientSaturated, ours, nbdkitFile, ceph, goal, met }];
  });
}

function isWithDaemon({ kind }: Cell): boolean {
  return kind.isOurs && kind.name !== OURS;
}

function beside(cell: Cell, other: Cell | undefined): Beside | null {
  const [summary, theirs] = [summarize(cell), other === undefined ? null : summarize(other)];
  if (summary === null || theirs === null || other === undefined) return null;
  const value = theirs.value.median;
  const ratio = summary.value.median / value;
  return { value, ratio, pairedRatio: pairedRatio(cell.samples, other.samples) };
}

function metBy(goal: DaemonGoal, value: number, other: Beside | null): DaemonVerdict['met'] {
  if (goal.enough !== undefined && value >= goal.enough) return 'yes';
  if (other === null) return '-';
  return other.ratio >= goal.ratio ? 'yes' : 'no';
}
