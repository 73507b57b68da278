/** What a master tells Prometheus: whether it leads, and the state of the cluster if it does. */
import type { ClusterStatus } from '@store/core';
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
  gauge('store_daemon_up', 'Whether a daemon is connected', ({ daemons }) =>
    daemons.map(({ id, host, state }) => ({
      labels: { daemon: id, host },
      value: state === 'up' ? 1 : 0,
    })),
  );
  gauge('store_daemon_groups', 'Copies of groups on a daemon', ({ daemons }) =>
    daemons.map(({ id, host, groups }) => ({ labels: { daemon: id, host }, value: groups })),
  );
  gauge('store_pool_used_bytes', 'Of all copies of a pool', ({ pools }) =>
    pools.map(({ name, usedBytes }) => ({ labels: { pool: name }, value: usedBytes })),
  );
  gauge('store_pool_groups_down', 'Groups that nobody serves', ({ pools }) =>
    pools.map(({ name, groupsDown }) => ({ labels: { pool: name }, value: groupsDown })),
  );
}
