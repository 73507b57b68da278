export { objectPoolSuite, type OpenedStore } from './pool/object-pool.suite.js';
export { PoolWrapper } from './pool/pool-wrapper.js';
export { PoolUser, codeOf } from './pool/pool-user.js';
export { decodeImageHeader, type ImageHeader } from './image/image-header.js';
export { dataRef } from './image/striping.js';
