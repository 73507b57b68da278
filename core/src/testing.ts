export { objectPoolSuite, type OpenedStore } from './pool/object-pool.suite.js';
export { reservePort } from './env/reserved-port.js';
export { PoolWrapper } from './pool/pool-wrapper.js';
export { PoolUser, codeOf } from './pool/pool-user.js';
export { decodeImageHeader, type ImageHeader } from './image/image-header.js';
export { dataRef } from './image/striping.js';
// The client of a cluster, in which the simulator plants bugs.
export { ConflictGate } from './client/conflict-gate.js';
export { ClusterPool } from './cluster/cluster-pool.js';
export { PoolRouter } from './cluster/pool-router.js';
export { HeaderStore, type HeaderDraft } from './image/header-store.js';
