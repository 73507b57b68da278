export { FileStore, openFileStore, type OpenOptions } from './store/file-store.js';
export type { EngineCounters } from './store/engine.js';
export type { StoreState } from './store/store-state.js';
export { checkFolder, type CheckOptions, type CheckReport } from './store/check.js';
export {
  DaemonServer,
  DAEMON_LIMITS,
  type DaemonServerOptions,
  type DaemonServerState,
} from './server/daemon-server.js';
export { LATENCY_BUCKETS_MS, type ServerCounters } from './server/counters.js';
export type { DoorOptions } from './server/door.js';
export type { ServedStore } from './server/open-pools.js';
export {
  ClusterMember,
  type ClusterMemberOptions,
  type MemberCopies,
  type MemberCounts,
  type MemberReplication,
  type MemberStore,
} from './cluster/cluster-member.js';
export { MembershipFiles } from './cluster/membership-files.js';
export { ScrubFile } from './cluster/scrub-file.js';
export {
  ClusteredStore,
  engineNameOf,
  type MapSource,
  type Replicate,
} from './cluster/clustered-store.js';
export { PeerLinks, type PeerLinksOptions } from './peers/peer-links.js';
export type { PeerSecurity } from './peers/secure-connection.js';
export {
  poolWork,
  replicationState,
  type PoolWork,
  type ReplicationState,
} from './replication/pool-work.js';
export { ReplicaNode } from './replication/replica-node.js';
export type { ReplicaPool } from './replication/replica-pool.js';
export type { PeerEvents, ReplicationPorts } from './replication/ports.js';
