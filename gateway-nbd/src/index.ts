export type * from './access.js';
export type * from './backend.js';
export { catalogOfOne } from './catalog-of-one.js';
export { MemoryBackend, memoryCatalog } from './memory-backend.js';
export {
  NBD_FLAG,
  NBD_FLAG_C_FIXED_NEWSTYLE,
  NBD_FLAG_C_NO_ZEROES,
  NBD_FLAG_FIXED_NEWSTYLE,
  NBD_FLAG_NO_ZEROES,
  NBD_INFO,
  NBD_MAGIC,
  NBD_OPT,
  NBD_PORT,
  NBD_REP,
} from './protocol/constants.js';
export { SERVER_LIMITS, type ServerLimits } from './protocol/limits.js';
export { serveNbd, type NbdServer, type NbdServerEnv, type NbdServerOptions } from './server.js';
export { LATENCY_BOUNDS_MS, OperationStats, Stats, type OperationName } from './stats.js';
export type * from './server-state.js';
export { nbdUri } from './uri.js';
export { parseNbdUri, type NbdUri } from './uri-parser.js';
export {
  closeEstate,
  decodeSession,
  encodeSession,
  type Estate,
  type HandedSession,
} from './handover/estate.js';
export type { Inheritance } from './handover/inheritance.js';
