export { objectPoolSuite, type OpenedStore } from './pool/object-pool.suite.js';
export { PoolUser, codeOf } from './pool/pool-user.js';
