/**
 * What people can ask a master for, and have it do: one interface for the command line (over the protocol) and for HTTP.
 * Changes take `dryRun`: they answer with what they would move, and change nothing.
 */
import type {
  ChangePlan,
  ClientStatus,
  ClusterStatus,
  Durability,
  FailureDomain,
  GroupStatus,
  Membership,
  PoolStatus,
  RateReport,
  ScrubKind,
  ScrubReport,
  StorageMap,
  TrafficHistory,
  WhyAnswer,
} from '@store/core';
import type { AcceptedLoss } from '../cluster/accept-data-loss.js';

export interface PoolSettings {
  readonly replicas?: number;
  readonly minReplicas?: number;
  readonly failureDomain?: FailureDomain;
  readonly durability?: Durability;
}

export interface DaemonChange {
  readonly membership?: Membership;
  /** Null: by its capacity again. */
  readonly weight?: number | null;
}

export interface ClientRights {
  readonly isAdmin: boolean;
  /** By pool, `*` for all: `r`, `rw`, `rwa`. */
  readonly rights: Readonly<Record<string, string>>;
}

export interface AdminService {
  status(): ClusterStatus;
  history(): TrafficHistory;
  map(): StorageMap;
  /** Tells of anything that `status` shows, at most once in a second. @returns How to stop that */
  watch(listener: () => void): () => void;
  /** @throws StoreError `E_NOT_FOUND` */
  why(pool: string, key: Buffer): WhyAnswer;
  /** What would move if all groups were placed anew. */
  planRebalance(): Promise<ChangePlan>;
  createPool(
    name: string,
    settings: PoolSettings & { readonly groups?: number },
    dryRun: boolean,
  ): Promise<ChangePlan>;
  setPool(name: string, settings: PoolSettings, dryRun: boolean): Promise<ChangePlan>;
  removePool(name: string, dryRun: boolean): Promise<ChangePlan>;
  pool(name: string): PoolStatus;
  /** All groups of a pool. @throws StoreError `E_NOT_FOUND` */
  groups(pool: string): readonly GroupStatus[];
  /** @throws StoreError `E_NOT_FOUND` */
  group(pool: string, group: number): GroupStatus;
  /** The group goes on with a copy that is not in sync. @throws StoreError what `acceptDataLoss` says */
  acceptDataLoss(loss: AcceptedLoss, dryRun: boolean): Promise<ChangePlan>;
  changeDaemon(daemon: number, change: DaemonChange, dryRun: boolean): Promise<ChangePlan>;
  removeDaemon(daemon: number, dryRun: boolean): Promise<ChangePlan>;
  /**
   * Has the groups of a pool looked through, by the daemons that lead them. Not stored: who starts anew forgets it.
   * @param pool - Null: of all pools
   * @throws StoreError `E_NOT_FOUND`
   */
  startScrub(pool: string | null, kind: ScrubKind): Promise<ScrubReport>;
  /** How that stands. @param pool - Of which findings are told; null: of all. @throws StoreError `E_NOT_FOUND` */
  scrubs(pool: string | null): Promise<ScrubReport>;
  /** How fast copies are made equal from now on. @param bytesPerSecond - 0: by what clients feel */
  setRecoveryRate(bytesPerSecond: number): Promise<RateReport>;
  clients(): readonly ClientStatus[];
  /** @returns The text of the client's key file, which is shown this once. @throws StoreError `E_EXISTS`, `E_INVALID` */
  createClient(name: string, rights: ClientRights): Promise<string>;
  setClient(name: string, rights: ClientRights): Promise<void>;
  /** A new key; the old one and its tickets are worth nothing from now on. @returns The text of the key file */
  rotateClient(name: string): Promise<string>;
  removeClient(name: string): Promise<void>;
}
