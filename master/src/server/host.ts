/** What a guest needs of the master it is a guest of. Implemented by `Master`. */
import type {
  ControlMessage,
  DaemonRegistration,
  DaemonReport,
  Env,
  GroupRequest,
  JsonFields,
  StoreError,
  TlsContext,
} from '@store/core';
import type { ClientRecord, ClusterState } from '../cluster/cluster-state.js';
import type { Entrance, Guest, Principal } from './guest.js';
import type { DaemonConnection } from './roster.js';

export interface Host {
  readonly env: Env;
  readonly listenTls: TlsContext | null;
  readonly isLeader: boolean;
  /** @throws StoreError `E_NOT_LEADER` unless this master leads */
  readonly state: ClusterState;
  /** @throws StoreError `E_NOT_LEADER` */
  needLeader(): void;
  /** @throws StoreError `E_DENIED` if somebody must not speak like that: in the clear, from another machine */
  checkWay(entrance: Entrance, peer: string, isTls: boolean): void;
  /**
   * `leader`: where the leader is (empty: not known); null: it is this one.
   * @throws StoreError `E_NOT_LEADER` if it should lead, and cannot
   */
  facts(entrance: Entrance): { clusterId: Buffer; masterId: Buffer; leader: string | null };
  /** @throws StoreError `E_DENIED` if one needs a key here */
  withoutKey(peer: string, name: string): Principal;
  /** @throws StoreError `E_DENIED` */
  clientNamed(name: string): ClientRecord;
  encodedMap(): { version: number; bytes: Buffer };
  secretsFor(daemonId: number): JsonFields;
  ticketFor(principal: Principal, pool: string): JsonFields;
  administer(principal: Principal, fields: JsonFields): Promise<ControlMessage>;
  register(
    registration: DaemonRegistration,
    peer: string,
  ): Promise<{ daemonId: number; startId: string }>;
  daemonArrived(connection: DaemonConnection, guest: Guest): void;
  daemonLeft(connection: DaemonConnection, error: StoreError): void;
  reported(connection: DaemonConnection, report: DaemonReport, elapsedMs: number): Promise<void>;
  /** @returns the version of a map that has what was decided. @throws StoreError what `decideGroupRequest` says */
  decideGroup(connection: DaemonConnection, request: GroupRequest): Promise<number>;
  defect(error: unknown): void;
}
