/** What tests of other packages need from the daemon's own. */
export { ServedMemory } from './server/testing/served-memory.js';
export { Session } from './server/session.js';
export { TestAuthority } from './server/testing/test-authority.js';
export { MembershipFiles } from './cluster/membership-files.js';
export { BlockLocks, type BlockLock } from './store/block-locks.js';
// The replication and its parts: the simulator runs them, and plants bugs in them.
export * from './replication/change.js';
export { Flushes } from './replication/flushes.js';
export { GroupPrimary } from './replication/group-primary.js';
export { Group } from './replication/group.js';
export { GuardTable } from './replication/guard-table.js';
export { Join } from './replication/join.js';
export { Leases } from './replication/leases.js';
export { PeerQuestions } from './replication/peer-questions.js';
export { MemberStream } from './replication/member-stream.js';
export type * from './replication/peer-message.js';
export { firstNumber } from './replication/peer-message.js';
export type * from './replication/ports.js';
export { ReplicaNode, type ReplicationOptions } from './replication/replica-node.js';
export type * from './replication/replica-pool.js';
export { replicaPoolSuite } from './replication/replica-pool.suite.js';
export { ReplicatedPool } from './replication/replicated-pool.js';
export { Rounds } from './replication/rounds.js';
export type { ScrubTimes } from './replication/scrub.js';
export { REPLICATION_TIMING } from './replication/timing.js';
export { Uncommitted } from './replication/uncommitted.js';
