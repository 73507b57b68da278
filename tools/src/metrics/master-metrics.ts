/** What a master tells Prometheus: whether it leads, and the state of the cluster if it does. */
import type { ClusterStatus, PoolStatus } from '@store/core';
import type { Registry } from 'prom-client';
import { newRegistry, single, type AddMetric, type Sample } from './registry.js';

export interface MasterState {
  readonly isLeader: boolean;
  /** Connections of daemons and clients. */
  readonly connections: number;
  /** Null: it does not lead. */
  readonly status: ClusterStatus | null;
}

/** A registry with the metrics of `state()` and of this process. */
export function masterRegistry(state: () => MasterState): Registry {
  const { registry, add } = newRegistry();
  add('gauge', 'store_master_leads', 'Whether this master leads', () =>
    single(state().isLeader ? 1 : 0),
  );
  add('gauge', 'store_master_connections', 'Daemons and clients that are connected', () =>
    single(state().connections),
  );
  addCluster(add, () => state().status);
  return registry;
}

function addCluster(add: AddMetric, status: () => ClusterStatus | null): void {
  const gauge = (name: string, help: string, samples: (status: ClusterStatus) => Sample[]): void =>
    add('gauge', name, help, () => {
      const now = status();
      return now === null ? [] : samples(now);
    });
  gauge('store_cluster_health', '0 ok, 1 warning, 2 error', ({ health }) =>
    single(['ok', 'warning', 'error'].indexOf(health)),
  );
  gauge('store_cluster_problems', 'Things that are wrong', ({ problems }) =>
    single(problems.length),
  );
  gauge('store_cluster_map_version', 'Version of the storage map', ({ version }) =>
    single(version),
  );
  gauge('store_cluster_capacity_bytes', 'Of all disks', ({ capacityBytes }) =>
    single(capacityBytes),
  );
  gauge('store_cluster_free_bytes', 'Of all disks', ({ freeBytes }) => single(freeBytes));
  gauge('store_cluster_bytes_left', 'To copy to where they belong', ({ recovery }) =>
    single(recovery.bytesLeft),
  );
  gauge('store_cluster_copied_bytes_per_second', 'To where they belong', ({ recovery }) =>
    single(recovery.bytesPerSecond),
  );
  gauge('store_daemon_up', 'Whether a daemon is connected', ({ daemons }) =>
    daemons.map(({ id, host, state }) => ({
      labels: { daemon: id, host },
      value: state === 'up' ? 1 : 0,
    })),
  );
  gauge('store_daemon_groups', 'Copies of groups on a daemon', ({ daemons }) =>
    daemons.map(({ id, host, groups }) => ({ labels: { daemon: id, host }, value: groups })),
  );
  addPools((name, help, value) =>
    gauge(name, help, ({ pools }) =>
      pools.map((pool) => ({ labels: { pool: pool.name }, value: value(pool) })),
    ),
  );
}

function addPools(
  gauge: (name: string, help: string, value: (pool: PoolStatus) => number) => void,
): void {
  gauge('store_pool_used_bytes', 'Of all copies of a pool', ({ usedBytes }) => usedBytes);
  gauge('store_pool_stored_bytes', 'Of each object once', ({ storedBytes }) => storedBytes);
  gauge(
    'store_pool_groups_down',
    'Groups of which reads and writes wait: no copy in sync runs',
    ({ groupsDown }) => groupsDown,
  );
  gauge(
    'store_pool_groups_read_only',
    'Groups of which writes wait: fewer copies in sync than they need',
    ({ groupsReadOnly }) => groupsReadOnly,
  );
  gauge(
    'store_pool_groups_degraded',
    'Groups with fewer copies in sync than wanted',
    ({ groupsDegraded }) => groupsDegraded,
  );
  gauge(
    'store_pool_groups_joining',
    'Groups with a copy that is being made',
    ({ groupsJoining }) => groupsJoining,
  );
  gauge(
    'store_pool_groups_misplaced',
    'Groups that lie elsewhere than placement wants',
    ({ groupsMisplaced }) => groupsMisplaced,
  );
  gauge(
    'store_pool_bytes_left',
    'To copy to where they belong',
    ({ recovery }) => recovery.bytesLeft,
  );
  gauge(
    'store_pool_scrub_errors',
    'Found by scrubs since the daemons were started',
    ({ scrub }) => scrub.errorsFound,
  );
}
