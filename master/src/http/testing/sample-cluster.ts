/** An `AdminService` with fixed data: tests set what it reports, and look at what it was told to change. */
import {
  StoreError,
  type ChangePlan,
  type ClientStatus,
  type ClusterStatus,
  type GroupStatus,
  type PoolStatus,
  type RateReport,
  type ScrubReport,
  type StorageMap,
  type TrafficHistory,
  type WhyAnswer,
} from '@store/core';
import type { AdminService } from '../../admin/admin-service.js';
import { degradedStatus, healthyStatus, sampleHistory } from './sample-status.js';

export class SampleCluster implements AdminService {
  /** What was called to change something, with its arguments, the oldest first. */
  readonly changes: (readonly unknown[])[] = [];
  readonly #listeners = new Set<() => void>();
  #status: ClusterStatus;
  #history: TrafficHistory;

  /** All is well. @param daemons - How many it has */
  static healthy(daemons = 12): SampleCluster {
    return new SampleCluster(healthyStatus(daemons));
  }

  /** A daemon is down, and others have troubles of their own. @param daemons - At least 4 */
  static degraded(daemons = 12): SampleCluster {
    return new SampleCluster(degradedStatus(daemons));
  }

  private constructor(status: ClusterStatus) {
    this.#status = status;
    this.#history = sampleHistory(status.traffic);
  }

  /** Reports something else from now on, and tells whoever watches. */
  report(status: Partial<ClusterStatus>, history: TrafficHistory = this.#history): void {
    this.#status = { ...this.#status, ...status };
    this.#history = history;
    for (const listener of this.#listeners) listener();
  }

  get listeners(): number {
    return this.#listeners.size;
  }

  status(): ClusterStatus {
    return this.#status;
  }

  history(): TrafficHistory {
    return this.#history;
  }

  map(): StorageMap {
    const { clusterId, version } = this.#status;
    return { clusterId, version, daemons: [], pools: [], blockedClients: [], blockedTickets: [] };
  }

  watch(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  why(pool: string, key: Buffer): WhyAnswer {
    this.pool(pool);
    return {
      pool,
      key: key.toString('latin1'),
      hash: '00000000000000ff',
      group: 3,
      epoch: 9,
      members: [],
      reasons: ['The hash of the key says group 3'],
    };
  }

  planRebalance(): Promise<ChangePlan> {
    return Promise.resolve(plan('All groups are placed anew'));
  }

  createPool(...change: Parameters<AdminService['createPool']>): Promise<ChangePlan> {
    return this.#change('createPool', change);
  }

  setPool(...change: Parameters<AdminService['setPool']>): Promise<ChangePlan> {
    return this.#change('setPool', change);
  }

  removePool(...change: Parameters<AdminService['removePool']>): Promise<ChangePlan> {
    return this.#change('removePool', change);
  }

  pool(name: string): PoolStatus {
    const pool = this.#status.pools.find((one) => one.name === name);
    if (pool === undefined) throw new StoreError('E_NOT_FOUND', `There is no pool '${name}'`);
    return pool;
  }

  groups(pool: string): readonly GroupStatus[] {
    return [this.group(pool, 0)];
  }

  group(pool: string, group: number): GroupStatus {
    this.pool(pool);
    return { pool, group, epoch: 1, state: 'ok', lostAt: 0, members: [], wanted: null };
  }

  acceptDataLoss(...change: Parameters<AdminService['acceptDataLoss']>): Promise<ChangePlan> {
    return this.#change('acceptDataLoss', change);
  }

  startScrub(...change: Parameters<AdminService['startScrub']>): Promise<ScrubReport> {
    this.changes.push(['startScrub', ...change]);
    return this.scrubs();
  }

  scrubs(): Promise<ScrubReport> {
    return Promise.resolve({ daemons: [], pools: {}, groupsOutOfReach: 0 });
  }

  setRecoveryRate(...change: Parameters<AdminService['setRecoveryRate']>): Promise<RateReport> {
    this.changes.push(['setRecoveryRate', ...change]);
    return Promise.resolve({ daemons: [] });
  }

  changeDaemon(...change: Parameters<AdminService['changeDaemon']>): Promise<ChangePlan> {
    return this.#change('changeDaemon', change);
  }

  removeDaemon(...change: Parameters<AdminService['removeDaemon']>): Promise<ChangePlan> {
    return this.#change('removeDaemon', change);
  }

  clients(): readonly ClientStatus[] {
    return [
      {
        name: 'vm-host',
        isAdmin: false,
        rights: { vms: 'rw' },
        created: '2026-01-01T00:00:00.000Z',
        rotated: null,
      },
    ];
  }

  createClient(...change: Parameters<AdminService['createClient']>): Promise<string> {
    if (change[0] === 'vm-host')
      return Promise.reject(new StoreError('E_EXISTS', "There is a client 'vm-host' already"));
    this.changes.push(['createClient', ...change]);
    return Promise.resolve('the new key');
  }

  setClient(...change: Parameters<AdminService['setClient']>): Promise<void> {
    this.changes.push(['setClient', ...change]);
    return Promise.resolve();
  }

  rotateClient(...change: Parameters<AdminService['rotateClient']>): Promise<string> {
    this.changes.push(['rotateClient', ...change]);
    return Promise.resolve('another key');
  }

  removeClient(...change: Parameters<AdminService['removeClient']>): Promise<void> {
    this.changes.push(['removeClient', ...change]);
    return Promise.resolve();
  }

  #change(name: string, change: readonly unknown[]): Promise<ChangePlan> {
    this.changes.push([name, ...change]);
    return Promise.resolve(plan(name));
  }
}

function plan(change: string): ChangePlan {
  return {
    change,
    copiesMoved: 4,
    bytesMoved: null,
    groupsChanged: 4,
    daemons: [],
    warnings: [],
  };
}
