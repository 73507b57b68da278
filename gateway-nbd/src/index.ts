export type * from './backend.js';
export { MemoryBackend, memoryCatalog } from './memory-backend.js';
export { NBD_PORT } from './protocol/constants.js';
export { SERVER_LIMITS, type ServerLimits } from './protocol/limits.js';
export { serveNbd, type NbdServer, type NbdServerOptions } from './server.js';
export { nbdUri } from './uri.js';
